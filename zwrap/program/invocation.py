"""From a definition and a step's job parameters to the argument list that is run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program import Definition
from zwrap.recipe.substitution import fill, substitute

SHELL = ["/bin/bash", "-c"]


def values(
    definition: Definition, job_parameters: Mapping[str, Any], payload: Any, environment: Any
) -> dict[str, Any]:
    """What placeholders of the definition stand for.

    Defaults, then `job_parameters`, then its block named after the program; besides them
    `payload` (of the message) and `environment` (of the recipe). ProgramError names an input
    that is missing.
    """
    block = job_parameters.get(definition.name)
    given = {**job_parameters, **(block if isinstance(block, dict) else {})}
    result = {**given, "payload": payload, "environment": environment}
    for name, declared in definition.inputs.items():
        value = given.get(name, declared.default)
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


def check_files(definition: Definition, known: Mapping[str, Any], directory: Path) -> None:
    """Raise ProgramError when an input that names a file names none."""
    for name, declared in definition.inputs.items():
        value = known[name]
        for entry in value if isinstance(value, list) else [value]:
            if declared.file and entry not in (None, "") and not (directory / str(entry)).exists():
                raise ProgramError(
                    f"Input {name!r} of program {definition.name!r} is {str(entry)!r}, "
                    f"which does not exist (looked in {directory})."
                )


def argv(definition: Definition, known: Mapping[str, Any]) -> list[str]:
    """The argument list to run; a shell only where set-up lines or shell text need one."""
    set_up = [fill(line, known, shlex.quote) for line in definition.set_up]
    if isinstance(definition.command, str):
        return [*SHELL, "\n".join([*set_up, fill(definition.command, known, shlex.quote)])]
    arguments = [
        filled for part in definition.command for filled in _argument(definition, part, known)
    ]
    if not set_up:
        return arguments
    return [*SHELL, "\n".join([*set_up, f"exec {shlex.join(arguments)}"])]


def _argument(definition: Definition, part: str, known: Mapping[str, Any]) -> list[str]:
    """One argument of the definition: dropped without its value, repeated for a list."""
    for name, declared in definition.inputs.items():
        if f"{{{name}}}" not in part:
            continue
        value = known[name]
        if value in (None, "", []) and not declared.required:
            return []
        if isinstance(value, list):
            return [str(fill(part, {**known, name: entry})) for entry in value]
    return [fill(part, known)]


def with_file_names(definition: Definition, known: Mapping[str, Any]) -> Definition:
    """The definition with the placeholders in its file names filled in."""
    success = definition.success
    return replace(
        definition,
        success=replace(
            success,
            files=[fill(name, known) for name in success.files],
            no_files=[fill(name, known) for name in success.no_files],
            text=[replace(rule, file=fill(rule.file, known)) for rule in success.text],
            no_text=[replace(rule, file=fill(rule.file, known)) for rule in success.no_text],
        ),
        outputs={
            name: replace(output, file=fill(output.file, known))
            for name, output in definition.outputs.items()
        },
        files=[replace(file, pattern=fill(file.pattern, known)) for file in definition.files],
    )


def environment(definition: Definition, known: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables that the definition adds."""
    return {name: fill(str(value), known) for name, value in definition.environment.items()}


def messages(definition: Definition, known: Mapping[str, Any]) -> dict[str, Any]:
    """Channel to payload of the definition's further messages."""
    return {channel: substitute(body, known) for channel, body in definition.messages.items()}
