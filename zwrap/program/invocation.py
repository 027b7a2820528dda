"""What a definition becomes in a step: values of its placeholders, files, variables, messages."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.program.definition import Definition, check_directory, file_names
from zwrap.program.inputs import check_groups, converted, is_given
from zwrap.program.progress import check_file
from zwrap.recipe.substitution import fill


def values(
    definition: Definition,
    job_parameters: Mapping[str, object],
    payload: object,
    environment: Mapping[str, object],
    later: Container[str] = (),
) -> dict[str, object]:
    """Return the values of the definition's placeholders, by name.

    The values are the defaults, replaced by `job_parameters`, replaced by its block named after the
    program and by the definition's `blocks`, and further `payload` (of the message) and
    `environment` (of the recipe). Inputs are in their types; those of `later` are not known yet,
    and stay as they are.

    Raises:
        ProgramError: A required input is missing, or a value does not fit; the text names it.
    """
    given = _given(definition, job_parameters)
    blocks = {declared.block: job_parameters.get(declared.block) for declared in definition.options}
    result: dict[str, object] = {**given, **blocks, "payload": payload, "environment": environment}
    for name, stated in given_inputs(definition, job_parameters).items():
        declared = definition.inputs[name]
        result[name] = stated
        if name in later:
            continue
        value = fill(stated, result) if isinstance(stated, str) else stated
        if declared.required and not is_given(value):
            raise ProgramError(
                f"Program {definition.name!r} needs input {name!r}"
                f"{f' ({declared.description})' if declared.description else ''}; give it in "
                f"job_parameters."
            )
        where = f"Input {name!r} of program {definition.name!r}"
        result[name] = converted(declared, value, where)
    check_groups(definition.groups, result, definition.name, later)
    return result


def given_inputs(definition: Definition, job_parameters: Mapping[str, object]) -> dict[str, object]:
    """Return what a step gives as the value of each input, or its default, as it stands there."""
    given = _given(definition, job_parameters)
    found = {}
    for name, declared in definition.inputs.items():
        source = given if declared.block is None else job_parameters.get(declared.block)
        found[name] = declared.default
        if isinstance(source, Mapping):
            found[name] = source.get(name, declared.default)
    return found


def _given(definition: Definition, job_parameters: Mapping[str, object]) -> dict[str, object]:
    """Return what a step gives by name; what has no value in a block does not count there."""
    block = job_parameters.get(definition.name)
    given = {**job_parameters, **(block if isinstance(block, dict) else {})}
    for name in reversed(definition.blocks):
        further = job_parameters.get(name)
        if isinstance(further, dict):
            given |= {key: value for key, value in further.items() if is_given(value)}
    return given


def check_files(definition: Definition, known: Mapping[str, object], directory: Path) -> None:
    """Raise ProgramError if the file that an input names does not exist.

    Relative names start from `directory`.
    """
    for name, declared in definition.inputs.items():
        if not declared.names_file:
            continue
        value = known[name]
        for entry in value if isinstance(value, list) else [value]:
            if entry not in (None, "") and not (directory / str(entry)).exists():
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
