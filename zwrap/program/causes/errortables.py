"""Tables of known errors that several definitions share: files in `errors`, beside definitions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zwrap.errors import ConfigurationError, ProgramError
from zwrap.message.jsontext import typed
from zwrap.program.causes.knownerrors import KnownError, check_errors

if TYPE_CHECKING:
    from zwrap.configuration.reading import Source


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of known errors."""

    errors: list[KnownError]
    description: str = ""
    where: list[str] = []
    """Places of errors whose entries name none."""
    begins: str = ""
    """Regular expression of what stands in front of the pattern of each entry."""


def read_table(file: Path) -> list[KnownError]:
    """Return the checked errors in a table; ProgramError, which names file and key, if wrong."""
    source = source_of_table(file)
    try:
        table = typed(source.data, Table)
    except msgspec.ValidationError:
        from zwrap.program.checks.faults import faults, placed  # which right tables do not need

        first = next(faults(source.data, Table))
        raise ProgramError(f"{placed(source.origin, first.route)}: {first.said}") from None
    errors = [_completed(each, table) for each in table.errors]
    check_errors(errors, source.origin, "errors")
    return errors


def _completed(error: KnownError, table: Table) -> KnownError:
    """Return an entry with what it has from its table."""
    return msgspec.structs.replace(
        error,
        where=error.where or table.where,
        pattern=f"{table.begins}(?:{error.pattern})" if table.begins else error.pattern,
    )


def source_of_table(file: Path) -> Source:
    """Return the keys and values in a table, each with its line; ProgramError if unreadable.

    Tables are read after the program's end, perhaps from a zwrap that was installed meanwhile: of a
    source only what earlier releases have is used here.
    """
    from zwrap.configuration.reading import read_file  # YAML is not needed by most jobs

    try:
        return read_file(file, "Table of errors")
    except ConfigurationError as error:
        raise ProgramError(str(error)) from None
