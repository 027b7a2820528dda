"""Run of a program, as it is judged: its files, and which of them it wrote."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.host.files import UnfitFileError, open_regular
from zwrap.program.listing import NOT_LISTED, Listing, matching, name_in

T = TypeVar("T")

SEARCHED_BYTES = 16 * 1024 * 1024
"""Size of the beginning, and of the end, of a file that text rules search, in bytes."""

QUOTED_CHARACTERS = 300
"""Length of the longest quotation from a program, in characters."""

QUOTED_BYTES = 2000
"""Size of the end of a file in which its last line is sought, in bytes."""

HELP_BYTES = 16 * 1024
"""Size of the end of a program's output in which a help text is sought, in bytes."""

HELP_LINES = 400
"""Number of lines in which it is sought."""

_USAGE = r"\s*usage:"
"""Beginning of a help text."""

_HINT = r"\s*(try|see|use|run)\b.*\s['\"`]?(--?help|-h)\b"
"""Line that says how to get a help text."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a program: its directory, its begin and its exit status.

    Patterns are those of `Path.glob`, below `directory` unless they are absolute.
    """

    directory: Path
    """Directory in which the program ran."""
    stdout: Path
    stderr: Path
    began: float
    """Time just before the program began, by the filesystem, in seconds since the epoch."""
    exit_status: int
    """Exit status, or minus the number of the signal that killed the program."""
    allowed: AllowedDirectories = ANYWHERE
    """Directories out of which no file of the run may lead."""
    before: Listing = NOT_LISTED
    """Files that were there before the program began."""
    first: Listing | None = None
    """Files that were there before the first of the runs from whose saved state this one went on;
    None: it began anew."""
    memory: dict[tuple[object, ...], object] | None = None
    """What was found out before of a run that has ended, or of several that are judged together
    then; None: files may still change."""

    @property
    def alone(self) -> Run:
        """This run without those that it went on from: their errors are not its own."""
        return msgspec.structs.replace(self, first=None)

    def fresh(self, pattern: str) -> list[Path]:
        """Return the files matching a pattern that this run wrote, sorted by name.

        What the runs wrote from whose saved state it went on counts as well.
        """
        return self.once(
            ("fresh", pattern),
            lambda: [file for file, wrote in self._matching(pattern) if wrote],
        )

    def written(self, pattern: str) -> list[Path]:
        """Return files as `fresh` does; ``stdout`` and ``stderr`` stand for the output files."""
        if pattern in ("stdout", "stderr"):
            file = self.stdout if pattern == "stdout" else self.stderr
            return [file] if self._may_read(file) else []
        return self.fresh(pattern)

    def stale(self, pattern: str) -> list[Path]:
        """Return the files matching a pattern that this run left as they were, sorted by name."""
        return [file for file, wrote in self._matching(pattern) if not wrote]

    def _matching(self, pattern: str) -> list[tuple[Path, bool]]:
        """Return the files matching a pattern, sorted by name, and whether this run wrote each."""
        found, before = [], self.first or self.before
        for file in matching(self.directory, pattern):
            with contextlib.suppress(OSError):
                status = file.stat()
                if stat.S_ISREG(status.st_mode) and self._may_read(file):
                    name = name_in(self.directory, file)
                    found.append((file, before.differs(name, pattern, status, self.began)))
        return sorted(found)

    def text(self, file: Path) -> str:
        """Return the text of a file of the run; of a large file, its beginning and its end."""
        try:
            with self.allowed.reading(file, "A file of the run") as place:
                return _text(place)
        except (FileNotFoundError, OutsideError):  # it has just been removed, or leads out now
            return ""

    def last_line(self, file: Path) -> str:
        """Return the last line of a file, to be quoted; empty: there is none, or it is no text."""
        lines = self.allowed.last_lines(file, 1, QUOTED_BYTES)
        return _quoted(lines[0]) if lines else ""

    def last_words(self) -> str:
        """Return the last line of the error output, else of the output, which often tells why.

        Of a program that has printed its help it is the line before that.
        """
        for file in (self.stderr, self.stdout):
            if said := _telling(self.allowed.last_lines(file, HELP_LINES, HELP_BYTES)):
                return said
        return ""

    def once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """Return what a function makes of the files of the run; with a `memory`, made once.

        Several rules may look at the same files, and a loop may have thousands of runs in one
        directory, whose rules all do.
        The function must not look at the exit status, nor at output that other runs do not have.

        Args:
            key: What is made.
            make: Function that makes it; what it raises is not remembered.
        """
        if self.memory is None:
            return make()
        whole = (*key, self.directory, self.first is None)
        if whole not in self.memory:
            self.memory[whole] = make()
        return cast("T", self.memory[whole])

    def _may_read(self, file: Path) -> bool:
        """Return False if a file is outside of the allowed directories, or a link leads there."""
        try:
            self.allowed.check_opened(file, "A file of the run")
        except (OutsideError, OSError):
            return False
        return True


def _telling(lines: Sequence[str]) -> str:
    """Return the line that tells most of why a program ended; empty: there is none."""
    while len(lines) > 1 and re.match(_HINT, lines[-1], re.IGNORECASE):
        lines = lines[:-1]
    if not lines:
        return ""
    usage = next(
        (at for at, line in enumerate(lines) if re.match(_USAGE, line, re.IGNORECASE)), None
    )
    if usage is None or "error" in lines[-1].lower():  # some tell the error after a short help
        return _quoted(lines[-1])
    return f"{_quoted(lines[usage - 1])}, then its help" if usage else _quoted(lines[0])


def _quoted(line: str) -> str:
    """Return a line to be quoted; empty if it is no text."""
    said = line.strip()[:QUOTED_CHARACTERS]
    unreadable = sum(not each.isprintable() or each == "\ufffd" for each in said)
    return "" if 4 * unreadable > len(said) else said


def _text(path: Path) -> str:
    """Return the text of a regular file; of a large file, its beginning and its end."""
    try:
        descriptor, _ = open_regular(path, follow=True)
        with os.fdopen(descriptor, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(min(size, SEARCHED_BYTES))
            rest = max(len(data), size - SEARCHED_BYTES)
            file.seek(rest)
            gap = b"\n" if rest > len(data) else b""  # texts on its two sides never make a match
            data += gap + file.read(size - rest)
    except FileNotFoundError:
        return ""
    except UnfitFileError as error:
        raise ProgramError(str(error)) from None
    return data.decode("utf-8", "replace")
