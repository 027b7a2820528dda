"""The argument list of a program, from its definition and a step's job parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import zwrap_templates
from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program.definition import (
    Definition,
    OptionBlock,
    ParameterFile,
    check_directory,
    file_names,
)
from zwrap.recipe.pieces import Piece, Value
from zwrap.recipe.substitution import Filling, fill, substitute

SHELL = ["/bin/bash", "-c"]
"""Beginning of an argument list that runs shell text."""

MODULE = Path(zwrap_templates.__file__).with_name("module.sh")
"""Shell text that finds the function `module` when it is first used."""


def values(
    definition: Definition,
    job_parameters: Mapping[str, object],
    payload: object,
    environment: Mapping[str, object],
) -> dict[str, object]:
    """Return the values of the definition's placeholders, by name.

    The values are the defaults, replaced by `job_parameters`, replaced by its block named after the
    program, and further `payload` (of the message) and `environment` (of the recipe). Raises
    ProgramError, which names the input, if a required input is missing.
    """
    block = job_parameters.get(definition.name)
    given = {**job_parameters, **(block if isinstance(block, dict) else {})}
    blocks = {declared.block: job_parameters.get(declared.block) for declared in definition.options}
    result: dict[str, object] = {**given, **blocks, "payload": payload, "environment": environment}
    for name, declared in definition.inputs.items():
        source = given if declared.block is None else job_parameters.get(declared.block)
        value = declared.default
        if isinstance(source, Mapping):
            value = source.get(name, declared.default)
        if isinstance(value, str):
            value = fill(value, result)
        if declared.required and value in (None, "", []):
            raise ProgramError(
                f"Program {definition.name!r} needs input {name!r}"
                f"{f' ({declared.description})' if declared.description else ''}; give it in "
                f"job_parameters."
            )
        result[name] = value
    return result


def check_files(definition: Definition, known: Mapping[str, object], directory: Path) -> None:
    """Raise ProgramError if the file that an input names does not exist.

    Relative names start from `directory`.
    """
    for name, declared in definition.inputs.items():
        value = known[name]
        for entry in value if isinstance(value, list) else [value]:
            if declared.file and entry not in (None, "") and not (directory / str(entry)).exists():
                raise ProgramError(
                    f"Input {name!r} of program {definition.name!r} is {str(entry)!r}, "
                    f"which does not exist (looked in {directory})."
                )


def argv(definition: Definition, known: Mapping[str, object]) -> list[str]:
    """Return the argument list to run, with a shell only if set-up lines or shell text need one."""
    further = option_arguments(definition, known)
    if isinstance(definition.command, str):
        options: list[Piece] = [
            piece for text in further for piece in (" ", Value(text, "an option"))
        ]
        return _in_shell(definition, known, [*Filling(known).pieces(definition.command), *options])
    arguments = [
        filled for part in definition.command for filled in _argument(definition, part, known)
    ]
    arguments += further
    if not definition.set_up:
        return arguments
    words: list[Piece] = [
        piece for text in arguments for piece in (" ", Value(text, "an argument"))
    ]
    return _in_shell(definition, known, ["exec", *words])


def _in_shell(
    definition: Definition, known: Mapping[str, object], command: list[Piece]
) -> list[str]:
    """Return the argument list of a shell for the set-up lines and a command."""
    from zwrap.recipe.quoting import quoted  # a program without shell text does not need it

    def fault(sentence: str) -> ProgramError:
        return ProgramError(f"{definition.source}, keys 'set_up' and 'command': {sentence}")

    texts = [*(Filling(known).pieces(line) for line in definition.set_up), command]
    assignments, lines = quoted(texts, fault)
    before = [MODULE.read_text().rstrip()] if any("module" in line for line in lines) else []
    return [*SHELL, "\n".join([*before, *assignments, *lines])]


def _argument(definition: Definition, part: str, known: Mapping[str, object]) -> list[str]:
    """Return an argument, filled in: none if its value is missing, several for a list."""
    for name, declared in definition.inputs.items():
        if f"{{{name}}}" not in part:
            continue
        value = known[name]
        if value in (None, "", []) and not declared.required:
            return []
        if isinstance(value, list):
            return [str(fill(part, {**known, name: entry})) for entry in value]
    return [fill(part, known)]


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
            if not consumed and (key in declared.names or not declared.only_named):
                yield from _option(declared, key, value, f"{where}, key {key!r}")


def _option(declared: OptionBlock, key: str, value: object, where: str) -> Iterator[Option]:
    """Yield the option of one entry, several for a list; ProgramError for nested values."""
    if isinstance(value, str) and key in declared.split:
        value = [entry.strip() for entry in value.split(",")]
    name = declared.names.get(key, key)
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, (Mapping, list)):
            raise ProgramError(
                f"{where} holds a {type(entry).__name__}; a text, a number or a list of them is "
                "expected."
            )
        if entry not in (None, ""):
            yield Option(name, str(entry), declared.format.format(name=name, value=entry))


def with_file_names(definition: Definition, known: Mapping[str, object]) -> Definition:
    """Return the definition with the placeholders in its file names filled in."""
    success = definition.success
    filled = replace(
        definition,
        success=replace(
            success,
            files=[fill(name, known) for name in success.files],
            no_files=[fill(name, known) for name in success.no_files],
            text=[replace(rule, file=fill(rule.file, known)) for rule in success.text],
            no_text=[replace(rule, file=fill(rule.file, known)) for rule in success.no_text],
        ),
        directory=fill(definition.directory, known),
        outputs={
            name: replace(
                output,
                file=[fill(file, known) for file in file_names(output)],
                beside={
                    option: fill(file, known)
                    for option, file in output.beside.items()
                    if known.get(output.only_if.get(option, ""), True)
                },
            )
            for name, output in definition.outputs.items()
        },
        files=[replace(file, pattern=fill(file.pattern, known)) for file in definition.files],
    )
    check_directory(filled)
    return filled


def environment(definition: Definition, known: Mapping[str, object]) -> dict[str, str]:
    """Return the environment variables that the definition adds."""
    return {name: fill(str(value), known) for name, value in definition.environment.items()}


def messages(definition: Definition, known: Mapping[str, object]) -> dict[str, object]:
    """Return the payloads of the definition's further messages, by channel."""
    return {channel: substitute(body, known) for channel, body in definition.messages.items()}
