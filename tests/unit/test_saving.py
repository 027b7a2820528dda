"""Rules for programs that save what they have: an exit status tells it, whoever asked them to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from zwrap.host.beneath import AllowedDirectories
from zwrap.program.reading import parse_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.step import ProgramStep

SIGNAL = {"signal": "USR1", "exit_status": [85]}
COMMAND = {"command": ["true"], "exit_status": [85]}


@pytest.mark.parametrize(
    ("checkpoint", "program", "saved"),
    [
        (SIGNAL, "exit 85", True),
        (SIGNAL, "exit 1", False),
        (SIGNAL, "trap 'exit 85' TERM; sleep 60 & wait", False),
        ({"signal": "USR1"}, "exit 85", False),
        (COMMAND, "exit 85", False),
        (None, "exit 85", False),
    ],
)
def test_an_exit_status_tells_that_a_program_has_saved(
    tmp_path: Path, checkpoint: dict[str, Any] | None, program: str, saved: bool
) -> None:
    """The time limit of a program is no wish that it saves."""
    given = {"command": ["/bin/sh", "-c", program], "limits": {"time": 1}}
    if checkpoint:
        given["checkpoint"] = checkpoint
    node = {"job_parameters": {"working_directory": str(tmp_path)}}
    envelope = Envelope(Recipe({"start": [[1, 0]], "1": node}), 1)
    step = ProgramStep(
        parse_definition(given, "here", "prog"), envelope, Heartbeat("prog", "prog", {}),
        AllowedDirectories(),
    )  # fmt: skip
    assert step.run(lambda _: contextlib.nullcontext()).saved is saved
