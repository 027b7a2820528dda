"""Pieces of a text with placeholders: literal text, and the values that are put in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Value(msgspec.Struct, frozen=True):
    """A value that is put into a text."""

    text: str
    source: str
    """The placeholder, for messages."""


Piece = str | Value
"""Text, or a value between text."""


def as_text(pieces: Sequence[Piece]) -> str:
    """Return the text with its values as they are."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)


# -- values of which there are several, or none ---------------------------------------------------


class Texts(str):
    """The texts of a list, for `Value.text`; what is around the value is repeated for each."""

    parts: tuple[str, ...]
    """The texts; none: what is around the value is left out."""

    @classmethod
    def of(cls, parts: tuple[str, ...]) -> Texts:
        """Return the texts as one value."""
        made = cls(" ".join(parts))
        made.parts = parts
        return made


class Several:
    """A parameter that is a list, or that has no value: its placeholder becomes a `Texts`."""

    def __init__(self, values: Sequence[object] = ()) -> None:
        self._values = values

    def __format__(self, specification: str) -> str:
        """Return the formatted texts of the values."""
        return Texts.of(tuple(format(value, specification) for value in self._values))

    def __str__(self) -> str:
        """Return the texts of the values."""
        return Texts.of(tuple(map(str, self._values)))

    def __getitem__(self, key: int | str) -> object:
        """Return an entry of the list; what is not there has no value, nor has an entry of it."""
        return self._values[key] if self._values and isinstance(key, int) else Several()


Mismatch = Callable[[str], Exception]
"""Function that returns the error of a sentence about lists of unequal lengths."""


def copies(group: Sequence[Sequence[Piece]], mismatch: Mismatch) -> list[list[list[Piece]]]:
    """Return copies of a group of texts: one for each entry of the lists in it.

    Lists go together: the n-th copy has the n-th entry of each of them. Without a list there is one
    copy, and none if a value is missing.

    Args:
        group: Pieces of each text.
        mismatch: Function that returns the error for lists of unequal lengths.
    """
    lists = [
        (piece.source, len(piece.text.parts))
        for pieces in group
        for piece in pieces
        if isinstance(piece, Value) and isinstance(piece.text, Texts)
    ]
    if not lists:
        return [[list(pieces) for pieces in group]]
    counts = {count for _, count in lists}
    if 0 in counts:
        return []
    if len(counts) > 1:
        told = " and ".join(
            f"{source} has {count} entries" for source, count in dict.fromkeys(lists)
        )
        raise mismatch(f"{told}; lists that stand together must be of equal length.")
    return [
        [[_entry(piece, number) for piece in pieces] for pieces in group]
        for number in range(counts.pop())
    ]


def _entry(piece: Piece, number: int) -> Piece:
    """Return the piece with the entry of its list, if it is one."""
    if isinstance(piece, Value) and isinstance(piece.text, Texts):
        return Value(piece.text.parts[number], piece.source)
    return piece
