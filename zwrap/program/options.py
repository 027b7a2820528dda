"""Options of a program: blocks of a step's job parameters, as arguments and in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from zwrap.errors import ProgramError
from zwrap.program.definition import Definition, OptionBlock, ParameterFile
from zwrap.recipe.substitution import fill


class Option(NamedTuple):
    """One option."""

    name: str
    value: str
    printed: str
    """Form as an argument."""


def option_arguments(definition: Definition, known: Mapping[str, object]) -> list[str]:
    """Return the arguments for the blocks of `job_parameters` that hold options."""
    arguments = []
    for option in _options(definition, known):
        file = _parameter_file(definition, option.name)
        argument = file.argument if file else option.printed
        if not file or argument not in arguments:
            arguments.append(argument)
    return arguments


def parameter_files(definition: Definition, known: Mapping[str, object]) -> dict[str, str]:
    """Return the content of the files that the program needs for its options, by file name."""
    contents: dict[str, str] = {}
    named = {file.option: file.content for file in definition.option_files}
    for option in _options(definition, known):
        file = _parameter_file(definition, option.name)
        if file:
            contents[file.file] = contents.get(file.file, "") + option.printed + "\n"
        elif option.name in named:
            contents[option.value] = fill(named[option.name], known)
    return contents


def _parameter_file(definition: Definition, name: str) -> ParameterFile | None:
    """Return the parameter file for an option; None: the option is an argument."""
    return next((f for f in definition.parameter_files if name.startswith(f.prefix)), None)


def _options(definition: Definition, known: Mapping[str, object]) -> Iterator[Option]:
    """Yield the options of all blocks; ProgramError for a block that is not an object."""
    command = definition.command
    used = command if isinstance(command, str) else " ".join(command)
    for declared in definition.options:
        block = known.get(declared.block)
        if block is None:
            continue
        where = f"job_parameters, key {declared.block!r}"
        if not isinstance(block, Mapping):
            raise ProgramError(f"{where} holds a {type(block).__name__}; an object is expected.")
        for key, value in block.items():
            consumed = key in definition.inputs and f"{{{key}}}" in used
            wanted = key in declared.names or not declared.only_named
            if wanted and not consumed and key not in declared.without:
                yield from _option(declared, key, value, f"{where}, key {key!r}")


def _option(declared: OptionBlock, key: str, value: object, where: str) -> Iterator[Option]:
    """Yield the option of one entry, several for a list; ProgramError for nested values."""
    if isinstance(value, str) and key in declared.split:
        value = [entry.strip() for entry in value.split(",")]
    if isinstance(value, list) and key in declared.join:
        value = ",".join(map(str, value))
    name = declared.names.get(key, key)
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, (Mapping, list)):
            raise ProgramError(
                f"{where} holds a {type(entry).__name__}; a text, a number or a list of them is "
                "expected."
            )
        if entry not in (None, ""):
            yield Option(name, str(entry), declared.format.format(name=name, value=entry))
