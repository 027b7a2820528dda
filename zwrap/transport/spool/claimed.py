"""A message file that this process has claimed."""

from __future__ import annotations

import os

from zwrap.transport.spool.files import OWN_SUFFIX, Name


class Claimed:
    """A claimed message, which this process owns."""

    __slots__ = ("content", "name", "path")

    def __init__(self, path: str, name: str, content: bytes) -> None:
        self.path = path
        self.name = name
        self.content = content

    @property
    def delivery_count(self) -> int:
        """Number of claims of the message so far, this one included."""
        return Name.parse(self.name).delivery_count

    @property
    def base(self) -> str:
        """Part of the file name that never changes."""
        return Name.parse(self.name).base

    @property
    def sent_at(self) -> float | None:
        """Time of sending, in seconds since the epoch; None if it is not known."""
        if not self.is_foreign:
            return int(self.name[:19]) / 1e9 if self.name[:19].isdecimal() else None
        try:
            return os.stat(self.path).st_mtime
        except OSError:
            return None

    @property
    def is_foreign(self) -> bool:
        """True if a foreign filer producer wrote the file: a bare message without headers."""
        return not self.base.endswith(OWN_SUFFIX)


def read_file(path: str) -> bytes:
    """Return the content of a file; fast for small files, which most are."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, 65536)
        if len(data) < 65536:
            return data
        pieces = [data]
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
