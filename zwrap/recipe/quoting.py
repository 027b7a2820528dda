"""Shell text: replacement of parts, so that each value stays one word, and splitting into words.

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


_PIECE = re.compile(
    r"""(?P<blank>[ \t\r\n]+)|(?P<plain>[^ \t\r\n'"\\]+)|\\(?P<escaped>.)"""
    r"""|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]++|\\.)*+)"|(?P<fault>.)""",
    re.DOTALL,
)
_OPEN_ESCAPE = re.compile(r"""(?:"(?:[^"\\]++|\\.)*+)?\\""", re.DOTALL)


def words(text: str) -> list[str]:
    """Return the words of shell text, as `shlex.split` does, in a time that grows with the text.

    `shlex.split` takes minutes for one word of a megabyte.

    Raises:
        ValueError: A quote or a backslash at the end lacks its partner.
    """
    found: list[str] = []
    word: list[str] | None = None
    for piece in _PIECE.finditer(text):
        kind, content = piece.lastgroup, piece[piece.lastgroup or 0]
        if kind == "blank":
            if word is not None:
                found.append("".join(word))
            word = None
            continue
        if kind == "fault":
            escape = _OPEN_ESCAPE.fullmatch(text, piece.start())
            raise ValueError("No escaped character" if escape else "No closing quotation")
        if kind == "double":
            content = re.sub(r'\\(["\\])', r"\1", content)
        word = word or []
        word.append(content)
    return found if word is None else [*found, "".join(word)]
