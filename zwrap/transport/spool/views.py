"""Directories that can be used like spool queues: dead letters, and drop files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.directory import Places
from zwrap.transport.spool.files import REASON_SUFFIX
from zwrap.transport.spool.queue import SpoolQueue


class DeadLetters(SpoolQueue):
    """The dead letters of a queue as a queue; a message that is given back stays a dead letter."""

    places = Places(incoming="errors", pending="errors/.pending", tmp="tmp", errors="errors")

    def _names(self) -> list[str]:
        """Return the names of the dead letters, without those of their reasons."""
        return sorted(name for name in super()._names() if not name.endswith(REASON_SUFFIX))

    def reason(self, claimed: Claimed) -> str:
        """Return the reason of a dead letter; empty without one."""
        try:
            return self._reason_file(claimed).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def ack(self, claimed: Claimed) -> None:
        """Remove the message and its reason."""
        super().ack(claimed)
        self._reason_file(claimed).unlink(missing_ok=True)

    def release(self, claimed: Claimed, *, counted: bool = True, delay_s: float = 0.0) -> None:
        """Put the message back among the dead letters; nothing is counted or delayed there."""
        del counted, delay_s
        super().release(claimed, counted=False)

    def _reason_file(self, claimed: Claimed) -> Path:
        """Return the path of the reason of a dead letter."""
        return self.path / "errors" / f"{claimed.base}{REASON_SUFFIX}"


class DropFiles(SpoolQueue):
    """Requests in one flat directory, oldest first: a Zocalo fallback location.

    python-zocalo writes its drop files there, too, under random names and not atomically.
    """

    places = Places(incoming=".", pending=".pending", tmp=".tmp", errors="errors")

    def names(self) -> list[str]:
        """Return the names of the waiting files, oldest first."""
        return self._names()

    def close(self) -> None:
        """Remove all empty directories of the queue, as python-zocalo's own tools expect."""
        super().close()
        for name in self.places[1:]:
            with contextlib.suppress(OSError):  # a directory that is not empty stays
                (self.path / name).rmdir()

    def _names(self) -> list[str]:
        """Return the names of the waiting files, oldest first."""
        with os.scandir(self._incoming) as entries:
            files = [entry for entry in entries if entry.name[:1] != "." and entry.is_file()]
            return [entry.name for entry in sorted(files, key=_age)]


def _age(entry: os.DirEntry[str]) -> tuple[float, str]:
    """Return the key by which files are sorted: time of the last change, then name."""
    try:
        return entry.stat().st_mtime, entry.name
    except FileNotFoundError:
        return 0.0, entry.name


def held(path: Path) -> int:
    """Return the number of messages in a queue's directory, waiting or claimed; change nothing."""
    places = SpoolQueue.places
    waiting, claimed = f"{places.incoming}/[!.]*", f"{places.pending}/*/[!.]*"
    return sum(1 for pattern in (waiting, claimed) for _ in path.glob(pattern))
