"""The dead letters of a spool queue, and the half of it that puts messages aside."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from zwrap.host.printable import printable_reason
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.content import read_reason
from zwrap.transport.spool.directory import SpoolDirectory
from zwrap.transport.spool.files import REASON_SUFFIX, letters

log = logging.getLogger(__name__)


class SpoolAside(SpoolDirectory):
    """The directories of a queue, as those use them who put messages aside in ``errors``."""

    def dead_letter(self, claimed: Claimed, reason: str) -> None:
        """Move a claimed message to ``errors``, after its reason; never over an older one.

        Its name loses delivery count and delay, so that a message that is put back starts anew.
        """
        target = self._free_name(claimed.base)
        try:
            self._write_reason(target, reason)
        except OSError:  # a full disk must not keep a bad message in the way
            log.error("The reason of dead letter %s could not be written: %s", target, reason)
            if target.endswith(REASON_SUFFIX):  # it is known as a letter by its reason only
                target += "~"
        try:
            os.rename(claimed.path, target)
        except FileNotFoundError:
            if os.path.lexists(claimed.path):  # it is still ours, but `errors` was removed
                self._make(self._errors)
                os.rename(claimed.path, target)

    def put_dead_letter(self, content: bytes, reason: str) -> Path:
        """Add a message that was never in the queue to ``errors``; return its file.

        Raises:
            OSError: The message cannot be written.
        """
        name = self._new_name(0, 0)
        target = self._free_name(name)
        self._write(self._tmp + name, content)
        self._write_reason(target, reason)
        os.rename(self._tmp + name, target)
        return Path(target)

    def _free_name(self, base: str) -> str:
        """Return a path in ``errors`` that no file has yet, and that is nobody's reason."""
        target = f"{self._errors}/{base}"
        for number in itertools.count(2):
            taken = (target, target + REASON_SUFFIX, target.removesuffix(REASON_SUFFIX))
            if not any(map(os.path.lexists, taken)):
                break
            target = f"{self._errors}/{number}-{base}"
        return target

    def _write_reason(self, target: str, reason: str) -> None:
        """Write the reason of a dead letter beside it."""
        scratch = self._scratch()
        self._write(scratch, printable_reason(reason.rstrip()).encode() + b"\n")
        os.rename(scratch, target + REASON_SUFFIX)

    def dead_letters(self) -> Iterator[tuple[Path, str]]:
        """Yield the file and the reason of each dead letter, oldest first."""
        return self.dead_letters_in(self.path)

    @classmethod
    def dead_letters_in(cls, path: Path) -> Iterator[tuple[Path, str]]:
        """Yield the same as `dead_letters` for the directory of any queue, without changing it."""
        for file in cls.letters_in(path):
            reason = read_reason(file.with_name(file.name + REASON_SUFFIX))
            yield file, reason or "no reason was given\n"

    @classmethod
    def letters_in(cls, path: Path) -> list[Path]:
        """Return the files of the dead letters of any queue; none of one that cannot be read."""
        place = path / cls.places.errors
        try:
            return [place / name for name in letters(os.listdir(place))]
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("%s cannot be read: %s", place, error.strerror)
            return []
