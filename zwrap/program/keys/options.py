"""Options of a program: blocks of a step's job parameters, as arguments and in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import ProgramError, short
from zwrap.program.definition import Definition, OptionBlock, ParameterFile
from zwrap.program.keys.commandline import Command, conditions, texts
from zwrap.program.keys.written import OWN
from zwrap.recipe.lines import is_several_lines
from zwrap.recipe.pieces import Value, as_text
from zwrap.recipe.substitution import Filling


class Option(NamedTuple):
    """One option."""

    name: str
    value: str
    printed: list[str]
    """Form as arguments."""


def option_arguments(definition: Definition, known: Mapping[str, object]) -> list[str]:
    """Return the arguments for the blocks of `job_parameters` that hold options."""
    arguments = []
    for option in _options(definition, known):
        file = _parameter_file(definition, option.name)
        if not file:
            arguments += option.printed
        elif file.argument not in arguments:
            arguments.append(file.argument)
    return arguments


def parameter_files(definition: Definition, known: Mapping[str, object]) -> dict[str, str]:
    """Return the content of the files that the program needs for its options, by file name."""
    contents: dict[str, str] = {}
    named = {file.option: file.content for file in definition.option_files}
    for option in _options(definition, known):
        file = _parameter_file(definition, option.name)
        if file:
            line = _one_line(" ".join(option.printed), option.name)
            _check_not_own(file.file, definition.source)
            contents[file.file] = f"{contents.get(file.file, '')}{line}\n"
        elif option.name in named:
            pieces = Filling(known).pieces(named[option.name])
            for piece in pieces:
                if isinstance(piece, Value):
                    _one_line(piece.text, option.name)
            _check_not_own(option.value, f"job_parameters, option {option.name!r}")
            contents[option.value] = as_text(pieces)
    return contents


def _check_not_own(name: str, where: str) -> None:
    """Raise ProgramError for the name of a file that leads to zwrap's own."""
    if OWN in Path(name).parts:
        raise ProgramError(
            f"{where}: the file {name!r} would be among zwrap's own; a path without {OWN!r} is "
            "expected."
        )


def _one_line(text: str, option: str) -> str:
    """Return a text that is a part of one line of a file for an option; else raise ProgramError."""
    if is_several_lines(text):
        raise ProgramError(
            f"job_parameters, file for option {option!r}: {short(text)} has several lines; one "
            "line is expected, because further ones would be options of their own."
        )
    return text


def _used(definition: Definition) -> set[str]:
    """Return the names of the inputs that the commands of a definition use themselves."""
    found: set[str] = set()
    commands: list[Command | Definition] = [definition, *definition.then]
    for command in commands:
        words = " ".join([*texts(command.command), command.stdin or "", command.stdout or ""])
        found.update(name for name in definition.inputs if f"{{{name}}}" in words)
        found.update(conditions(command.command), command.for_each.values())
    return found | {each.if_ for each in definition.then if each.if_}


def _parameter_file(definition: Definition, name: str) -> ParameterFile | None:
    """Return the parameter file for an option; None: the option is an argument."""
    return next((f for f in definition.parameter_files if name.startswith(f.prefix)), None)


def _options(definition: Definition, known: Mapping[str, object]) -> Iterator[Option]:
    """Yield the options of all blocks; ProgramError for a block that is not an object."""
    used = _used(definition)
    for declared in definition.options:
        block = known.get(declared.block)
        if block is None:
            continue
        where = f"job_parameters, key {declared.block!r}"
        if not isinstance(block, Mapping):
            raise ProgramError(f"{where} holds a {type(block).__name__}; an object is expected.")
        for key, value in block.items():
            consumed = key in definition.inputs and key in used
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
        flag = _as_flag(entry) if declared.flag is not None else None
        if entry in (None, "") or flag is False:
            continue
        form = declared.flag if flag and declared.flag is not None else declared.format
        words = [form] if isinstance(form, str) else form
        printed = [word.format(name=name, value=entry) for word in words]
        yield Option(name, str(entry), printed)


def _as_flag(value: object) -> bool | None:
    """Return a value that is true or false, also as a text; None: it is another one."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None
