"""What a program was given, and may print: values, and the whole of the files that it reads."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from zwrap.host.beneath import OutsideError
from zwrap.host.files import UnfitFileError, open_regular
from zwrap.program.causes.echoes import Echoes, plain
from zwrap.program.definition import Definition
from zwrap.program.keys.options import parameter_files
from zwrap.program.keys.written import OWN
from zwrap.program.run import Run
from zwrap.wrapper.command import CommandRun

KEPT_BYTES = 1024 * 1024
"""Size of the largest file of which the lines are kept, in bytes; a larger one is read again for
each line of output that may be an error."""

PORTION_BYTES = 256 * 1024
"""Part of a file that is searched at once, in bytes."""

SEARCHED_BYTES = 64 * 1024 * 1024
"""Largest size of all that is searched for one program, in bytes."""

MOST_FILES, MOST_NAMES, MOST_LOOKED_AT = 50, 1000, 10_000
"""Largest number of files that the program was given, of texts that may name them, and of files in
directories that are looked at."""

TICK_S = 2.0
"""Time after the begin of a run, in seconds, until which a file may have been written before it, as
clocks of filesystems go."""

PROGRAM = b"\x7fELF"
"""Begin of a program, which is no input, but holds its own messages."""


class Given:
    """What a program was given.

    Args:
        echoes: The values, to which lines of small files are added.
        files: Files that it may read.
        run: The run.
        is_whole: False if it may read other files as well.
    """

    def __init__(self, echoes: Echoes, files: Iterable[Path], run: Run, *, is_whole: bool) -> None:
        self._echoes, self._run = echoes, run
        self._is_whole = is_whole and not echoes.is_full
        self._large: list[Path] = []
        self._left = SEARCHED_BYTES
        for file in files:
            with self._opened(file) as (descriptor, size):
                if size <= KEPT_BYTES:
                    echoes.add(os.read(descriptor, KEPT_BYTES).decode("utf-8", "replace"))
                if size > KEPT_BYTES or echoes.is_full or _is_binary(descriptor):
                    self._large.append(file)

    def is_error(self, line: str, matched: str, is_match: Callable[[str], object]) -> bool | None:
        """Return whether a line of output is an error; None: that cannot be told.

        Args:
            line: The line.
            matched: Part of it that shows the error.
            is_match: Function that returns a true value for a text that shows the error.
        """
        line = self._echoes.without(line)
        if not is_match(line):
            return False
        for file in self._large:
            for text in self._portions(file):
                line = Echoes(["\n".join({*text.splitlines()})]).without(line)
                if ("\0" in text and plain(matched) in plain(text)) or not is_match(line):
                    return False
        return True if self._is_whole else None

    def _portions(self, file: Path) -> Iterator[str]:
        """Yield the text of a file in portions of whole lines."""
        rest = b""
        with self._opened(file) as (descriptor, _):
            while data := os.read(descriptor, min(PORTION_BYTES, self._left)):
                self._left -= len(data)
                data = rest + data
                end = data.rfind(b"\n") + 1
                end = end if len(data) - end < PORTION_BYTES else len(data)
                rest = data[end:]
                yield data[:end].decode("utf-8", "replace")
            if not self._left:
                self._is_whole = False
            yield rest.decode("utf-8", "replace")

    @contextlib.contextmanager
    def _opened(self, file: Path) -> Iterator[tuple[int, int]]:
        """Yield the descriptor of a file, and its size: of one that is no input, of none."""
        with contextlib.ExitStack() as stack:
            descriptor, size = -1, 0
            try:
                at = stack.enter_context(self._run.allowed.reading(file, "An input of the run"))
                descriptor, size = open_regular(at, follow=True)
                stack.callback(os.close, descriptor)
            except (UnfitFileError, OutsideError):
                self._is_whole = False
            except OSError:  # the program cannot read it either
                pass
            if descriptor < 0 or os.pread(descriptor, len(PROGRAM), 0) == PROGRAM:
                descriptor, size = stack.enter_context(_empty()), 0
            yield descriptor, size


@contextlib.contextmanager
def _empty() -> Iterator[int]:
    """Yield the descriptor of an empty file."""
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_binary(descriptor: int) -> bool:
    """Return True if a file holds a NUL at its begin."""
    return b"\0" in os.pread(descriptor, PORTION_BYTES, 0)


def given_to(definition: Definition, command: CommandRun, run: Run) -> Given:
    """Return what a command was given: values, arguments, environment, standard input, files."""
    from zwrap.program.files.writing import new_files, placed_files  # which few programs need

    planned, filled = command.planned, command.fill()
    known, before = planned.values.known, None if planned.is_first else planned.command.name
    inputs = [known.get(name) for name in definition.inputs]
    files = [new.content for new in new_files(definition, known, before)]
    files += parameter_files(definition, known).values()
    placed = [
        each.source for key in ("link", "copy") for each in placed_files(definition, known, key)
    ]
    named = [inputs, filled.argv[1:], filled.stdin, files, placed]
    others = [known, filled.argv, filled.environment, dict(os.environ), str(run.directory)]
    return with_files(named, run, others)


def with_files(values: Iterable[object], run: Run, others: Iterable[object] = ()) -> Given:
    """Return values as what a program was given, with the files and directories that they name.

    Files that the run itself wrote do not count. `others`: values that name none.
    """
    echoes = Echoes(values)
    names = echoes.names()
    files, is_whole = _files(names[:MOST_NAMES], run)
    for other in others:
        echoes.add(other)
    return Given(echoes, files, run, is_whole=is_whole and len(names) <= MOST_NAMES)


def _files(names: Sequence[str], run: Run) -> tuple[list[Path], bool]:
    """Return the files that were there before a run, by their names; False: there are more."""
    found: dict[Path, None] = {}
    files = (file for name in names for file in _named(run.directory / name))
    for number, file in enumerate(files):
        if number >= MOST_LOOKED_AT:
            return list(found), False
        if file in (run.stdout, run.stderr, *found) or not _is_earlier(file, run):
            continue
        if len(found) == MOST_FILES:
            return list(found), False
        found[file] = None
    return list(found), True


def _named(path: Path) -> Iterator[Path]:
    """Yield a file, or the files below a directory."""
    with contextlib.suppress(OSError, ValueError):
        if path.is_file():
            yield path
            return
        for directory, below, files in os.walk(path):
            below[:] = sorted(set(below) - {OWN})
            yield from (Path(directory, file) for file in sorted(files))


def _is_earlier(file: Path, run: Run) -> bool:
    """Return True for a regular file that may have been there before a run."""
    with contextlib.suppress(OSError):
        status = file.stat()
        return stat.S_ISREG(status.st_mode) and status.st_mtime <= run.began + TICK_S
    return False
