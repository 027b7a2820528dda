"""Walking through a JSON document that a program wrote; complaints name file and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from zwrap.errors import ProgramError

T = TypeVar("T")

_WORDS = {dict: "an object", list: "a list", str: "a text", float: "a number", int: "a number"}


class Place:
    """A value in a document, and how one gets there."""

    def __init__(self, file: Path, value: Any, route: str = "") -> None:
        self.file = file
        self.value = value
        self.route = route

    def __getitem__(self, key: str | int) -> Place:
        """The value under a key or index; ProgramError if it is not there."""
        try:
            return Place(self.file, self.value[key], f"{self.route}/{key}")
        except (KeyError, IndexError, TypeError):
            raise ProgramError(f"{self.file} has nothing at {self.route}/{key}.") from None

    def get(self, key: str) -> Place | None:
        """The value under a key; None if it is not there or null."""
        if isinstance(self.value, dict) and self.value.get(key) is not None:
            return self[key]
        return None

    def as_(self, kind: type[T]) -> T:
        """The value, if it is of that kind; ProgramError says what it is instead."""
        accepted = (int, float) if kind is float else kind
        if isinstance(self.value, bool) or not isinstance(self.value, accepted):
            raise ProgramError(
                f"{self.file} holds {_short(self.value)} at {self.route or 'its top'}; "
                f"{_WORDS.get(kind, kind.__name__)} is expected."
            )
        return self.value  # type: ignore[return-value]  # a whole number is a float, too

    def items(self) -> Iterator[tuple[str, Place]]:
        """Key and value of an object, in the order of the file."""
        for key in self.as_(dict):
            yield str(key), self[key]

    def values(self) -> Iterator[Place]:
        """Values of an object, in the order of the file."""
        return (value for _, value in self.items())

    def entries(self) -> list[Place]:
        """Entries of a list."""
        return [self[index] for index in range(len(self.as_(list)))]

    def numbers(self, count: int) -> list[float]:
        """A list of exactly so many numbers."""
        entries = self.entries()
        if len(entries) != count:
            raise ProgramError(
                f"{self.file} holds {len(entries)} values at {self.route}; {count} are expected."
            )
        return [entry.as_(float) for entry in entries]


def read_document(path: Path) -> Place:
    """The top of a JSON document. NaN and Infinity, which Python's json writes, are taken."""
    try:
        return Place(path, json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"{path} is not valid JSON: {error}.") from None


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
