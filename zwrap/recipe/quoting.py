"""Replacing parts of shell text so that each value stays one word, whatever it holds.

How a value must be quoted depends on the quotes around its place, so no plain replacement will do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

Value = Callable[[str], str | None]
"""Returns what is put in for a match; None: the match stays."""


class AsIs(str):
    """Shell text rather than a value: it is put in unquoted."""

    __slots__ = ()


def replace_quoted(text: str, pattern: str, value: Value) -> str:
    """Return shell text in which what matches `pattern` is replaced by `value(match)`, quoted.

    Outside quotes the value is shell-quoted, inside ``"..."`` what is special there is escaped,
    inside ``'...'`` its single quotes are. (POSIX shell language, section 2.2, Quoting)
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
            quote = ""  # inside '...' a backslash is itself, so this quote ends the text
        return piece

    return pieces.sub(found, text)


def _quoted(value: str, quote: str) -> str:
    if isinstance(value, AsIs):
        return value
    if quote == "'":
        return value.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'([\\$"`])', r"\\\1", value)
    return shlex.quote(value)
