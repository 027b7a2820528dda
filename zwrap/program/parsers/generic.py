"""Parsers that fit many programs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from zwrap.errors import ProgramError

Options = Mapping[str, object]
"""Options of a parser: those in the definition, and paths of the output's further files."""

Number = int | float | str
"""A number, or a text that does not hold a number."""

TEXT_LIMIT = 64 * 1024
"""Size of the end of a file that parser `text` returns, in bytes."""


def number(text: str) -> Number:
    """Return the number that a text holds, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read(path: Path) -> str:
    """Return the text of a file; bytes that are not UTF-8 become replacement characters."""
    return path.read_text(encoding="utf-8", errors="replace")


def option(options: Options, name: str, parser: str) -> str:
    """Return a text option; ProgramError if it is missing or of another type."""
    value = options.get(name)
    if not isinstance(value, str):
        raise ProgramError(f"Parser {parser!r} needs a text under options, key {name!r}.")
    return value


def beside(options: Options, name: str) -> Path | None:
    """Return a further file for the parser; None if the run did not write it."""
    value = options.get(name)
    return value if isinstance(value, Path) else None


def parse_json(path: Path, options: Options) -> object:
    """Return the value in a JSON file; with option `key`, the value at that dotted path."""
    try:
        value: object = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProgramError(f"{path} is not valid JSON: {error}.") from None
    for key in filter(None, str(options.get("key", "")).split(".")):
        if not isinstance(value, dict) or key not in value:
            raise ProgramError(f"{path} has no key {options['key']!r}.")
        value = value[key]
    return value


def parse_text(path: Path, options: Options) -> object:
    """Return the last `TEXT_LIMIT` bytes of a file as text."""
    del options
    # Without `zwrap.host.files`: parsers are loaded after the program's end, perhaps from a zwrap
    # that was installed meanwhile over the running one. They import nothing that may have moved.
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TEXT_LIMIT))
        return file.read().decode("utf-8", "replace")


def parse_lines(path: Path, options: Options) -> object:
    """Return the lines of a file that are not blank; with option `pattern`, those that match."""
    pattern = re.compile(str(options.get("pattern", "")))
    return [line for line in read(path).splitlines() if line.strip() and pattern.search(line)]


def parse_regex(path: Path, options: Options) -> object:
    """Return the named groups of option `pattern`, each from its last match."""
    pattern = option(options, "pattern", "regex")
    matches = list(re.finditer(pattern, read(path), re.MULTILINE))
    if not matches:
        raise ProgramError(f"{path} does not match {pattern!r}.")
    groups = {key: value for match in matches for key, value in match.groupdict().items() if value}
    return {key: number(value) for key, value in groups.items()}


def parse_table(path: Path, options: Options) -> object:
    """Return the rows below the line that option `header` matches, whose words name the columns."""
    header = re.compile(option(options, "header", "table"))
    lines = iter(read(path).splitlines())
    for line in lines:
        if header.search(line):
            return table_rows(line.split(), list(lines))
    raise ProgramError(f"{path} has no table with a header like {header.pattern!r}.")


def table_rows(names: list[str], lines: list[str]) -> list[dict[str, Number]]:
    """Return the rows, up to the first line whose number of words differs from that of names."""
    rows = []
    for line in lines:
        words = line.split()
        if len(words) != len(names):
            break
        rows.append({name: number(word) for name, word in zip(names, words, strict=True)})
    return rows
