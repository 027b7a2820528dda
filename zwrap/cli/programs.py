"""Definitions and job parameters that a command line of `zwrap program` names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from zwrap.errors import RequestError, UnknownNameError
from zwrap.program.definition import Definition
from zwrap.program.reading import find_program, program_names, read_definition
from zwrap.units import key_value

SUFFIX = ".yaml"
"""End of the name of a file that holds a definition."""


def named(
    name: str, programs: Path | None, parameters: Mapping[str, object] | None = None
) -> Definition:
    """Return the definition of a program; a name that ends in ``.yaml`` is that of a file.

    Args:
        name: The name.
        programs: Directory of the site's definitions.
        parameters: Job parameters, which hold the definition of program `command`.

    Raises:
        ProgramError: The definition is wrong.
        UnknownNameError: There is none of that name.
    """
    if name.endswith(SUFFIX):
        return read_definition(Path(name).absolute())  # tables of errors lie beside it
    if (found := find_program(name, parameters or {}, programs)) is None:
        raise UnknownNameError(
            "program", name, program_names(programs), "Python wrappers have none"
        )
    return found


def checked(name: str, programs: Path | None, parameters: Mapping[str, object]) -> Definition:
    """Return the definition of a program as `named` does, if it refers to things that exist only.

    Raises:
        ProgramError: The definition is wrong.
        FaultsError: It has several faults.
        UnknownNameError: There is none of that name.
    """
    from zwrap.program.checks.checking import check_file

    found = named(name, programs, parameters)
    return check_file(Path(found.source), parameters) if found.source.endswith(SUFFIX) else found


def job_parameters(given: Iterable[str], definition: Definition | None = None) -> dict[str, object]:
    """Return the job parameters of a command line: JSON or text; a key that is repeated is a list.

    An input that `definition` says is a text, or names a file, is taken as it is written. Raises
    RequestError for an argument without ``=``.
    """
    inputs = definition.inputs if definition else {}
    plain = {name for name, each in inputs.items() if each.item in ("text", "file")}
    values: dict[str, list[object]] = {}
    for argument in given:
        key, text = key_value(argument, "a job parameter")
        is_list = key in plain and inputs[key].type == "list" and text.startswith("[")
        value = text if key in plain and not is_list else value_of(text)
        values.setdefault(key, []).append(value)
    return {key: each if len(each) > 1 else each[0] for key, each in values.items()}


def value_of(text: str) -> object:
    """Return the value of a text that is JSON, else the text; ``NaN`` is a text, as in JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    """Raise ValueError for a number that JSON lacks."""
    raise ValueError(constant)


def payload_of(text: str | None) -> object:
    """Return the payload in an option; RequestError if it is no JSON text."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"--payload holds no JSON text: {error}.") from None
