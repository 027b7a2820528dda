"""The mark of the one exclusive reader of a queue: a file in ``readers/`` under its owner's name.

Who wants the queue leaves its mark, and then looks for the marks of others: of two that do so at
the same time each sees the other one, and both leave again. A mark counts while its owner lives and
renews its lease, which those of claimed messages do, too (`zwrap.transport.spool.owner`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from zwrap.host.files import touch
from zwrap.transport.spool.directory import SpoolDirectory
from zwrap.transport.spool.owner import Owner

READERS = "readers"
"""Name of the directory with the marks; there is none in a queue without exclusive readers."""


class Alone:
    """The mark of this owner, if it has one.

    Args:
        queue: The queue.
        owner: This process as an owner of messages of the queue.
    """

    def __init__(self, queue: SpoolDirectory, owner: Owner) -> None:
        self._readers = queue.path / READERS
        self._owner = owner
        self._mark: Path | None = None

    def take(self) -> bool:
        """Become the exclusive reader; return False if another one lives.

        Raises OSError if the spool cannot be used now.
        """
        if self.holds():
            return True
        self._owner.keep_lease()
        self._owner.make(self._readers)
        self._mark = self._readers / self._owner.name
        touch(self._mark)
        if any(self._others()):
            self.leave()
            return False
        return True

    def _others(self) -> Iterator[str]:
        """Yield the names of other owners that live; remove the marks of those that do not."""
        for name in os.listdir(self._readers):
            if name.startswith(".") or self._mark is None or name == self._mark.name:
                continue
            if self._owner.is_live(name):
                yield name
            else:
                with contextlib.suppress(FileNotFoundError):
                    (self._readers / name).unlink()

    def holds(self) -> bool:
        """Return whether this owner is the exclusive reader; another one removes its mark."""
        return self._mark is not None and os.path.lexists(self._mark)

    def leave(self) -> None:
        """Let others read the queue."""
        mark, self._mark = self._mark, None
        if mark is not None:
            with contextlib.suppress(OSError):  # it is over when this process has ended
                mark.unlink()
