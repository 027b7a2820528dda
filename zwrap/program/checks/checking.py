"""The full check of a definition: form, rules, and what it refers to; each fault has its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from zwrap.errors import FaultsError, ProgramError, UnknownNameError
from zwrap.program.causes.errortables import read_table, source_of_table
from zwrap.program.checks.faults import Fault, faults, placed
from zwrap.program.checks.references import complaints
from zwrap.program.checks.remarks import remarks
from zwrap.program.checks.searches import error_faults
from zwrap.program.definition import Definition
from zwrap.program.reading import Place, parse_definition, read_source


def check_file(path: Path, further: Collection[str] = ()) -> Definition:
    """Return the definition in a file, which refers to things that exist only.

    `further`: names that have values beside the definition's own.

    Raises:
        ProgramError: The definition has a fault, or the file cannot be read.
        FaultsError: It has several.
    """
    source = read_source(path)
    return checked(source.data, str(path), path.stem, source.begin, further)


def checked(
    data: Mapping[str, object],
    source: str,
    name: str,
    at: Place | None = None,
    further: Collection[str] = (),
) -> Definition:
    """Return a definition, which refers to things that exist only.

    Args:
        data: Keys and values of the definition.
        source: File that holds them, for messages.
        name: Name of the program if `data` does not hold one.
        at: Function from keys, from the outermost, to file and line; None: there is no file.
        further: Names that have values beside the definition's own.

    Raises:
        ProgramError: The definition has a fault.
        FaultsError: It has several.
    """
    check_form(data, source, name, at)
    try:
        definition = parse_definition(data, source, name, at)
    except UnknownNameError as error:
        if not error.where:
            raise
        said = str(error).replace(f" ({error.where})", "", 1)  # the place goes before, as in others
        raise ProgramError(f"{error.where}: {said}") from None
    _raise(complaints(definition, further), source, at)
    return definition


def check_table(path: Path) -> None:
    """Raise ProgramError, or FaultsError for several, for the faults of a table of errors."""
    errors = read_table(path)
    found = list(error_faults(errors))
    if found:
        _raise(found, str(path), source_of_table(path).begin)


def remarked(definition: Definition) -> Iterator[str]:
    """Yield each remark on the definition in a file, behind its place."""
    found = list(remarks(definition))
    at = read_source(Path(definition.source)).begin if found else None
    yield from (f"{placed(at, each.route)}: {each.said}" for each in found if at)


def check_form(data: Mapping[str, object], source: str, name: str, at: Place | None = None) -> None:
    """Raise ProgramError or FaultsError if keys or types in a definition are wrong."""
    _raise(faults({"name": name, **data}, Definition), source, at)


def _raise(found: Iterable[Fault], source: str, at: Place | None) -> None:
    """Raise a ProgramError for a fault, or a FaultsError for several; return if there is none."""
    place = at or (lambda *_: source)
    errors = [ProgramError(f"{placed(place, fault.route)}: {fault.said}") for fault in found]
    if len(errors) > 1:
        raise FaultsError(errors)
    if errors:
        raise errors[0]
