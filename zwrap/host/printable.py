"""Text from outside for people: nothing in it acts on a terminal, or looks like another line."""

from __future__ import annotations

import functools
import os

PATH_CHARACTERS = 300
"""Largest number of characters that are shown of a path."""

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of text. Source: property Bidi_Control of Unicode."""

INDENT = "    "
"""Beginning of each line but the first of a text that stays in several lines."""


@functools.cache
def _escapes() -> dict[int, str]:
    """Return the escape of each code point that acts on what people see, and of half characters."""
    control = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
    acting = (*control, *map(ord, _BIDI), *range(0xD800, 0xE000))
    return {code: f"\\u{code:04x}" for code in acting} | {9: "\\t", 10: "\\n", 13: "\\r"}


def printable(text: str) -> str:
    r"""Return a text with escapes in place of characters that act on a terminal or a log.

    These are control characters (ESC, newline and tab included), separators of lines, controls of
    direction, and lone surrogates, which stand for bytes that are not UTF-8. All other characters
    stay. The escapes are those of JSON, such as ``\\n`` and ``\\u001b``, so that a line of JSON has
    the same values as before.
    """
    return text if text.isprintable() else text.translate(_escapes())


def printable_lines(text: str) -> str:
    """Return a text of several lines, each printable; all but the first are indented."""
    return f"\n{INDENT}".join(map(printable, text.split("\n")))


def printable_reason(text: str) -> str:
    """Return a text of several lines, each printable, as it is kept for people and programs."""
    if text.isprintable():  # as most are that have one line
        return text
    return "\n".join(map(printable, text.replace("\0", "\\0").split("\n")))


def shown_path(path: object) -> str:
    """Return a path for people, printable, and cut if it is long."""
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    return printable(text if len(text) <= PATH_CHARACTERS else f"{text[:PATH_CHARACTERS]}...")


def well_formed(text: str, limit: int | None = None) -> str:
    """Return a text that UTF-8 can hold, with escapes for lone surrogates, and perhaps shortened.

    `limit`: largest number of characters.
    """
    if limit is not None and len(text) > limit:
        text = f"{text[: limit // 2]}\n[...]\n{text[-limit // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()
