"""Regular expressions of definitions and recipes, whose searches are limited in time.

They come from outside: one such as ``^(a+)+$`` may take years. Python's `re` has no time limit, and
no other thread runs while it searches; the `regex` package has one, and reads the same syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zwrap.errors import ProgramError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.printable import printable

SEARCH_S = 30.0
"""Longest time of all searches for one pattern in the output of a program, in seconds."""

LONGEST_PATTERN = 10_000
"""Length of the longest pattern, in characters."""


def shown_pattern(pattern: str) -> str:
    """Return a pattern for a sentence, in quotes, as it is written, and cut if it is long.

    `repr` would double each backslash, so that nobody could search with what he reads.
    """
    return f"'{printable(pattern if len(pattern) <= 200 else pattern[:200] + '...')}'"


def check_pattern(pattern: str, where: str) -> None:
    """Raise ProgramError, which begins with `where`, unless a pattern is a regular expression."""
    if len(pattern) > LONGEST_PATTERN:
        raise ProgramError(
            f"{where}: the pattern {shown_pattern(pattern)} has {len(pattern)} characters; up to "
            f"{LONGEST_PATTERN} are accepted."
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, ValueError, RecursionError) as error:
        raise ProgramError(
            f"{where}: {shown_pattern(pattern)} is not a valid regular expression: {error}."
        ) from None


class Pattern:
    """One regular expression, for searches that take at most `limit_s` seconds from now on.

    ``^`` and ``$`` match at the ends of each line. All methods raise ProgramError if the time is
    over.

    Args:
        pattern: The regular expression.
        where: Its place, with which an error begins.
        limit_s: Time limit of all searches, in seconds.
        clock: Clock for the limit, in seconds.

    Raises:
        ProgramError: The pattern is not a regular expression.
    """

    def __init__(
        self, pattern: str, where: str, limit_s: float = SEARCH_S, clock: Clock = elapsed
    ) -> None:
        import regex  # not for jobs without such a pattern

        check_pattern(pattern, where)
        try:
            self._compiled = regex.compile(pattern, regex.MULTILINE)
        except (regex.error, ValueError, RecursionError) as error:
            raise ProgramError(
                f"{where}: {shown_pattern(pattern)} is not a valid regular expression: {error}."
            ) from None
        self._said = f"{where}: the search for {shown_pattern(pattern)}"
        self._limit_s = limit_s
        self._clock = clock
        self._ends_at = clock() + limit_s

    def search(self, text: str) -> re.Match[str] | None:
        """Return the first match in a text; None: there is none."""
        return next(self.matches(text), None)

    def is_whole(self, text: str) -> bool:
        """Return True if the whole of a text matches."""
        try:
            return self._compiled.fullmatch(text, timeout=self._left_s()) is not None
        except TimeoutError:
            raise self._too_slow() from None

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Yield the matches in a text, in order."""
        try:
            yield from self._compiled.finditer(text, timeout=self._left_s())
        except TimeoutError:
            raise self._too_slow() from None

    def _left_s(self) -> float:
        """Return the time that is left, in seconds; ProgramError if none is."""
        left_s = self._ends_at - self._clock()
        if left_s <= 0:
            raise self._too_slow()
        return left_s

    def _too_slow(self) -> ProgramError:
        """Return the error for a search that took too long."""
        return ProgramError(
            f"{self._said} was given up after {self._limit_s:g} s; a pattern without repetitions "
            "inside repetitions is expected."
        )
