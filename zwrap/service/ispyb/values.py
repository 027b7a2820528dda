"""Values of ISPyB's columns, checked by the types of its tables before they are sent.

The sessions of the service are strict, so that the database cuts and rounds nothing in silence;
what it would refuse is refused here, with a sentence that names the parameter and the column. The
tables of the `ispyb` package do not say which integers are unsigned: each has the range of both.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from zwrap.errors import MessageError, short

FREE_TEXT = frozenset(
    {
        "AutoProcProgram.processingCommandLine",
        "AutoProcProgram.processingEnvironment",
        "AutoProcProgram.processingMessage",
        "AutoProcProgramMessage.description",
        "AutoProcProgramMessage.message",
        "AutoProcScalingStatistics.comments",
        "DataCollectionGroup.comments",
        "PhasingProgramRun.phasingCommandLine",
        "PhasingProgramRun.phasingMessage",
        "ProcessingJob.comments",
        "Screening.comments",
        "Screening.shortComments",
        "ScreeningOutput.statusDescription",
        "ScreeningStrategySubWedge.comments",
        "ScreeningStrategyWedge.comments",
    }
)
"""Columns with text for people, which is cut to their length. Names, paths and identifiers never
are: cut they would name something else."""

CUT = "..."
"""End of a text that was cut."""

_BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INTEGER": 32, "BIGINT": 64}
"""Type of an integer column to its size."""

_BYTES = {"TINYTEXT": 255, "TEXT": 65535, "MEDIUMTEXT": 16777215, "LONGTEXT": 4294967295}
"""Type of a text column to the number of bytes in UTF-8 that it holds."""

_LARGEST_FLOAT = 3.4028234e38
"""Largest value of a column of type FLOAT, which has 32 bits."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(
    r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?)?"
)
"""Date and time as MySQL takes them beside the forms of ISO 8601."""

Column = sa.Column[object]


def checked(column: Column, value: object, where: str) -> object:
    """Return a value as the database takes it; None stays None.

    Args:
        column: Column of a table.
        value: A JSON value.
        where: Begin of the sentence: the command and the parameter.

    Raises:
        MessageError: The column does not take the value.
    """
    if value is None:
        return None
    try:
        return _check(column)(value)
    except ValueError as error:
        name = f"{column.table.name}.{column.name}"
        raise MessageError(f"{where} ({name}) is {short(value)}; {error}.") from None


@functools.cache
def _check(column: Column) -> Callable[[object], object]:
    """Return the check of a column, which is looked for once."""
    for kind, check in _CHECKS.items():
        if isinstance(column.type, kind):
            return functools.partial(check, column)
    raise TypeError(f"{column} has type {column.type}, for which there is no check")


def _one_of(column: Column, value: object) -> str:
    """Return one of the words that a column takes, spelt as it has it."""
    assert isinstance(column.type, sa.Enum)
    words: list[str] = column.type.enums
    for word in words:
        if str(value).lower() == word.lower():
            return word
    raise ValueError(f"one of {', '.join(map(repr, words))} is expected")


def _moment(_: Column, value: object) -> datetime:
    """Return a date and time of the local clock, in whole seconds, as MySQL has them."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str):
            found = _written_moment(value.strip())
        elif isinstance(value, datetime):
            found = value
        else:
            raise ValueError
        found = found.astimezone() if found.tzinfo else found
        return found.replace(tzinfo=None, microsecond=0)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            "a date and time such as '2026-11-29 01:20:38', with or without an offset, or seconds "
            "since 1970 are expected"
        ) from None


def _written_moment(text: str) -> datetime:
    """Return a date and time that is written in one of the accepted forms."""
    if found := _DATE.fullmatch(text):
        year, month, day, hour, minute, second = (int(each or 0) for each in found.groups())
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001  (local clock)
    return datetime.fromisoformat(text)


def _integer(column: Column, value: object) -> int:
    """Return a whole number in the range of a column."""
    kind = type(column.type).__name__.upper()
    if isinstance(value, bool) and kind != "TINYINT":
        raise ValueError("a whole number is expected")
    number = _as_number(value, "a whole number is expected")
    if number != int(number):
        raise ValueError("a whole number is expected")
    bits = _BITS[kind]
    least, most = -(2 ** (bits - 1)), 2**bits - 1
    if not least <= number <= most:
        raise ValueError(f"a whole number from {least} to {most} is expected")
    return int(number)


def _float(column: Column, value: object) -> float:
    """Return a finite number in the range of a column."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    number = _as_number(value, "a number is expected")
    double = isinstance(column.type, sa.Double)
    try:
        found = float(number)
    except OverflowError:
        found = math.inf
    if math.isinf(found) or (abs(found) > _LARGEST_FLOAT and not double):
        raise ValueError(f"a number of {64 if double else 32} bits is expected")
    return found


def _as_number(value: object, expected: str) -> int | float:
    """Return a number, or the number that a text is."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("$"):
            raise ValueError(f"no earlier command stored a result of this name, and {expected}")
        if len(text) > 60 or not _NUMBER.fullmatch(text):
            raise ValueError(expected)
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    if not isinstance(value, (int, float)):
        raise ValueError(expected)
    if not math.isfinite(value) if isinstance(value, float) else False:
        raise ValueError(f"the database holds no such number; {expected}, or null")
    return value


def _text(column: Column, value: object) -> str:
    """Return a text that fits into a column; one for people is cut."""
    if isinstance(value, bool):
        value = int(value)  # as the database writes it
    if not isinstance(value, (str, int, float)):
        raise ValueError("a text is expected")
    text = str(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("a text without half characters (surrogates) is expected") from None
    assert isinstance(column.type, sa.String)
    most = column.type.length
    if most is None:
        most = _BYTES[type(column.type).__name__.upper()]
        fits, kind = size <= most, "bytes in UTF-8"
    else:
        fits, kind = len(text) <= most, "characters"
    if fits:
        return text
    if f"{column.table.name}.{column.name}" in FREE_TEXT:
        return _shortened(text, most, kind)
    given = len(text) if kind == "characters" else size
    raise ValueError(f"it has {given} {kind}, and at most {most} are accepted")


def _shortened(text: str, most: int, kind: str) -> str:
    """Return a text that is cut to a number of characters, or of bytes, with `CUT` at its end."""
    if kind == "characters":
        return text[: most - len(CUT)] + CUT
    return text.encode()[: most - len(CUT)].decode(errors="ignore") + CUT


_CHECKS: Mapping[type, Callable[[Column, object], object]] = {
    sa.Enum: _one_of,
    sa.DateTime: _moment,
    sa.Integer: _integer,
    sa.Float: _float,
    sa.String: _text,
}
"""Kind of column to its check, the special ones first: an Enum is a String."""
