"""Parsers that fit many programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zwrap.errors import ProgramError

TEXT_LIMIT = 64 * 1024


def number(text: str) -> int | float | str:
    """`text` as a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read(path: Path) -> str:
    """The text of a file; bytes that are not UTF-8 become replacement characters."""
    return path.read_text(encoding="utf-8", errors="replace")


def option(options: Mapping[str, Any], name: str, parser: str) -> str:
    """A text option that the parser cannot do without."""
    value = options.get(name)
    if not isinstance(value, str):
        raise ProgramError(f"Parser {parser!r} needs a text under options, key {name!r}.")
    return value


def parse_json(path: Path, options: Mapping[str, Any]) -> Any:
    """The file's JSON value; with option `key`, the value at that dotted path."""
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProgramError(f"{path} is not valid JSON: {error}.") from None
    for key in filter(None, str(options.get("key", "")).split(".")):
        if not isinstance(value, dict) or key not in value:
            raise ProgramError(f"{path} has no key {options['key']!r}.")
        value = value[key]
    return value


def parse_text(path: Path, options: Mapping[str, Any]) -> str:
    """The last 64 KiB of the file as text."""
    del options
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TEXT_LIMIT))
        return file.read().decode("utf-8", "replace")


def parse_lines(path: Path, options: Mapping[str, Any]) -> list[str]:
    """Lines of the file that are not empty; with option `pattern`, those that match."""
    pattern = re.compile(str(options.get("pattern", "")))
    return [line for line in read(path).splitlines() if line.strip() and pattern.search(line)]


def parse_regex(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Named groups of option `pattern`, each from its last match, numbers as numbers."""
    pattern = option(options, "pattern", "regex")
    matches = list(re.finditer(pattern, read(path), re.MULTILINE))
    if not matches:
        raise ProgramError(f"{path} does not match {pattern!r}.")
    groups = {key: value for match in matches for key, value in match.groupdict().items() if value}
    return {key: number(value) for key, value in groups.items()}


def parse_table(path: Path, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows below the line that option `header` matches, until a line with other columns."""
    header = re.compile(option(options, "header", "table"))
    lines = iter(read(path).splitlines())
    for line in lines:
        if header.search(line):
            return table_rows(line.split(), list(lines))
    raise ProgramError(f"{path} has no table with a header like {header.pattern!r}.")


def table_rows(names: list[str], lines: list[str]) -> list[dict[str, Any]]:
    """Rows of as many words as there are names, up to the first line that differs."""
    rows = []
    for line in lines:
        words = line.split()
        if len(words) != len(names):
            break
        rows.append({name: number(word) for name, word in zip(names, words, strict=True)})
    return rows
