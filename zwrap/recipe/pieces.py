"""Pieces of a text with placeholders: literal text, and the values that are put in."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True):
    """A value that is put into a text."""

    text: str
    source: str
    """The placeholder, for messages."""


Piece = str | Value
"""Text, or a value between text."""


def as_text(pieces: list[Piece]) -> str:
    """Return the text with its values as they are."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)
