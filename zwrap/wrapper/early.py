"""The end of a program whose output shows, while it runs, that it cannot succeed any more."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.host.beneath import OutsideError
from zwrap.host.files import UnfitFileError, open_regular
from zwrap.program.causes.errorlist import KnownErrors
from zwrap.program.causes.knownerrors import OUTPUT, KnownError, places
from zwrap.program.causes.recognition import Recognized, line_of, searched, told
from zwrap.program.listing import Status, name_in
from zwrap.program.run import Run
from zwrap.wrapper.given import Given
from zwrap.wrapper.process import Program

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Interval at which the output is looked at, in seconds; a shorter run is never looked at."""

SEARCH_S = 1.0
"""Longest time of one search, in seconds; a pattern that takes longer is not looked for again."""

PORTION_BYTES = 4 * 1024 * 1024
"""Largest part of one file that is read at once, in bytes; what is left is read the next time."""

LINE_BYTES = 64 * 1024
"""Largest part of an unfinished line that is kept for the next time, in bytes."""

MOST_FILES = 100
"""Largest number of files of one place that are looked at."""

MOST_ECHOES = 100
"""Largest number of matches of one pattern in one portion that may be echoes."""


class EarlyStop:
    """The part that looks for errors with `stop_early` while a program runs, and ends it.

    Args:
        errors: Known errors of the program.
        run: Its run, whose end is not known yet.
        given: Function that returns what the program was given, called when it is first needed.
        interval_s: Interval at which the output is looked at, in seconds.
    """

    def __init__(
        self,
        errors: KnownErrors,
        run: Run,
        given: Callable[[], Given],
        interval_s: float = LOOK_S,
    ) -> None:
        self._errors, self._run, self._make_given = errors, run.alone, given
        self._interval_s = interval_s
        self._given: Given | None = None
        self._files: dict[Path, _Growing] = {}
        self._wanted: list[KnownError] | None = None
        """Errors that are looked for; None: not known yet."""
        self._over = threading.Event()
        self.found: Recognized | None = None
        """The error because of which the program was ended."""

    @contextlib.contextmanager
    def watching(self, program: Program) -> Iterator[None]:
        """Look at the output beside the other threads while the context is entered."""
        if not self._errors:
            yield
            return
        thread = threading.Thread(
            target=self._watch, args=(program,), name="early stop", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(SEARCH_S)

    def _watch(self, program: Program) -> None:
        """Look at the output until an error is found, or the program has ended."""
        while not self._over.wait(self._interval_s):
            try:
                found = self.look()
            except Exception:  # the run is judged without it
                log.exception("The output is not looked at any more while the program runs")
                return
            if self._wanted == []:
                return
            if found and not self._over.is_set():
                log.error("The program is ended: %s (%s)", found.says, found.cause)
                self.found = found
                program.stop(f"a known error ({found.cause})")
                return

    def look(self) -> Recognized | None:
        """Return the error that is in what was written since the last call; None: there is none."""
        if self._wanted is None:
            self._wanted = [error for error in self._errors.entries if error.stop_early]
        for place in sorted({place for error in self._wanted for place in places(error)}):
            for name, text in self._new(place):
                for error in [each for each in self._wanted if place in places(each)]:
                    if found := self._search(error, place, name, text):
                        return found
        return None

    def _search(self, error: KnownError, place: str, name: str, text: str) -> Recognized | None:
        """Return an error if a text shows it that the program was not given itself."""

        def is_match(line: str) -> object:
            return searched(error, place, SEARCH_S).search(line)

        try:
            matches = searched(error, place, SEARCH_S).matches(text)
            for match in list(itertools.islice(matches, MOST_ECHOES)):
                if self._given is None:
                    self._given = self._make_given()
                is_error = self._given.is_error(line_of(match, text), match[0], is_match)
                if is_error:
                    return told(error, match, name, text)
                if is_error is None:
                    log.warning(
                        "%s shows a known error (%s), unless the program prints what it was given: "
                        "of that not all can be searched. It is judged at its end.",
                        name, error.cause,
                    )  # fmt: skip
                    self._give_up(error)
                    return None
        except ProgramError as fault:
            log.warning("%s It is not looked for any more while the program runs.", fault)
            self._give_up(error)
        return None

    def _give_up(self, error: KnownError) -> None:
        """Look for an error no more."""
        self._wanted = [each for each in self._wanted or [] if each is not error]

    def _new(self, place: str) -> Iterator[tuple[str, str]]:
        """Yield the name of each file at a place, and the lines that were added to it."""
        for file in self._run.written(place)[:MOST_FILES]:
            if file not in self._files:
                before = self._run.before.files.get(name_in(self._run.directory, file))
                self._files[file] = _Growing(before)
            growing = self._files[file]
            with (
                contextlib.suppress(OSError, UnfitFileError, OutsideError),
                self._run.allowed.reading(file, "A file of the run") as at,
            ):
                if text := growing.lines(at):
                    yield place if place in OUTPUT else file.name, text


class _Growing:
    """A file that grows, and how much of it was read, or was there before the run.

    Args:
        before: Status of the file before the run; None: it was not there.
    """

    def __init__(self, before: Status | None) -> None:
        self._inode: int | None = before[0] if before else None
        self._read = before[1] if before else 0
        self._rest = b""

    def lines(self, path: Path) -> str:
        """Return the lines that are new in the file, or in the one that took its place."""
        descriptor, size = open_regular(path, follow=True)
        with os.fdopen(descriptor, "rb") as file:
            inode = os.fstat(descriptor).st_ino
            if size < self._read or self._inode not in (None, inode):
                self._read, self._rest = 0, b""
            self._inode = inode
            file.seek(self._read)
            data = file.read(PORTION_BYTES)
        self._read += len(data)
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > LINE_BYTES:
            end = len(data)
        self._rest = data[end:][-LINE_BYTES:]
        return data[:end].decode("utf-8", "replace")
