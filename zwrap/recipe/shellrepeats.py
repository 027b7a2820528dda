"""Lists and missing values in shell text: the words and lines around them, repeated or left out.

A word, and a line of a here-document, is there once for each entry of a list, and not at all
without a value. In an assignment and in a comparison a missing value is an empty text. Where
neither is right the text is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from zwrap.errors import PermanentError
from zwrap.recipe.pieces import Piece, Texts, Value, copies
from zwrap.recipe.shellplaces import Kind, Part, Place
from zwrap.recipe.shelltext import places
from zwrap.recipe.shelltokens import MARK

Fault = Callable[[str], PermanentError]
"""Function that returns the error of a sentence about shell text."""

_MARKS = re.compile(MARK)

_MISSING = (
    "{source} has no value, and stands {where}, where the shell needs one. Give the input a "
    "default, or make it required."
)
_SEVERAL = (
    "{source} is a list of {count} entries, and stands {where}, where the shell takes one value. "
    "Write it where arguments stand, or name one entry, as in {{name[0]}}."
)
_UNKNOWN = (
    "{source} is a list or has no value, and stands where it cannot be told which words to repeat "
    "or to leave out (backquotes, a line that goes on, or quotes without partner). Write $(...) "
    "for backquotes, and a line of its own for the value."
)
_WHERE: Mapping[Part, str] = {
    Part.NAME: "as the name of a command",
    Part.ASSIGNMENT: "in an assignment",
    Part.COMPARED: "in a comparison",
    Part.TARGET: "as the name of a file behind '<' or '>'",
}
_EMPTY = frozenset({Part.ASSIGNMENT, Part.COMPARED})
"""Words in which a missing value is an empty text."""


class _Unit(msgspec.Struct, frozen=True, order=True):
    """What is repeated or left out: a word, or a line of a here-document."""

    begin: int
    end: int
    between: str = " "
    """Text between two copies."""
    part: Part = Part.ARGUMENT


def repeated(text: Sequence[Piece], fault: Fault) -> list[Piece]:
    """Return shell text with its lists and missing values (`Texts`) resolved.

    `fault`: function that returns the error of a text in which that is not possible.
    """
    filled = list(text)
    while any(map(_is_list, filled)):  # units may hold others
        filled = _round(filled, fault)
    return filled


def _is_list(piece: Piece) -> bool:
    """Return True for a value that is a list, or missing."""
    return isinstance(piece, Value) and isinstance(piece.text, Texts)


def _round(text: list[Piece], fault: Fault) -> list[Piece]:
    """Return the text with those units resolved that hold no others."""
    reader = _Reader(text)
    done: list[Piece] = []
    for unit in _units(text, fault):
        done += reader.up_to(unit.begin)
        done += _resolved(unit, reader.up_to(unit.end), fault)
    return done + reader.rest()


class _Reader:
    """The reading of pieces up to positions in their text, where a value counts for one."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._waiting = list(reversed(pieces))
        self._at = 0

    def up_to(self, end: int) -> list[Piece]:
        """Return the pieces before a position."""
        taken: list[Piece] = []
        while self._at < end:
            piece = self._waiting.pop()
            rest = end - self._at
            if isinstance(piece, str) and len(piece) > rest:
                self._waiting.append(piece[rest:])
                piece = piece[:rest]
            taken.append(piece)
            self._at += 1 if isinstance(piece, Value) else len(piece)
        return taken

    def rest(self) -> list[Piece]:
        """Return the other pieces."""
        return self._waiting[::-1]


def _units(text: list[Piece], fault: Fault) -> list[_Unit]:
    """Return the units of the lists and missing values that hold no others, in order."""
    skeleton = "".join(MARK if isinstance(piece, Value) else piece for piece in text)
    values = [piece for piece in text if isinstance(piece, Value)]
    if skeleton.count(MARK) != len(values):
        raise fault("shell text cannot hold a NUL.")
    marks = [match.start() for match in _MARKS.finditer(skeleton)]
    found = {
        _unit(place, mark, skeleton, value, fault)
        for place, mark, value in zip(places(skeleton), marks, values, strict=True)
        if _is_list(value)
    }
    ordered = sorted(found, key=lambda unit: (unit.begin, -unit.end))
    return [
        unit
        for unit, following in zip(ordered, [*ordered[1:], None], strict=True)
        if following is None or following.begin >= unit.end
    ]


def _unit(place: Place, mark: int, skeleton: str, value: Value, fault: Fault) -> _Unit:
    """Return the unit around a place, which is at `mark`."""
    if place.kind is Kind.COMMENT:
        return _Unit(mark, mark + 1)
    if place.kind is not Kind.UNSURE and place.word:
        return _Unit(place.word.begin, place.word.end, part=place.word.part)
    begin, end = skeleton.rfind("\n", 0, mark) + 1, skeleton.find("\n", mark) + 1
    is_line = place.kind in (Kind.HERE, Kind.VERBATIM) and place.delimiters and not place.backquotes
    goes_on = "\\\n" in (skeleton[max(begin - 2, 0) : begin], skeleton[end - 2 : end])
    if is_line and end and not goes_on:
        return _Unit(begin, end, between="")
    raise fault(_UNKNOWN.format(source=value.source[:60]))


def _resolved(unit: _Unit, inside: list[Piece], fault: Fault) -> list[Piece]:
    """Return the pieces of a unit, as often as they are there."""
    if unit.part in _EMPTY:
        inside = [_empty(piece) for piece in inside]
    found = [pieces for [pieces] in copies([inside], fault)]
    if len(found) != 1 and unit.part is not Part.ARGUMENT:
        reason = _SEVERAL if found else _MISSING
        source = next(p.source for p in inside if isinstance(p, Value) and _is_list(p))
        if not found or unit.part is not Part.NAME:
            where = _WHERE[unit.part]
            raise fault(reason.format(source=source[:60], where=where, count=len(found)))
    joined: list[Piece] = []
    for each in found:
        joined += [unit.between] if joined else []
        joined += each
    return joined


def _empty(piece: Piece) -> Piece:
    """Return an empty value in place of a missing one."""
    missing = isinstance(piece, Value) and isinstance(piece.text, Texts) and not piece.text.parts
    return Value("", piece.source) if missing and isinstance(piece, Value) else piece
