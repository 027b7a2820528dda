"""Files with delimited values (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from zwrap.errors import ProgramError, short
from zwrap.program.parsers.generic import (
    KnownValues,
    Options,
    Value,
    enough,
    limited,
    read,
    texts,
    value,
)


def parse_csv(path: Path, options: Options) -> object:
    """Return the rows, whose columns the first line names; an empty value is None."""
    delimiter = options.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ProgramError(f"Option 'delimiter' is {short(delimiter)}; one character is expected.")
    text = read(path).removeprefix("\ufeff")
    try:
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        names = texts(options, "names") or next((line for line in lines if line), [])
        rows = limited(_rows(names, lines, path), path)
    except (csv.Error, ValueError, TypeError) as error:
        raise ProgramError(f"{path} is not readable as delimited values: {error}.") from None
    return enough(rows, options, path, "rows")


def _rows(names: list[str], lines: Iterator[list[str]], path: Path) -> Iterator[dict[str, Value]]:
    """Yield the rows; ProgramError for one that has more or fewer values than there are names."""
    columns = [name.strip() for name in names]
    known = KnownValues(_cell)
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) != len(names):
            raise ProgramError(
                f"{path} has {len(line)} values in row {number} below its header; the "
                f"{len(names)} columns are {', '.join(names)[:200]}."
            )
        yield dict(zip(columns, map(known.__getitem__, line), strict=True))


def _cell(text: str) -> Value:
    """Return the value of a cell; None for an empty one."""
    bare = text.strip()
    return value(bare) if bare else None
