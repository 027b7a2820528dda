"""The end of the commands of a step, and the judgement on each."""

from __future__ import annotations

import msgspec

from zwrap.program.definition import Definition
from zwrap.program.run import Run
from zwrap.wrapper.ended import Ended


class Judged(msgspec.Struct, frozen=True):
    """The judgement on one command."""

    label: str
    """The command, if there are several."""
    rules: Definition
    """Definition with its rules of success."""
    run: Run
    required: bool
    """False if the step can be a success though the command fails."""


class ChainEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the commands of a step."""

    ended: Ended
    """End of the required command that ran last, with the times of all."""
    run: Run
    """Run of that command."""
    failures: list[str] = []
    """Reasons why a required command failed; empty: none did."""
    label: str = ""
    """That command, if there are several."""
    interrupted: bool = False
    """True if one of them is a signal, or a time limit."""
    stops: bool = False
    """True if that is one of the whole step, so that no further command starts."""
