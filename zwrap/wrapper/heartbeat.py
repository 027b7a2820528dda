"""What a heartbeat says: how far the step is, what it uses, and the end of its log."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Protocol

from zwrap import __version__
from zwrap.host.processes import host_id
from zwrap.message import Status as Status
from zwrap.program.definition import Progress
from zwrap.wrapper.process import Usage

TAIL_LINES = 5
TAIL_BYTES = 1000
USAGE_AFTER_S = 2.5
"""A program that ends before is not measured; loading the measuring code would cost more."""


class StatusLike(Protocol):
    """A status of ours, or of python-workflows."""

    @property
    def intval(self) -> int:
        """The code."""

    @property
    def description(self) -> str:
        """The text."""


class Heartbeat:
    """The status message of one wrapper; read from the courier's thread."""

    def __init__(self, task: str, program: str, fields: dict[str, Any]) -> None:
        self.status: StatusLike = Status.STARTING
        self.task = task
        self.fields = fields
        """Further fields of the message."""
        self.pid: int | None = None
        self.log: Path | None = None
        self.progress: Progress | None = None
        self._read: str | None = None
        """The progress that was read last; its line may have left the tail since."""
        self.usage = Usage()
        self._program = program
        self._began = time.monotonic()

    def body(self) -> dict[str, Any]:
        """The fields of python-zocalo's status message, and those of zwrap."""
        elapsed_s = time.monotonic() - self._began
        body: dict[str, Any] = {
            "host": host_id(),
            "task": self.task,
            "workflows": __version__,
            "zocalo": __version__,
            "zwrap": __version__,
            "status": self.status.intval,
            "statustext": self.status.description,
            **self.fields,
            "program": self._program,
            "elapsed_s": round(elapsed_s, 1),
        }
        if self.pid and elapsed_s > USAGE_AFTER_S:
            body.update(self.usage.measure(self.pid))
        if self.log:
            lines = tail(self.log)
            body["tail"] = lines
            self._read = read_progress(self.progress, lines) or self._read
            if self._read:
                body["progress"] = self._read
        return body


def tail(file: Path) -> list[str]:
    """The last lines of a file, at most `TAIL_LINES` and `TAIL_BYTES`."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = re.split(r"[\r\n]+", text)
    return [line for line in lines if line.strip()][-TAIL_LINES:]


def read_progress(progress: Progress | None, lines: list[str]) -> str | None:
    """Groups of the last match of the definition's progress pattern."""
    if progress is None:
        return None
    matches = list(re.finditer(progress.pattern, "\n".join(lines), re.MULTILINE))
    return "/".join(filter(None, matches[-1].groups())) or matches[-1][0] if matches else None
