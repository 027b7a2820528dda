"""Corrections: the job parameters that a known error changes for a further attempt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from zwrap.errors import ProgramError, short
from zwrap.program.causes.knownerrors import FIELD
from zwrap.program.definition import Definition
from zwrap.program.keys.inputs import Place, converted

Route = tuple[str, ...]
"""Keys of a value below `job_parameters`, from the outermost."""


def check_corrections(definition: Definition, at: Place) -> None:
    """Raise ProgramError for a correction of what the program does not know.

    Only errors of the definition itself are checked: a table may be that of several programs.
    `at`: function from keys, from the outermost, to file and line.
    """
    for number, error in enumerate(definition.errors):
        if error.retry is not None:
            try:
                corrected(definition, error.retry.set, {})
            except ProgramError as wrong:
                place = at("errors", str(number), "retry", "set")
                raise ProgramError(
                    f"{place}, known error {error.cause!r}, key 'retry.set': {wrong}"
                ) from None


def corrected(
    definition: Definition, changes: Mapping[str, object], job_parameters: Mapping[str, object]
) -> dict[Route, object]:
    """Return the values of a correction by their places below `job_parameters`.

    Raises:
        ProgramError: The program knows no such input or option, or the value does not suit it.
    """
    return {
        _place(definition, route, job_parameters): _fitting(definition, route, value)
        for key, given in changes.items()
        for route, value in _leaves((key,), given)
    }


def _fitting(definition: Definition, route: Route, value: object) -> object:
    """Return a value in the type of its input; ProgramError if it does not fit."""
    name = ".".join(route)
    declared = definition.inputs.get(name)
    if declared is None or (isinstance(value, str) and re.search(FIELD, value)):  # filled in later
        return value
    return converted(declared, value, f"input {name!r}")


def _leaves(route: Route, value: object) -> Iterator[tuple[Route, object]]:
    """Yield the places and values of one entry; a mapping stands for its entries."""
    if not isinstance(value, Mapping):
        yield route, value
        return
    for key, inner in value.items():
        yield from _leaves((*route, str(key)), inner)


def _place(definition: Definition, route: Route, job_parameters: Mapping[str, object]) -> Route:
    """Return the place of an input, or of an option, which may be written with dots."""
    name = ".".join(route)
    if name in definition.inputs:
        block = definition.inputs[name].block
        if block is None:  # a block with the program's name goes before the rest
            inner = job_parameters.get(definition.name)
            block = definition.name if isinstance(inner, Mapping) and name in inner else None
        return (block, name) if block else (name,)
    for options in sorted(definition.options, key=lambda each: -len(each.block)):
        key = name.removeprefix(f"{options.block}.")
        if key not in (name, "") and (not options.only_named or key in options.names):
            return options.block, key
    raise ProgramError(
        f"the program has no input {short(name)}, and no block of options with one of that name; "
        f"inputs: {', '.join(definition.inputs) or 'none'}; blocks: "
        f"{', '.join(block.block for block in definition.options) or 'none'}."
    )
