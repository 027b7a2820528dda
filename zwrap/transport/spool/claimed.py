"""A message file that this process has claimed."""

from __future__ import annotations

import os

from zwrap.transport.spool.files import Name, shortened

LATEST_S = 253_402_300_799.0
"""Latest time that is believed of a file, in seconds since the epoch: the end of year 9999."""


class Claimed:
    """A claimed message, which this process owns."""

    __slots__ = ("base", "content", "name", "parts", "path", "unfit")

    def __init__(self, path: str, name: str, content: bytes) -> None:
        self.path = path
        self.name = name
        self.parts = Name.parse(name)
        self.base = shortened(self.parts.base)
        """Part of the file name that never changes; a long one is shortened."""
        self.content = content
        self.unfit = ""
        """Reason why the file of a dead letter was not read; empty: it was."""

    @property
    def delivery_count(self) -> int:
        """Number of claims of the message so far, this one included."""
        return self.parts.delivery_count

    @property
    def sent_at(self) -> float | None:
        """Time of sending, in seconds since the epoch; None if it is not known."""
        if not self.is_foreign:
            return int(self.name[:19]) / 1e9 if self.name[:19].isdecimal() else None
        try:
            changed = os.lstat(self.path).st_mtime
        except OSError:
            return None
        return changed if 0 <= changed <= LATEST_S else None

    @property
    def is_foreign(self) -> bool:
        """True if a foreign filer producer wrote the file: a bare message without headers."""
        return not self.parts.is_own
