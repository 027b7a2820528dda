"""What a running program writes: the end of the file in which its progress is searched for."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.host.files import UnfitFileError, open_regular

PORTION_BYTES = 64 * 1024
"""Size of the end of a file that is read at once, in bytes; what was written before it since the
last reading is left out."""

AGAIN_BYTES = 2048
"""Size of what is read a second time, in bytes, so that lines that belong together stay so."""

MOST_FILES = 10_000
"""Largest number of files that match a pattern; further ones are not looked at."""

WHERE = "A file of the run"
"""Begin of a sentence about a file, which nobody reads."""


class Portion(NamedTuple):
    """The end of a file, in which a carriage return is a line break, too."""

    text: str
    known: int
    """Length of what earlier portions had as whole lines, at the beginning, in characters."""
    whole: int
    """Length of what is not half of a line, in characters."""


NONE = Portion("", 0, 0)
"""The portion of a program that has written no further text."""


class Mark(NamedTuple):
    """A file as it was found; with another mark it was written to."""

    inode: int
    size: int
    """Size in bytes."""
    modified_ns: int


class Reading(NamedTuple):
    """A file as it was read."""

    mark: Mark
    whole: int
    """Size up to the end of the last whole line, in bytes."""
    is_over: bool
    """True if what follows that line was handed out as a line, too."""


class Output:
    """The file that a program writes its progress to, made before the program begins.

    Args:
        wanted: A key of `streams`, or a pattern of files, as of `Path.glob`.
        directory: Directory of the run, below which the files are.
        streams: Files of the standard streams, by name.
        allowed: Directories below which files may be read.
    """

    def __init__(
        self,
        wanted: str,
        directory: Path,
        streams: Mapping[str, Path],
        allowed: AllowedDirectories = ANYWHERE,
    ) -> None:
        self._wanted, self._directory, self._allowed = wanted, directory, allowed
        self._stream = streams.get(wanted)
        self._before = {} if self._stream else dict(self._matching())
        """Files that another program may have written, and how they were."""
        self._read: dict[Path, Reading] = {}

    def portion(self) -> Portion:
        """Return the end of the file that was written to last, with what was added to it.

        It is empty if no file was written to since the last call, or none can be read. A last line
        without an end, such as a progress bar, is whole if nothing was added to it since.
        """
        with contextlib.suppress(OSError, OutsideError, UnfitFileError, ValueError):
            file = self._stream or self._newest()
            if file is not None:
                with self._allowed.reading(file, WHERE) as place:
                    return self._portion(file, place)
        return NONE

    def _newest(self) -> Path | None:
        """Return the file of this run that was written to last; None: there is none."""
        written = [
            (mark.modified_ns, file)
            for file, mark in self._matching()
            if mark != self._before.get(file)
        ]
        return max(written)[1] if written else None

    def _matching(self) -> Iterator[tuple[Path, Mark]]:
        """Yield the files that match the pattern; an error of the file server ends the search."""
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            for file in itertools.islice(self._directory.glob(self._wanted), MOST_FILES):
                with contextlib.suppress(OSError):
                    status = file.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield file, _mark(status)

    def _portion(self, file: Path, place: Path) -> Portion:
        """Return the end of a file, which `place` stands for."""
        descriptor, _ = open_regular(place, follow=True)
        try:
            mark = _mark(os.fstat(descriptor))
            last = self._read.get(file)
            is_over = last is not None and last.mark == mark
            if last and is_over and (last.is_over or last.whole == mark.size):
                return NONE
            first = _kept(mark, self._before.get(file))
            if not first:
                self._before.pop(file, None)
            known = last.whole if last and _kept(mark, last.mark) else first
            begin = max(first, known - AGAIN_BYTES, mark.size - PORTION_BYTES)
            data = os.pread(descriptor, mark.size - begin, begin)
        finally:
            os.close(descriptor)
        if begin > first:
            data, begin = _from_line(data, begin)
        whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._read[file] = Reading(mark, begin + whole, is_over)
        earlier = max(0, known - begin)
        text = _text(data)
        end = len(text) if is_over else len(_text(data[:whole]))
        return Portion(text, len(_text(data[:earlier])), end)


def _mark(status: os.stat_result) -> Mark:
    """Return the mark of a file."""
    return Mark(status.st_ino, status.st_size, status.st_mtime_ns)


def _kept(mark: Mark, before: Mark | None) -> int:
    """Return the size that a file had before, in bytes; 0 if it was replaced since, or emptied."""
    is_same = before is not None and before.inode == mark.inode and before.size <= mark.size
    return before.size if before is not None and is_same else 0


def _from_line(data: bytes, begin: int) -> tuple[bytes, int]:
    """Return data from the begin of its first line, and where that is; all if there is none."""
    breaks = [place for place in (data.find(b"\n"), data.find(b"\r")) if place >= 0]
    cut = min(breaks) + 1 if breaks else 0
    return data[cut:], begin + cut


def _text(data: bytes) -> str:
    """Return text with line breaks of one kind."""
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
