"""What a definition becomes in a step: values of its placeholders, files, variables, messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program.definition import Definition, check_directory, file_names
from zwrap.program.progress import check_file
from zwrap.recipe.substitution import fill


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


def with_file_names(definition: Definition, known: Mapping[str, object]) -> Definition:
    """Return the definition with the placeholders in its file names filled in."""
    success, progress = definition.success, definition.progress
    filled = replace(
        definition,
        progress=progress and replace(progress, file=fill(progress.file, known)),
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
    check_file(filled.progress, filled.source)
    return filled


def environment(definition: Definition, known: Mapping[str, object]) -> dict[str, str]:
    """Return the environment variables that the definition adds."""
    return {name: fill(str(value), known) for name, value in definition.environment.items()}
