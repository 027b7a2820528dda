"""Rules for programs that save what they have: an exit status tells it, whoever asked them to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.verdict import Verdict
from zwrap.host.beneath import AllowedDirectories
from zwrap.job import Outcome
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


# -- in several runs -------------------------------------------------------------------------------

FIRST = "echo 1 > part1; echo interrupted > error.txt; exit 85"
SECOND = "echo 2 > part2"


def attempt(working: Path, token: str, program: str, **changes: Any) -> tuple[list[str], set[str]]:
    """Run an attempt of a program that leaves its work in two parts; its failures, its results."""
    directory = working / ".zwrap" / token
    directory.mkdir(parents=True, exist_ok=True)
    given = {
        "command": ["/bin/sh", "-c", program],
        "checkpoint": SIGNAL,
        "success": {"files": ["part1", "part2"], "no_files": ["error.txt"]},
        "files": [{"pattern": "part*"}],
        **changes,
    }
    node = {"job_parameters": {"working_directory": str(working)},
            "output": {"result-all-files": 2}}  # fmt: skip
    recipe = Recipe({"start": [[1, 0]], "1": node, "2": {"queue": "told"}})
    step = ProgramStep(
        parse_definition(given, "here", "prog"), Envelope(recipe, 1),
        Heartbeat("prog", "prog", {}), attempt=directory,
    )  # fmt: skip
    ended = step.run(lambda _: contextlib.nullcontext())
    told: list[Any] = [message.message for message in ended.messages]
    names = {Path(name).name for each in told for name in each["payload"]["filelist"]}
    return ended.failures, names


@pytest.mark.parametrize("tokens", [["m-1", "m-2"], ["m-1", "m-1"], ["m-9", "m-10"]])
def test_results_of_work_that_goes_on_are_those_of_all_its_runs(
    tmp_path: Path, tokens: list[str]
) -> None:
    """In the next attempt, or in the same one, whose job was requeued."""
    (tmp_path / "part0").write_text("of other work")
    assert attempt(tmp_path, tokens[0], FIRST)[0]
    assert attempt(tmp_path, tokens[1], SECOND) == ([], {"part1", "part2"})


def test_work_goes_on_after_a_death_between(tmp_path: Path) -> None:
    assert attempt(tmp_path, "m-1", FIRST)[0]
    assert attempt(tmp_path, "m-2", "kill -9 $$")[0]
    assert attempt(tmp_path, "m-3", SECOND) == ([], {"part1", "part2"})


def test_an_error_is_one_of_the_last_run_alone(tmp_path: Path) -> None:
    assert attempt(tmp_path, "m-1", FIRST)[0]
    [failure] = attempt(tmp_path, "m-2", f"{SECOND}; echo mine > error.txt")[0]
    assert failure == "prog: it left error.txt, which ends with: mine"
    known = {"where": "error.txt", "pattern": "interrupted", "cause": "old", "says": "of part 1"}
    assert attempt(tmp_path, "n-1", FIRST, errors=[known])[0][0].startswith("prog: of part 1; ")
    [failure] = attempt(tmp_path, "n-2", "exit 1", errors=[known])[0]
    assert failure.startswith("prog: it exited with status 1")


@pytest.mark.parametrize("why", ["no checkpoint", "not saved", "success", "other message"])
def test_work_that_begins_anew_has_its_own_results_only(tmp_path: Path, why: str) -> None:
    changes = {"checkpoint": None} if why == "no checkpoint" else {}
    attempt(tmp_path, "m-1", FIRST.replace("85", "1" if why == "not saved" else "85"), **changes)
    if why == "success":
        assert attempt(tmp_path, "m-2", SECOND) == ([], {"part1", "part2"})
        verdict = Verdict(
            token="m-2", outcome=Outcome.SUCCESS, witness="wrapper", cause="", job_id="1",
            exit_status=0,
        )  # fmt: skip
        JobDirectory(tmp_path / ".zwrap" / "m-2").put_verdict(verdict)
    token = {"success": "m-3", "other message": "n-2"}.get(why, "m-2")
    [failure] = attempt(tmp_path, token, SECOND, **changes)[0]
    assert "it did not write part1 (only one from before this run is there)" in failure
