"""A file with the ids of final messages that were sent, while others of the same verdict wait."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from zwrap.errors import PermanentError
from zwrap.host.files import append_regular, read_regular, write_atomically
from zwrap.message.jsontext import decode, encode, typed

log = logging.getLogger(__name__)

FILE_BYTES = 300 << 20
"""Largest size of such a file that is read, in bytes: as large as a verdict may be."""


class Progress:
    """The ids of the messages of one verdict that were sent so far, in a file.

    Each line is a JSON list of ids. A process replaces the file once, then appends to it, so that
    many portions do not write it again and again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: set[str] = set()
        self._is_mine = False
        """True if this process has written the file."""

    def ids(self) -> set[str]:
        """Return the ids in the file; none if there is no such file, or it cannot be read."""
        with contextlib.suppress(OSError, PermanentError):
            for line in read_regular(self._file, FILE_BYTES).split(b"\n"):
                # The last line of a writer that was killed, or met a full disk, may be cut.
                with contextlib.suppress(PermanentError, msgspec.ValidationError):
                    self._kept |= set(typed(decode(line, "line"), list[str]))
        return set(self._kept)

    def add(self, ids: AbstractSet[str]) -> None:
        """Add ids to the file; a disk that is full is no error."""
        if not (new := ids - self._kept):
            return
        self._kept |= new
        try:
            if self._is_mine:
                append_regular(self._file, b"\n" + encode(sorted(new)))
            else:  # what another user wrote can be replaced only
                self._is_mine = True
                write_atomically(self._file, encode(sorted(self._kept)), durable=False)
        except (OSError, PermanentError) as error:
            log.debug("%s cannot be written: %s", self._file, error)

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self._kept.clear()
        self._is_mine = False
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
