"""Replacement of parts of shell text so that each value stays one word, whatever it holds.

The quoting of a value depends on the quotes around its place, so a plain replacement is not enough.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

Value = Callable[[str], str | None]
"""Function that returns the replacement of a match; None: the match stays."""


class AsIs(str):
    """Shell text, which is put in without quoting."""

    __slots__ = ()


def replace_quoted(text: str, pattern: str, value: Value) -> str:
    """Return shell text in which each match of `pattern` is replaced by `value(match)`, quoted.

    Outside quotes the value is shell-quoted; inside ``"..."`` special characters are escaped;
    inside ``'...'`` single quotes are. Source: POSIX.1, Shell Command Language, 2.2 Quoting.
    """
    pieces = re.compile(rf"(?P<place>{pattern})|\\.|['\"]", re.DOTALL)
    quote = ""

    def found(match: re.Match[str]) -> str:
        nonlocal quote
        piece = match[0]
        if match["place"] is not None:
            replacement = value(piece)
            return piece if replacement is None else _quoted(replacement, quote)
        if piece in "'\"":
            quote = piece if not quote else "" if quote == piece else quote
        elif quote == "'" and piece[1] == "'":
            quote = ""  # inside '...' a backslash has no effect, so this quote ends the text
        return piece

    return pieces.sub(found, text)


def _quoted(value: str, quote: str) -> str:
    """Return a value for a place inside the given quotes."""
    if isinstance(value, AsIs):
        return value
    if quote == "'":
        return value.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'([\\$"`])', r"\\\1", value)
    return shlex.quote(value)
