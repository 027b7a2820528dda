"""The end of the run of a program, or of a wrapper written in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec

from zwrap.message.content import Outgoing

if TYPE_CHECKING:  # what few runs have
    from zwrap.program.causes.corrections import Route
    from zwrap.program.causes.recognition import Recognized


class Facts(TypedDict, total=False):
    """Facts about a run, for the error nodes of the recipe; empty if nothing ran."""

    exit_status: int
    elapsed_s: float
    leftover_processes: int
    stderr_tail: list[str]
    failed_commands: list[str]
    """Failures of commands that are not required, as sentences."""
    cause_label: str
    """Label of the known error that explains the failure."""
    remedy: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run: first only that of its process, then also the judgement of the run."""

    returncode: int
    """Exit status, or minus the number of the signal that killed the program."""
    elapsed_s: float = 0.0
    """Run time, in seconds."""
    timed_out: bool = False
    """True if the program was ended because its time limit was reached."""
    stopped_by: str | None = None
    """Name of the signal, or of the part of zwrap, that stopped the program; None: it was not
    stopped."""
    saved: bool = False
    """True if the program was asked to save its state before its end, and apparently did."""
    leftovers: int = 0
    """Number of processes that the program left behind, which were ended."""
    failures: list[str] = []
    """Reasons why the step failed, as sentences; empty for a success."""
    messages: list[Outgoing] = []
    """Messages with the results."""
    facts: Facts = {}
    known: Recognized | None = None
    """Known error that explains the failure; None: none does."""
    changes: dict[Route, object] = {}
    """Values that correct the known error, by their places below `job_parameters`."""
    remaining_s: float | None = None
    """Remainder of the program's own time limit, in seconds; None: it has no limit."""

    def with_remedy(self, cause: str) -> str:
        """Return a cause with the remedy of the known error, if there is one, at its end."""
        remedy = self.known.remedy if self.known else ""
        return f"{cause.rstrip('.')}. {remedy}" if remedy else cause

    @property
    def exit_status(self) -> int:
        """Status that a shell would report: 128 + signal for a killed program."""
        return 128 - self.returncode if self.returncode < 0 else self.returncode

    @property
    def wrapper_status(self) -> int:
        """Exit status of the wrapper: 0 for a success, else the program's, or 1 if that is 0."""
        return (self.exit_status or 1) if self.failures else 0
