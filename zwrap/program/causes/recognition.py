"""Search for the known errors of a program in what a failed run has left."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest
from pathlib import Path

import msgspec
from msgspec.structs import replace

from zwrap.host.clock import Clock, elapsed
from zwrap.program.causes.knownerrors import EXIT_STATUS, FIELD, OUTPUT, KnownError, places
from zwrap.program.causes.literals import may_match
from zwrap.program.patterns import Pattern
from zwrap.program.run import QUOTED_CHARACTERS, Run

SEARCH_S = 30.0
"""Longest time of the search for all known errors of a program, in seconds."""

MOST_FILES = 200
"""Largest number of files that match one pattern and are searched, the newest ones."""

MOST_CHARACTERS = 64 * 1024 * 1024
"""Length of the texts of a run after which no further file is read, except for its output."""


class Recognized(msgspec.Struct, frozen=True, kw_only=True):
    """A known error that was found in a run."""

    cause: str
    """Label."""
    says: str
    """Clause for people."""
    remedy: str = ""
    """Sentences for people; empty: none is known."""
    set: dict[str, object] = {}
    """Job parameters of the correction, filled in; empty: no correction is known."""
    limit: int = 1
    """Largest number of attempts with the correction."""


def recognized(errors: Iterable[KnownError], run: Run, clock: Clock = elapsed) -> Recognized | None:
    """Return the first of the known errors that a run shows; None: it shows none.

    A pattern that takes too long raises ProgramError.
    """
    ends_at = clock() + SEARCH_S
    texts = _Texts(run, ends_at, clock)
    for error in errors:
        for place in places(error):
            for name, text in texts.at(place):
                if not may_match(error.pattern, text):
                    continue
                pattern = searched(error, place, max(ends_at - clock(), 0.0), clock)
                # a traceback shows the line that raises before the message itself
                if match := _last(pattern.matches(text)):
                    return told(error, match, name, text)
    return None


def _last(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    """Return the last match; None: there is none."""
    last = deque(matches, maxlen=1)
    return last[0] if last else None


def searched(error: KnownError, place: str, limit_s: float, clock: Clock = elapsed) -> Pattern:
    """Return the pattern of an error, for searches that take at most `limit_s` seconds."""
    pattern = rf"\A(?:{error.pattern})\Z" if place == EXIT_STATUS else error.pattern
    return Pattern(pattern, f"known error {error.cause!r}", limit_s, clock)


def told(error: KnownError, match: re.Match[str], name: str, text: str) -> Recognized:
    """Return an error that was found in the text of a file, or place, of that name."""
    groups = {key: quoted(value or "") for key, value in match.groupdict().items()}
    says = quoted(filled(error.says, groups)).rstrip(" :")
    says = says or f"{name} says: {quoted(line_of(match, text))}"
    found = Recognized(cause=error.cause, says=says, remedy=filled(error.remedy, groups))
    if error.retry is None:
        return found
    changes = {key: _with_groups(value, groups) for key, value in error.retry.set.items()}
    return replace(found, set=changes, limit=error.retry.limit)


def line_of(match: re.Match[str], text: str) -> str:
    """Return a match with the rest of its lines."""
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[begin : end if end >= 0 else None]


def quoted(text: str) -> str:
    """Return a text of a program in one line, `QUOTED_CHARACTERS` at most."""
    return " ".join(text.split())[:QUOTED_CHARACTERS]


def filled(text: str, groups: Mapping[str, str]) -> str:
    """Return a text with groups of a match filled in; other braces stay."""
    return re.sub(FIELD, lambda field: groups.get(field[1], field[0]), text)


def _with_groups(value: object, groups: Mapping[str, str]) -> object:
    """Return a value of a correction with groups filled in; numbers become numbers."""
    if isinstance(value, dict):
        return {key: _with_groups(inner, groups) for key, inner in value.items()}
    if not isinstance(value, str) or not re.search(FIELD, value):
        return value
    text = filled(value, groups)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class _Texts:
    """The texts of a run by place, each read once, as many as fit in the time and in memory."""

    def __init__(self, run: Run, ends_at: float, clock: Clock) -> None:
        self._run, self._ends_at, self._clock = run, ends_at, clock
        self._files: dict[str, list[Path]] = {}
        self._read: dict[Path, str] = {}
        self._left = MOST_CHARACTERS

    def at(self, place: str) -> Iterator[tuple[str, str]]:
        """Yield name and text of each file at a place, the newest one first."""
        if place == EXIT_STATUS:
            status = self._run.exit_status
            yield "its exit status", str(128 - status if status < 0 else status)
            return
        if place not in self._files:
            self._files[place] = nlargest(MOST_FILES, self._run.written(place), key=_written_at)
        for file in self._files[place]:
            if text := self._text(file, is_output=place in OUTPUT):
                yield place if place in OUTPUT else file.name, text

    def _text(self, file: Path, *, is_output: bool) -> str:
        """Return the text of a file; empty if it is one too many, or the time is over."""
        if file in self._read:
            return self._read[file]
        if self._clock() >= self._ends_at or (self._left <= 0 and not is_output):
            return ""
        text = self._read[file] = self._run.text(file)
        self._left -= len(text)
        return text


def _written_at(file: Path) -> tuple[int, str]:
    """Return what sorts files by their last change."""
    try:
        return file.stat().st_mtime_ns, str(file)
    except OSError:  # it has just been removed
        return 0, str(file)
