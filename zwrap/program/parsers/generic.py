"""Parsers that fit many programs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zwrap.errors import MessageError, ProgramError
from zwrap.message.jsontext import decode

if TYPE_CHECKING:
    from zwrap.program.patterns import Pattern

Options = Mapping[str, object]
"""Options of a parser: those in the definition, and paths of the output's further files."""

Number = int | float | str
"""A number, or a text that does not hold a number."""

LARGEST_FILE = 256 * 1024 * 1024
"""Size of the largest file that parsers read, in bytes."""

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


def _opened(path: Path) -> BinaryIO:
    """Return a regular file that is open to read, or one to which a link leads.

    Without `zwrap.host.files`: parsers are loaded after the program's end, perhaps from a zwrap
    that was installed meanwhile over the running one. They import nothing that may have moved.
    Raises ProgramError for anything else, such as a named pipe, which would be waited for.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ProgramError(f"{path} is not a regular file.")


def content(path: Path) -> bytes:
    """Return the content of a regular file; ProgramError if it is larger than `LARGEST_FILE`."""
    with _opened(path) as file:
        # Python reserves what it is asked to read, and jobs have limits of memory.
        found = file.read(min(os.fstat(file.fileno()).st_size, LARGEST_FILE) + 1)
    if len(found) > LARGEST_FILE:
        raise ProgramError(
            f"{path} is larger than {LARGEST_FILE} bytes; parsers read no file of that size."
        )
    return found


def read(path: Path) -> str:
    """Return the text of a file; bytes that are not UTF-8 become replacement characters."""
    return content(path).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def first_character(path: Path) -> str:
    """Return the first character of a file that is not blank; empty if there is none near."""
    with _opened(path) as file:
        return file.read(1024).decode("utf-8-sig", "replace").lstrip()[:1]


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
        value = decode(content(path), f"file {path}")
    except MessageError as error:
        raise ProgramError(str(error)) from None
    for key in filter(None, str(options.get("key", "")).split(".")):
        if not isinstance(value, dict) or key not in value:
            raise ProgramError(f"{path} has no key {options['key']!r}.")
        value = value[key]
    return value


def parse_text(path: Path, options: Options) -> object:
    """Return the last `TEXT_LIMIT` bytes of a file as text."""
    del options
    with _opened(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TEXT_LIMIT))
        return file.read().decode("utf-8", "replace")


def parse_lines(path: Path, options: Options) -> object:
    """Return the lines of a file that are not blank; with option `pattern`, those that match."""
    lines = [line for line in read(path).splitlines() if line.strip()]
    if not options.get("pattern"):
        return lines
    pattern = _pattern(str(options["pattern"]), "pattern", path)
    return [line for line in lines if pattern.search(line)]


def parse_regex(path: Path, options: Options) -> object:
    """Return the named groups of option `pattern`, each from its last match."""
    pattern = option(options, "pattern", "regex")
    groups: dict[str, str] | None = None
    for match in _pattern(pattern, "pattern", path).matches(read(path)):
        groups = groups or {}
        groups |= {key: value for key, value in match.groupdict().items() if value}
    if groups is None:
        raise ProgramError(f"{path} does not match {pattern!r}.")
    return {key: number(value) for key, value in groups.items()}


def _pattern(pattern: str, key: str, path: Path) -> Pattern:
    """Return an option of a parser as a regular expression; ProgramError if it is none."""
    from zwrap.program.patterns import Pattern

    return Pattern(pattern, f"{path}, option {key!r}")


def parse_table(path: Path, options: Options) -> object:
    """Return the rows below the line that option `header` matches, whose words name the columns."""
    pattern = option(options, "header", "table")
    header = _pattern(pattern, "header", path)
    lines = iter(read(path).splitlines())
    for line in lines:
        if header.search(line):
            return table_rows(line.split(), list(lines))
    raise ProgramError(f"{path} has no table with a header like {pattern!r}.")


def table_rows(names: list[str], lines: list[str]) -> list[dict[str, Number]]:
    """Return the rows, up to the first line whose number of words differs from that of names."""
    rows = []
    for line in lines:
        words = line.split()
        if len(words) != len(names):
            break
        rows.append({name: number(word) for name, word in zip(names, words, strict=True)})
    return rows
