"""Parsers that fit many programs."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from zwrap.errors import MessageError, ProgramError, short
from zwrap.message.jsontext import decode

if TYPE_CHECKING:
    from zwrap.program.patterns import Pattern

Options = Mapping[str, object]
"""Options of a parser: those in the definition, and paths of the output's further files."""

Number = int | float | str
"""A number, or a text that does not hold a number."""

Value = Number | None
"""A number, a text that does not hold a number, or a missing value."""

_BEGIN_OF_NUMBER = frozenset("0123456789+-.iInN")
"""First characters of numbers, of ``inf`` and of ``nan``."""

MOST_ROWS = 1_000_000
"""Largest number of rows that a parser reads."""

MOST_KEPT = 50_000
"""Largest number of texts whose values are kept while a file is parsed."""

LARGEST_FILE = 256 * 1024 * 1024
"""Size of the largest file that parsers read, in bytes."""

TEXT_LIMIT = 64 * 1024
"""Size of the end of a file that parser `text` returns, in bytes."""


def number(text: str) -> Number:
    """Return the number that a text holds, else the text."""
    bare = text.strip()
    if bare[:1] not in _BEGIN_OF_NUMBER or "_" in bare:  # `_`: Python's own, and no program's
        return text
    try:
        return int(bare) if bare.lstrip("+-").isdecimal() and len(bare) < 4000 else float(bare)
    except ValueError:
        return text


def value(text: str) -> Value:
    """Return what a printed value means: None for ``****``, a number that did not fit its place."""
    if "." in text and "_" not in text:  # most values: tables have a million of them
        try:
            return float(text)
        except ValueError:
            pass
    is_missing = text[:2] == "**" and not text.strip("*")
    return None if is_missing else number(text)


class KnownValues(dict[str, Value]):
    """KnownValues by the texts that stand for them; each text is read once.

    Large tables hold few different texts: theirs are numbers of a few digits. A text whose value is
    not kept is read again, so that memory has a bound.

    Args:
        function: Function that returns the value of a text.
    """

    def __init__(self, function: Callable[[str], Value] = value) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: str) -> Value:
        """Return the value of a text that was not kept before, and keep it."""
        found = self._function(text)
        if len(self) < MOST_KEPT:
            self[text] = found
        return found


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
    found = options.get(name)
    if not isinstance(found, str):
        raise ProgramError(f"Parser {parser!r} needs a text under options, key {name!r}.")
    return found


def texts(options: Options, name: str) -> list[str]:
    """Return an option that is a list of texts, empty if it is missing; ProgramError otherwise."""
    found = options.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ProgramError(f"Option {name!r} of a parser is {short(found)}; texts are expected.")
    return found


def beside(options: Options, name: str) -> Path | None:
    """Return a further file for the parser; None if the run did not write it."""
    found = options.get(name)
    return found if isinstance(found, Path) else None


Row = TypeVar("Row")


def enough(rows: list[Row], options: Options, path: Path, what: str) -> list[Row]:
    """Return rows; ProgramError if they are fewer than option `rows` says, or one."""
    least = options.get("rows", 1)
    if not isinstance(least, int):
        raise ProgramError(f"Option 'rows' of a parser is {short(least)}; a number is expected.")
    if len(rows) < least:
        raise ProgramError(f"{path} holds {len(rows)} {what}; at least {least} are expected.")
    return rows


def limited(rows: Iterable[Row], path: Path) -> list[Row]:
    """Return rows as a list; ProgramError if they are more than `MOST_ROWS`."""
    found = list(itertools.islice(rows, MOST_ROWS + 1))
    if len(found) > MOST_ROWS:
        raise ProgramError(f"{path} holds more than {MOST_ROWS} rows.")
    return found


def at_key(found: object, options: Options, path: Path) -> object:
    """Return the value to which option `key` leads, or the whole without one."""
    key = str(options.get("key") or "")
    if not key:
        return found
    from zwrap.program.parsers.route import follow

    return follow(found, key, str(path))


def parse_json(path: Path, options: Options) -> object:
    """Return the value in a JSON file, or what option `key` leads to; with `columns` as rows."""
    try:
        found = decode(content(path), f"file {path}")
    except MessageError as error:
        raise ProgramError(str(error)) from None
    found = at_key(found, options, path)
    return _rows_of_columns(found, path) if options.get("columns") else found


def _rows_of_columns(columns: object, path: Path) -> list[dict[str, object]]:
    """Return the rows of an object of lists of one length; ProgramError if it is none."""
    lists = list(columns.values()) if isinstance(columns, dict) else []
    if not lists or not all(
        isinstance(each, list) and len(each) == len(lists[0]) for each in lists
    ):
        raise ProgramError(f"{path} holds no object of lists of one length.")
    assert isinstance(columns, dict)
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


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
    pattern = compiled(str(options["pattern"]), "pattern", path)
    return [line for line in lines if pattern.search(line)]


def parse_regex(path: Path, options: Options) -> object:
    """Return the named groups of option `pattern`, each from its last match, or all matches."""
    pattern = option(options, "pattern", "regex")
    matches = compiled(pattern, "pattern", path).matches(read(path))
    if options.get("all"):
        rows = limited(({k: _group(v) for k, v in m.groupdict().items()} for m in matches), path)
        return enough(rows, options, path, f"matches of '{pattern}'")
    groups: dict[str, str] | None = None
    for match in matches:
        groups = groups or {}
        groups |= {key: found for key, found in match.groupdict().items() if found}
    if groups is None:
        raise ProgramError(f"{path} does not match '{pattern}'.")
    return {key: value(found) for key, found in groups.items()}


def _group(text: str | None) -> Value:
    """Return the value of a group, None for one that took no part in the match."""
    return None if text is None else value(text)


def compiled(pattern: str, key: str, path: Path) -> Pattern:
    """Return an option of a parser as a regular expression; ProgramError if it is none."""
    from zwrap.program.patterns import Pattern

    return Pattern(pattern, f"{path}, option {key!r}")
