"""Tables that programs print: columns of words, between ``|``, or below groups of ``=``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import (
    KnownValues,
    Options,
    Value,
    compiled,
    enough,
    limited,
    option,
    read,
    texts,
    value,
)

Row = dict[str, Value]

_GROUPS = re.compile(r"=+(?: +=+)+ *|-+(?: +-+)+ *")
"""A rule whose groups stand above, or below, the columns."""


def cell(text: str) -> Value:
    """Return the value in a table; a mark (``*``, ``%``) behind a number is left out."""
    found = value(text)
    if isinstance(found, str) and found[-1:] in ("*", "%"):
        bare = value(found.rstrip("*%"))
        return found if isinstance(bare, str) else bare
    return found


def _is_rule(line: str) -> bool:
    """Return True for a line of dashes between header and rows, or between rows."""
    return any(each in line for each in ("--", "==", "__")) and not line.strip("-+=|:_ \t")


def parse_table(path: Path, options: Options) -> object:
    """Return the rows of the first, or the last, table with a header that option `header` finds."""
    wanted = option(options, "header", "table")
    header = compiled(wanted, "header", path)
    lines = read(path).splitlines()
    found = (number for number, line in enumerate(lines) if header.search(line))
    starts = list(found) if options.get("which") == "last" else list(itertools.islice(found, 1))
    if not starts:
        raise ProgramError(f"{path} has no table with a header like '{wanted}'.")
    rows = limited(_rows(lines, starts[-1], texts(options, "names"), path), path)
    return enough(rows, options, path, f"rows below a header like '{wanted}'")


def _rows(lines: Sequence[str], start: int, names: list[str], path: Path) -> Iterator[Row]:
    """Yield the rows of the table whose header begins in line `start`."""
    if lines[start].lstrip().startswith("|"):
        return _between_bars(lines, start, names, path)
    rule = start + 1
    if rule < len(lines) and _GROUPS.fullmatch(lines[rule].strip()):
        return _below_groups(lines, start, names, path)
    rest = itertools.islice(lines, rule, None)
    begun = itertools.dropwhile(lambda line: not line.strip() or _is_rule(line), rest)
    return word_rows(names or lines[start].split(), begun)


def word_rows(names: Sequence[str], lines: Iterator[str]) -> Iterator[Row]:
    """Yield the rows, up to the first line whose number of words differs from that of names."""
    known = KnownValues(cell)
    for line in lines:
        words = line.split()
        if len(words) != len(names):
            return
        yield dict(zip(names, map(known.__getitem__, words), strict=True))


def table_rows(names: list[str], lines: list[str]) -> list[Row]:
    """Return the rows as `word_rows` yields them."""
    return list(word_rows(names, iter(lines)))


def _between_bars(lines: Sequence[str], start: int, names: list[str], path: Path) -> Iterator[Row]:
    """Yield the rows of a table with ``|``, whose header may have several lines (units)."""
    heads: list[list[str]] = []
    for number in range(start, len(lines)):
        line = lines[number].strip()
        if _is_rule(line):
            if heads:
                break
        elif line.startswith("|"):
            heads.append(cells_of(line))
        else:
            break
    width = max(map(len, heads))
    columns = _names([" ".join(filter(None, part)) for part in _columns(heads, width)], names, path)
    for line in map(str.strip, itertools.islice(lines, start + len(heads), None)):
        if not line.startswith(("|", "+")):
            return
        if not _is_rule(line) and not line.startswith("+"):
            yield _row(columns, cells_of(line))


def _columns(rows: list[list[str]], width: int) -> Iterator[tuple[str, ...]]:
    """Yield the columns of rows, which are filled up with empty cells."""
    return zip(*(row + [""] * (width - len(row)) for row in rows), strict=True)


def cells_of(line: str) -> list[str]:
    """Return the cells of a line with ``|``."""
    return [each.strip() for each in line.removeprefix("|").removesuffix("|").split("|")]


def _below_groups(lines: Sequence[str], start: int, names: list[str], path: Path) -> Iterator[Row]:
    """Yield the rows of a table in whose rule each column has a group of ``=`` or ``-``."""
    spans = [match.span() for match in re.finditer(r"[=-]+", lines[start + 1])]

    def cells(line: str) -> list[str]:
        return [
            line[begin : end if number < len(spans) - 1 else None].strip()
            for number, (begin, end) in enumerate(spans)
        ]

    columns = _names(cells(lines[start]), names, path)
    for line in itertools.islice(lines, start + 2, None):
        if not line.strip() or _GROUPS.fullmatch(line.strip()):
            return
        yield _row(columns, cells(line))


def _row(columns: Sequence[str], cells: Sequence[str]) -> Row:
    """Return a row; a cell that is empty, or not there, is None."""
    filled = itertools.zip_longest(columns, cells[: len(columns)], fillvalue="")
    return {name: cell(text) if text else None for name, text in filled}


def _names(printed: list[str], given: list[str], path: Path) -> list[str]:
    """Return the names of columns: those that are given, else the printed ones, made different."""
    if given and len(given) != len(printed):
        raise ProgramError(
            f"{path} has a table of {len(printed)} columns ({', '.join(printed)[:200]}); option "
            f"'names' holds {len(given)} names."
        )
    names: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(given or printed, 1):
        unlike = name if name not in taken and name else f"{name or 'column'} {number}"
        names.append(unlike)
        taken.add(unlike)
    return names
