"""The content of a heartbeat: progress, resource usage, and the end of the program's log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zwrap import __version__
from zwrap.calls.pod import pod_fields
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import host_id
from zwrap.message.content import Status as Status
from zwrap.program.keys.progress import Progress
from zwrap.wrapper.usage import Usage

if TYPE_CHECKING:
    from zwrap.wrapper.progress import ProgressReader

TAIL_LINES = 5
"""Largest number of lines of the log in a heartbeat."""

TAIL_BYTES = 1000
"""Size of the end of the log that is read, in bytes."""

USAGE_AFTER_S = 2.5
"""Run time after which CPU time and memory are measured, and Kubernetes is asked for the pod, in
seconds; loading the code for it takes too long for shorter programs."""


class StatusLike(Protocol):
    """A status of zwrap or of python-workflows."""

    @property
    def intval(self) -> int:
        """Code of the status in messages."""

    @property
    def description(self) -> str:
        """Text of the status in messages."""


class Heartbeat:
    """The status message of one wrapper, which the outbox's thread reads."""

    def __init__(
        self, task: str, program: str, fields: Mapping[str, object], *, clock: Clock = elapsed
    ) -> None:
        """Begin to count the run time.

        Args:
            task: Name of the task in monitors.
            program: Name of the wrapper.
            fields: Further fields of the message.
            clock: Clock for the run time, in seconds.
        """
        self.status: StatusLike = Status.STARTING
        self.task = task
        self.fields = dict(fields)
        """Further fields of the message."""
        self.pid: int | None = None
        """Process id of the program while it runs; usage includes that of its descendants."""
        self.log: Path | None = None
        """File whose end is in the message."""
        self.allowed = ANYWHERE
        """Directories below which `log` must be."""
        self.command = ""
        """Which of several commands runs, for people; empty: there is only one."""
        self.usage = Usage()
        self._progress: ProgressReader | None = None
        self._program = program
        self._clock = clock
        self._began = clock()

    def follow(
        self,
        progress: Progress | None,
        stdout: Path,
        stderr: Path,
        directory: Path,
        allowed: AllowedDirectories = ANYWHERE,
    ) -> None:
        """Show the end of the log of a program, which begins now, and its progress.

        Args:
            progress: Rule that finds the progress; None: there is none.
            stdout: File of standard output, whose end is shown.
            stderr: File of standard error.
            directory: Directory of the run.
            allowed: Directories below which files may be read.
        """
        reader = None
        if progress is not None:
            from zwrap.wrapper.output import Output  # a program without progress needs neither
            from zwrap.wrapper.progress import ProgressReader

            streams = {"stdout": stdout, "stderr": stderr}
            reader = ProgressReader(progress, Output(progress.file, directory, streams, allowed))
        self.log, self.allowed, self._progress = stdout, allowed, reader

    def body(self) -> dict[str, object]:
        """Return the fields of python-zocalo's status message, and those of zwrap.

        `elapsed_s` and `cpu_s` are in seconds, `memory_mib` is the resident memory in MiB; fields
        of the progress are those of `zwrap.wrapper.progress.ProgressReader.fields`.
        """
        elapsed_s = self._clock() - self._began
        body: dict[str, object] = {
            "host": host_id(),
            "task": self.task,
            "workflows": __version__,
            "zocalo": __version__,
            "zwrap": __version__,
            "status": self.status.intval,
            "statustext": self._status_text(),
            **self.fields,
            "program": self._program,
            "elapsed_s": round(elapsed_s, 1),
        }
        if elapsed_s > USAGE_AFTER_S:
            body.update(pod_fields())
            if self.pid:
                body.update(self.usage.measure(self.pid))
        if self.log:
            body["tail"] = self.allowed.last_lines(self.log, TAIL_LINES, TAIL_BYTES)
        if self._progress:
            body.update(self._progress.fields())
        return body

    def _status_text(self) -> str:
        """Return the text of the status, with the command that runs if there are several."""
        runs = f", {self.command}" if self.pid and self.command else ""
        return f"{self.status.description}{runs}"
