"""Tables of known errors that several definitions share: files in `errors`, beside definitions."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from zwrap.errors import ConfigurationError, ProgramError, UnknownNameError
from zwrap.message.jsontext import typed
from zwrap.program.knownerrors import KnownError, check_errors

log = logging.getLogger(__name__)

DIRECTORY = "errors"
"""Name of the directory of tables, in a directory of definitions."""

SHIPPED = Path(__file__).with_name(DIRECTORY)
"""Directory of the tables that come with zwrap."""


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of known errors."""

    errors: list[KnownError]
    description: str = ""
    where: list[str] = []
    """Places of errors whose entries name none."""


def tables_in(directory: Path) -> list[Path]:
    """Return the files of the tables in a directory of definitions, sorted by name."""
    return sorted((directory / DIRECTORY).glob("*.yaml"))


def check_names(names: Iterable[str], source: str, where: str) -> None:
    """Raise UnknownNameError for a table that there is not; `source`: file of the definition."""
    for name in names:
        if _file(name, source) is None:
            known = {file.stem for place in _directories(source) for file in place.glob("*.yaml")}
            raise UnknownNameError("table of errors", name, known, where)


def known_errors(own: Iterable[KnownError], names: Iterable[str], source: str) -> list[KnownError]:
    """Return the known errors of a definition, its own first.

    A table that cannot be read is logged: it is of use only where something else failed.

    Args:
        own: Errors in the definition.
        names: Names of its tables.
        source: File of the definition.
    """
    found = list(own)
    for name in names:
        try:
            if file := _file(name, source):
                found += read_table(file)
        except ProgramError as error:
            log.warning("Known errors are not looked for: %s", error)
    return found


def read_table(file: Path) -> list[KnownError]:
    """Return the checked errors in a table; ProgramError, which names file and key, if wrong."""
    from zwrap.configuration.reading import read_file  # YAML is not needed by most jobs

    try:
        source = read_file(file, "Table of errors")
    except ConfigurationError as error:
        raise ProgramError(str(error)) from None
    try:
        table = typed(source.data, Table)
    except msgspec.ValidationError:
        from zwrap.program.faults import faults, placed  # which right tables do not need

        first = next(faults(source.data, Table))
        raise ProgramError(f"{placed(source.origin, first.route)}: {first.said}") from None
    check_errors(table.errors, source.origin, "errors")
    return [
        each if each.where else msgspec.structs.replace(each, where=table.where)
        for each in table.errors
    ]


def _directories(source: str) -> list[Path]:
    """Return the directories of tables for a definition, the one beside its file first."""
    beside = Path(source).with_name(DIRECTORY) if source.startswith("/") else SHIPPED
    return [beside, SHIPPED]


def _file(name: str, source: str) -> Path | None:
    """Return the file of a table; None: there is none of that name."""
    files = (place / f"{name}.yaml" for place in _directories(source))
    return next((file for file in files if "/" not in name and file.is_file()), None)
