"""Lines of a text for a program's standard input, to which no value adds another one."""

from __future__ import annotations

from collections.abc import Callable

from zwrap.errors import PermanentError, short
from zwrap.recipe.pieces import Value, as_text, copies
from zwrap.recipe.substitution import Filling

SEVERAL_LINES = (
    "{source} has the value {value}, which has several lines, or a character that no line has; one "
    "line is expected, because further lines would be commands to the program."
)
"""Why a value cannot be put into a line, as a format."""


def is_several_lines(value: str) -> bool:
    """Return True for a value that is not a part of one line: it holds a line break, or a NUL."""
    return "\0" in value or value.splitlines() not in ([], [value])


def filled_lines(text: str, filling: Filling, fault: Callable[[str], PermanentError]) -> str:
    """Return a text with its values, as they are.

    A line whose value is missing is left out; one with lists is there once for each entry.

    Args:
        text: The text.
        filling: Filling in of the values, with `Several` for lists and what is missing.
        fault: Function that returns the error for a value of several lines.
    """
    done = []
    for line in text.splitlines(keepends=True):
        for [pieces] in copies([filling.pieces(line)], fault):
            for piece in pieces:
                if isinstance(piece, Value) and is_several_lines(piece.text):
                    raise fault(
                        SEVERAL_LINES.format(source=piece.source[:60], value=short(piece.text))
                    )
            done.append(as_text(pieces))
    return "".join(done)
