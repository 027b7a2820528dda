"""Directories that can be used like spool queues: dead letters, and drop files."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from pathlib import Path

from zwrap.host.faults import is_shared
from zwrap.host.files import UnfitFileError, read_regular
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.content import read_reason
from zwrap.transport.spool.directory import RELAYED_BYTES, Places
from zwrap.transport.spool.files import REASON_SUFFIX, letters
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)


class DeadLetters(SpoolQueue):
    """The dead letters of a queue as a queue; a message that is given back stays a dead letter."""

    places = Places(incoming="errors", pending="errors/.pending", tmp="tmp", errors="errors")
    counts = False

    @classmethod
    def count_in(cls, path: Path) -> int:
        """Return the number of dead letters of the queue in a directory; change none.

        Those count that a process has taken and not settled yet: it may be dead, and whoever
        subscribes to the dead letters gets them back.
        """
        taken = sum(1 for _ in path.glob(f"{cls.places.pending}/*/[!.]*"))
        return len(cls.letters_in(path)) + taken

    def _names(self) -> list[str]:
        """Return the names of the dead letters, without those of their reasons."""
        return letters(super()._names())

    def _read(self, claimed: Claimed) -> Claimed:
        """Read the file of a dead letter; note in it why that is not possible."""
        try:
            claimed.content = read_regular(claimed.path, RELAYED_BYTES)
        except UnfitFileError as error:
            claimed.unfit = str(error)
        except OSError as error:
            if is_shared(error):
                self.release(claimed)
                raise
            claimed.unfit = f"It cannot be read: {error.strerror}."
        return claimed

    def reason(self, claimed: Claimed) -> str:
        """Return the reason of a dead letter; empty without one."""
        return read_reason(self._reason_file(claimed)).strip()

    def ack(self, claimed: Claimed) -> None:
        """Remove the message and its reason.

        What was never read is kept in ``errors/.aside``: a directory, and a file that is too large.
        """
        mode = os.lstat(claimed.path).st_mode
        if claimed.unfit and (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            aside = self._errors / ".aside" / f"{time.time_ns()}"
            self._make(aside)
            os.rename(claimed.path, aside / claimed.base)
            log.warning("%s was not read, and is kept in %s", claimed.base, aside)
        else:
            super().ack(claimed)
        with contextlib.suppress(OSError):
            self._reason_file(claimed).unlink()

    def release(self, claimed: Claimed, *, counted: bool = True, delay_s: float = 0.0) -> None:
        """Put the message back among the dead letters; nothing is counted or delayed there."""
        del counted, delay_s
        super().release(claimed, counted=False)

    def _reason_file(self, claimed: Claimed) -> Path:
        """Return the path of the reason of a dead letter."""
        return self._errors / f"{claimed.base}{REASON_SUFFIX}"


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
            files = [entry for entry in entries if entry.name[:1] != "." and _may_be_drop(entry)]
            return [entry.name for entry in sorted(files, key=_age)]


def _may_be_drop(entry: os.DirEntry[str]) -> bool:
    """Return True for a file, and for a link, which becomes a dead letter; others are left."""
    return entry.is_file(follow_symlinks=False) or entry.is_symlink()


def _age(entry: os.DirEntry[str]) -> tuple[float, str]:
    """Return the key by which files are sorted: time of the last change, then name."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime, entry.name
    except OSError:
        return 0.0, entry.name


def held(path: Path) -> int:
    """Return the number of messages in a queue's directory, waiting or claimed; change nothing."""
    places = SpoolQueue.places
    waiting, claimed = f"{places.incoming}/[!.]*", f"{places.pending}/*/[!.]*"
    return sum(1 for pattern in (waiting, claimed) for _ in path.glob(pattern))
