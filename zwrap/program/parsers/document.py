"""Access to values in a JSON document that a program wrote; errors name file and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from zwrap.errors import ProgramError, short
from zwrap.program.parsers.generic import content


class Place:
    """A value in a document, and the route to it.

    Methods raise ProgramError, which names file and place, if the document is not as expected.
    """

    def __init__(self, file: Path, value: object, route: str = "") -> None:
        """Describe a value in a file; `route` holds the keys and indices to it, after slashes."""
        self.file = file
        self.value = value
        self.route = route

    def __getitem__(self, key: str | int) -> Place:
        """Return the value under a key or index."""
        value = self.value
        try:
            if isinstance(value, dict):
                return Place(self.file, value[key], f"{self.route}/{key}")
            if isinstance(value, list) and isinstance(key, int):
                return Place(self.file, value[key], f"{self.route}/{key}")
        except (KeyError, IndexError):
            pass
        raise ProgramError(f"{self.file} has nothing at {self.route}/{key}.")

    def get(self, key: str) -> Place | None:
        """Return the value under a key; None if it is missing or null."""
        if isinstance(self.value, dict) and self.value.get(key) is not None:
            return self[key]
        return None

    def text(self) -> str:
        """Return the value, which must be a text."""
        if isinstance(self.value, str):
            return self.value
        raise self._other("a text")

    def number(self) -> float:
        """Return the value, which must be a number."""
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return self.value
        raise self._other("a number")

    def mapping(self) -> dict[str, object]:
        """Return the value, which must be an object."""
        if isinstance(self.value, dict):
            return self.value
        raise self._other("an object")

    def listing(self) -> list[object]:
        """Return the value, which must be a list."""
        if isinstance(self.value, list):
            return self.value
        raise self._other("a list")

    def items(self) -> Iterator[tuple[str, Place]]:
        """Yield key and value of an object, in the order of the file."""
        for key in self.mapping():
            yield key, self[key]

    def values(self) -> Iterator[Place]:
        """Yield the values of an object, in the order of the file."""
        return (value for _, value in self.items())

    def entries(self) -> list[Place]:
        """Return the entries of a list."""
        return [self[index] for index in range(len(self.listing()))]

    def numbers(self, count: int) -> list[float]:
        """Return the entries of a list of exactly `count` numbers."""
        entries = self.entries()
        if len(entries) != count:
            raise ProgramError(
                f"{self.file} holds {len(entries)} values at {self.route}; {count} are expected."
            )
        return [entry.number() for entry in entries]

    def _other(self, expected: str) -> ProgramError:
        """Return the error of a value of another type than the expected one."""
        found = "null" if self.value is None else short(self.value)
        return ProgramError(
            f"{self.file} holds {found} at {self.route or 'its top'}; {expected} is expected."
        )


def read_document(path: Path) -> Place:
    """Return the top of a JSON document, in which NaN and Infinity are accepted.

    Raises ProgramError if the document is not valid, OSError if it cannot be read.
    """
    try:
        return Place(path, json.loads(content(path)))
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"{path} is not valid JSON: {error}.") from None
