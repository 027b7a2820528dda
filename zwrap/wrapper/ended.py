"""How the run of a program, or of a wrapper written in Python, ended."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from zwrap.message import Outgoing


class Facts(TypedDict, total=False):
    """A run in numbers, for the error nodes of the recipe; empty when nothing ran."""

    exit_status: int
    elapsed_s: float
    leftover_processes: int
    stderr_tail: list[str]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run: of its process first, then with what was judged of it."""

    returncode: int
    """Exit status, or minus the number of the signal that killed the program."""
    elapsed_s: float = 0.0
    """Run time in seconds."""
    timed_out: bool = False
    """True if it was ended because its time limit was reached."""
    stopped_by: str | None = None
    """Name of the signal, or what else of zwrap, on which it was stopped."""
    saved: bool = False
    """True if it was asked to save before it was ended, and did, as far as can be told."""
    leftovers: int = 0
    """Number of processes that the program left behind, which were ended."""
    failures: list[str] = []
    """Sentences that say why the step failed; empty for a success."""
    messages: list[Outgoing] = []
    """Messages of its results."""
    facts: Facts = {}
    remaining_s: float | None = None
    """Rest of the program's own time limit, in seconds; None: it has none."""

    @property
    def exit_status(self) -> int:
        """The status that a shell would report: 128 + signal for a killed program."""
        return 128 - self.returncode if self.returncode < 0 else self.returncode

    @property
    def wrapper_status(self) -> int:
        """Exit status of the wrapper: 0 for a success, else the program's, and never 0."""
        return (self.exit_status or 1) if self.failures else 0
