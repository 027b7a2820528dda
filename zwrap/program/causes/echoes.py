"""Texts that a program was given, and that it may print again: none of them is an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

SHORTEST = 4
"""Length of the shortest text that counts as printed again inside a line, in characters; a shorter
one may be part of any word."""

LONGEST_NAME = 4096
"""Length of the longest text that may be the name of a file, in characters."""

MOST = 100_000
"""Largest number of texts that are kept."""


class Echoes:
    """The texts that a program was given: arguments, values, and the lines of its input files.

    They are compared without regard to case and to the number of blanks.
    """

    def __init__(self, values: Iterable[object]) -> None:
        self._texts: set[str] = set()
        self._names: set[str] = set()
        for value in values:
            self.add(value)

    def add(self, value: object) -> None:
        """Add all texts in a value: its lines, and what follows a sign of assignment in them."""
        for text in _texts(value):
            if 0 < len(text) <= LONGEST_NAME:
                self._names |= {text, text.partition("=")[2] or text}
            for line in text.splitlines():
                if self.is_full:
                    return
                self._texts |= {text for part in _parts(line) if (text := plain(part))}

    @property
    def is_full(self) -> bool:
        """True if no more texts are kept."""
        return len(self._texts) >= MOST

    def names(self) -> list[str]:
        """Return the texts that may be names of files, as they were given, sorted."""
        return sorted(self._names)

    def without(self, line: str) -> str:
        """Return a line of output with blanks in place of the texts that the program was given."""
        whole = plain(line)
        if whole in self._texts:
            return ""
        found = [text for text in self._texts if len(text) >= SHORTEST and text in whole]
        for text in sorted(found, key=len, reverse=True):
            pattern = r"\s+".join(map(re.escape, text.split(" ")))
            line = re.sub(pattern, lambda match: " " * len(match[0]), line, flags=re.IGNORECASE)
        return line


def plain(text: str) -> str:
    """Return a text in small letters, with one blank between words."""
    return " ".join(text.split()).lower()


def _parts(line: str) -> Iterator[str]:
    """Yield a line, what follows a sign of assignment in it, and the directories of a path."""
    yield line
    for sign in ("=", ":"):
        _, found, rest = line.partition(sign)
        if found:
            yield rest.strip().strip("'\"")
    yield line.strip().strip("'\"")
    if line.startswith("/"):  # a program derives names of files from a template, say
        yield from map(str, list(PurePath(line).parents)[:-1])


def _texts(value: object) -> Iterator[str]:
    """Yield the texts and numbers in a JSON value."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
        elif each is not None and not isinstance(each, bool):
            yield str(each)
