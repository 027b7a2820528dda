"""What a definition becomes in a step: values of its placeholders, files, variables, messages."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.program.definition import Definition, Output, check_directory, file_names
from zwrap.program.filling import Values
from zwrap.program.keys.inputs import check_groups, converted, is_given
from zwrap.program.plan import filled_success
from zwrap.recipe.substitution import Filling

if TYPE_CHECKING:
    from zwrap.program.causes.errorlist import KnownErrors


def values(
    definition: Definition,
    job_parameters: Mapping[str, object],
    payload: object,
    environment: Mapping[str, object],
    later: Container[str] = (),
    limits: Limits = DEFAULTS,
) -> dict[str, object]:
    """Return the values of the definition's placeholders, by name.

    The values are the defaults, replaced by `job_parameters`, replaced by its block named after the
    program and by the definition's `blocks`, and further `payload` (of the message) and
    `environment` (of the recipe). Inputs are in their types; those of `later` are not known yet,
    and stay as they are. `limits` bounds what is filled into all of them together.

    Raises:
        ProgramError: A required input is missing, or a value does not fit; the text names it.
        RecipeError: More is filled in than the limit.
    """
    given = _given(definition, job_parameters)
    blocks = {declared.block: job_parameters.get(declared.block) for declared in definition.options}
    result: dict[str, object] = {**given, **blocks, "payload": payload, "environment": environment}
    filling = Filling(result, limits)
    for name, stated in given_inputs(definition, job_parameters).items():
        declared = definition.inputs[name]
        result[name] = stated
        if name in later:
            continue
        value = filling.text(stated) if isinstance(stated, str) else stated
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


def errors_of(definition: Definition, known: Mapping[str, object]) -> KnownErrors | None:
    """Return the known errors of a definition; None: it names none.

    `known`: values of placeholders in file names, by name.
    """
    if not definition.errors and not definition.errors_of:
        return None
    from zwrap.program.causes.errorlist import KnownErrors  # not for the wrapper `command`

    return KnownErrors(definition, known)


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
    """Return the definition with the placeholders in its file names filled in.

    A name whose value is missing is left out, and one with a list is there for each entry; an
    output of which no name is left is none. In a name an empty text is a text.
    """
    values = Values(known, (), definition.source)
    return replace(
        definition,
        success=filled_success(definition.success, values),
        directory=base_directory(definition, values),
        outputs={
            name: replace(output, file=files, beside=_beside(output, values))
            for name, output in definition.outputs.items()
            if (files := [file for text in file_names(output) for file in values.names(text)])
        },
        files=[
            replace(file, pattern=pattern)
            for file in definition.files
            for pattern in values.names(file.pattern)
        ],
    )


def _beside(output: Output, values: Values) -> dict[str, str]:
    """Return the files beside that of an output which its parser gets, by option."""
    return {
        option: values.one(file, f"beside.{option}")
        for option, file in output.beside.items()
        if values.known.get(output.only_if.get(option, ""), True) and values.names(file)
    }


def base_directory(definition: Definition, values: Values) -> str:
    """Return the directory, below the working directory, where patterns of files start.

    It is that of the definition's own command; in a loop over directories, the one above them.
    """
    directory = values.one(base_of(definition), "directory")
    check_directory(directory, definition.source)
    return directory


def base_of(definition: Definition) -> str:
    """Return that directory as the definition has it, its placeholders not filled in."""
    text = definition.directory
    for name in definition.for_each:
        parts = Path(text).parts
        own = (number for number, part in enumerate(parts) if f"{{{name}" in part)
        text = str(Path(*parts[: next(own, len(parts))])) if text else text
    return text
