"""Definitions of programs: search, reading and checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from zwrap.errors import ProgramError
from zwrap.program.definition import Definition, check_directory
from zwrap.program.parsers.table import check_parser
from zwrap.units import seconds

SHIPPED_PROGRAMS = Path(__file__).parent
"""Directory of the definitions that come with zwrap."""

INLINE_PROGRAM = "command"
"""Name of the program whose definition is in the recipe step's own `job_parameters`."""


def parse_definition(
    data: Mapping[str, object], source: str, name: str | None = None
) -> Definition:
    """Return a checked definition.

    Args:
        data: Keys and values of the definition.
        source: File that holds them, for messages.
        name: Name of the program if `data` does not hold one.

    Raises:
        ProgramError: The definition is wrong; the text names file and key.
        UnknownNameError: There is no parser of a name that the definition gives.
    """
    values = {"name": name, **data} if name else dict(data)
    try:
        definition = msgspec.convert({**values, "source": source}, Definition)
    except msgspec.ValidationError as error:
        known = ", ".join(field for field in Definition.__struct_fields__ if field != "source")
        raise ProgramError(f"{source}: {error}. Known keys: {known}.") from None
    _check(definition)
    return definition


def _check(definition: Definition) -> None:
    """Raise ProgramError for faults that the types of the keys do not exclude."""
    source = definition.source
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", definition.name):
        raise ProgramError(
            f"{source}, key 'name' is {definition.name!r}; letters, digits and '_.+-' are "
            "expected, because files are named after it."
        )
    check_directory(definition)
    checkpoint = definition.checkpoint
    if checkpoint and bool(checkpoint.signal) == bool(checkpoint.command):
        raise ProgramError(
            f"{source}, key 'checkpoint': one of 'signal' and 'command' is expected."
        )
    if not definition.command:
        raise ProgramError(f"{source}, key 'command' is empty; a list of arguments is expected.")
    for key, output in definition.outputs.items():
        check_parser(output.parser, f"{source}, output {key!r}")
    for key, pattern in _patterns(definition):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ProgramError(
                f"{source}, {key}: {pattern!r} is not a valid regular expression: {error}."
            ) from None
    if definition.limits.time is not None:
        seconds(definition.limits.time, f"{source}, key 'limits.time'")


def _patterns(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yield place and text of every regular expression in a definition."""
    for rule in (*definition.success.text, *definition.success.no_text):
        yield f"success rule for {rule.file}", rule.pattern
    for name, output in definition.outputs.items():
        for key in ("pattern", "header"):
            if key in output.options:
                yield f"output {name!r}, option {key!r}", str(output.options[key])
    if definition.progress:
        yield "key 'progress'", definition.progress.pattern


def read_definition(path: Path) -> Definition:
    """Return the checked definition in a file; ProgramError, which names file and key, if wrong."""
    import yaml  # not needed by wrapper `command`

    try:
        data = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except OSError as error:
        raise ProgramError(f"Program definition {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ProgramError(f"Program definition {path} is not valid YAML: {detail}.") from None
    if not isinstance(data, dict):
        raise ProgramError(f"Program definition {path} holds no mapping of keys to values.")
    return parse_definition(data, str(path), path.stem if "name" not in data else None)


def program_directories(site_directory: Path | None = None) -> list[Path]:
    """Return the directories that are searched for definitions, the site's first."""
    return [*([site_directory] if site_directory else []), SHIPPED_PROGRAMS]


def program_names(site_directory: Path | None = None) -> list[str]:
    """Return the names of all programs with a definition, sorted."""
    return sorted(
        {
            INLINE_PROGRAM,
            *(
                file.stem
                for place in program_directories(site_directory)
                for file in place.glob("*.yaml")
            ),
        }
    )


def find_program(
    name: str, job_parameters: Mapping[str, object], site_directory: Path | None = None
) -> Definition | None:
    """Return the definition of a program; None if there is none of that name.

    The definition of program ``command`` is in `job_parameters` itself. Raises ProgramError if the
    definition is not usable.
    """
    if name == INLINE_PROGRAM:
        fields = Definition.__struct_fields__
        data = {key: value for key, value in job_parameters.items() if key in fields}
        if "command" not in data:
            raise ProgramError(
                "Wrapper 'command' runs the command in job_parameters, which has no key 'command'; "
                "a list of arguments is expected."
            )
        return parse_definition(
            {**data, "name": data.get("name", INLINE_PROGRAM)}, "job_parameters"
        )
    for directory in program_directories(site_directory):
        file = directory / f"{name}.yaml"
        if "/" not in name and file.is_file():
            return read_definition(file)
    return None
