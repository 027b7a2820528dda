"""The known errors of a definition: its own, and those of its tables, read when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zwrap.errors import ProgramError, UnknownNameError
from zwrap.program.causes.knownerrors import EXIT_STATUS, OUTPUT, KnownError, places
from zwrap.program.definition import SHIPPED_PROGRAMS, Definition
from zwrap.recipe.substitution import fill

if TYPE_CHECKING:
    from zwrap.program.causes.recognition import Recognized
    from zwrap.program.run import Run

log = logging.getLogger(__name__)

DIRECTORY = "errors"
"""Name of the directory of tables, in a directory of definitions."""

SHIPPED = SHIPPED_PROGRAMS / DIRECTORY
"""Directory of the tables that come with zwrap."""


class KnownErrors:
    """The known errors of a definition: its own, then those of its tables, read when needed.

    Args:
        definition: The definition.
        known: Values of placeholders in file names, by name.
    """

    def __init__(self, definition: Definition, known: Mapping[str, object]) -> None:
        self._definition = definition
        self._known = known

    def __bool__(self) -> bool:
        """Return True if the definition names errors, or tables of them."""
        return bool(self._definition.errors or self._definition.errors_of)

    @cached_property
    def entries(self) -> list[KnownError]:
        """All known errors, with placeholders in names of files filled in."""
        given = self._definition
        found = known_errors(given.errors, given.errors_of, given.source)
        return [
            replace(error, where=[fill(place, self._known) for place in places(error)])
            for error in found
        ]

    @property
    def patterns(self) -> list[str]:
        """Patterns of the files in which the definition's own errors are looked for."""
        named = [place for error in self._definition.errors for place in places(error)]
        filled_in = [fill(name, self._known) for name in named]
        return [name for name in filled_in if name not in (*OUTPUT, EXIT_STATUS)]

    def recognized(self, run: Run) -> Recognized | None:
        """Return the first known error that a run shows; None: it shows none."""
        from zwrap.program.causes.recognition import recognized  # few runs fail

        try:
            return recognized(self.entries, run.alone) if self else None
        except ProgramError as error:  # of use for an explanation only
            log.warning("The cause is not looked for any further: %s", error)
            return None


def tables_in(directory: Path) -> list[Path]:
    """Return the files of the tables in a directory of definitions, sorted by name."""
    found = (directory / DIRECTORY).glob("*.yaml")
    return sorted(file for file in found if not file.is_dir())


def known_errors(own: Iterable[KnownError], names: Iterable[str], source: str) -> list[KnownError]:
    """Return the known errors of a definition, its own first.

    A table that cannot be read is logged: it is of use only where something else failed.

    Args:
        own: Errors in the definition.
        names: Names of its tables.
        source: File of the definition.
    """
    from zwrap.program.causes.errortables import read_table  # while the program runs, or after it

    found = list(own)
    for name in names:
        try:
            if file := table_file(name, source):
                found += read_table(file)
        except ProgramError as error:
            log.warning("Known errors are not looked for: %s", error)
    return found


def check_names(names: Iterable[str], source: str, where: str) -> None:
    """Raise UnknownNameError for a table that there is not; `source`: file of the definition."""
    for name in names:
        if table_file(name, source) is None:
            known = {file.stem for place in _directories(source) for file in place.glob("*.yaml")}
            raise UnknownNameError("table of errors", name, known, where)


def _directories(source: str) -> list[Path]:
    """Return the directories of tables for a definition, the one beside its file first."""
    beside = Path(source).with_name(DIRECTORY) if source.startswith("/") else SHIPPED
    return [beside, SHIPPED]


def table_file(name: str, source: str) -> Path | None:
    """Return the file of a table; None: there is none of that name."""
    files = (place / f"{name}.yaml" for place in _directories(source))
    return next((file for file in files if "/" not in name and file.is_file()), None)
