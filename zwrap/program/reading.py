"""Definitions of programs: search, reading and checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from zwrap.errors import ConfigurationError, ProgramError
from zwrap.message.jsontext import typed
from zwrap.program.causes.knownerrors import check_errors
from zwrap.program.definition import SHIPPED_PROGRAMS, Definition, check_directory
from zwrap.program.keys.conditions import check_value_rules
from zwrap.program.keys.inputs import check_inputs
from zwrap.program.keys.written import check_placed, check_written
from zwrap.program.patterns import check_pattern
from zwrap.program.plan import check_commands, commands, route_of

if TYPE_CHECKING:
    from zwrap.configuration.reading import Source

SHIPPED_PREFIX = "zwrap:"
"""Beginning of a wrapper's name that means what zwrap ships, whatever a site has installed."""

Place = Callable[..., str]
"""Function from keys of a definition, from the outermost, to file and line."""

INLINE_PROGRAM = "command"
"""Name of the program whose definition is in the recipe step's own `job_parameters`."""


FILE_ONLY = frozenset(("tests", "status"))
"""Keys of a definition in a file that mean nothing in a step's `job_parameters`."""


COPY_OF_A_PARAMETER = frozenset(("from", "to"))
"""Keys of a value under `link` or `copy` that is a parameter of the step, and names no files."""


def _is_rows(value: object) -> bool:
    """Return True for a list of mappings."""
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _is_texts(value: object) -> bool:
    """Return True for a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_table(value: object) -> bool:
    """Return True for a mapping of texts to texts."""
    return isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values())


def _is_placed(value: object) -> bool:
    """Return True for a mapping of names of files to files."""
    return _is_table(value) and set(cast("Mapping[str, str]", value)) != COPY_OF_A_PARAMETER


def _is_text(value: object) -> bool:
    """Return True for a text."""
    return isinstance(value, str)


def _is_file_name(value: object) -> bool:
    """Return True for a text that can be the name of a file."""
    return isinstance(value, str) and "/" not in value


NEW_KEYS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("write", "then", "groups", "errors"), _is_rows),
    **dict.fromkeys(("blocks", "errors_of"), _is_texts),
    **dict.fromkeys(("link", "copy"), _is_placed),
    "for_each": _is_table,
    "stdin": _is_text,
    "stdout": _is_file_name,
}
"""Keys of a definition to the rule for their values. In `job_parameters` any other value under them
is a parameter of the step, as in recipes that are older than these keys."""


def parse_definition(
    data: Mapping[str, object], source: str, name: str | None = None, place: Place | None = None
) -> Definition:
    """Return a checked definition.

    Args:
        data: Keys and values of the definition.
        source: File that holds them, for messages.
        name: Name of the program if `data` does not hold one.
        place: Function from keys, from the outermost, to file and line; None: there is no file.

    Raises:
        ProgramError: The definition is wrong; the text names file and key.
        UnknownNameError: There is no parser of a name that the definition gives.
    """
    values = {"name": name, **data} if name else dict(data)
    at = place or (lambda *_: source)
    try:
        definition = typed({**values, "source": source}, Definition)
    except msgspec.ValidationError:
        from zwrap.program.checks.faults import (
            faults,
            placed,
        )  # not for jobs with a right definition

        first, *others = faults(values, Definition)
        more = f" ({len(others)} more: zwrap check)" if others else ""
        raise ProgramError(f"{placed(at, first.route)}: {first.said}{more}") from None
    except (OverflowError, ValueError, RecursionError) as error:
        raise ProgramError(f"{source}: a value is out of range: {error}.") from None
    _check(definition, at)
    return definition


def _check(definition: Definition, at: Place) -> None:
    """Raise ProgramError for faults that the types of the keys do not exclude."""
    source = definition.source
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", definition.name):
        raise ProgramError(
            f"{at('name')}, key 'name' is {definition.name!r}; letters, digits and '_.+-' are "
            "expected, because files are named after it."
        )
    check_directory(definition.directory, at("directory"))
    checkpoint = definition.checkpoint
    if checkpoint and bool(checkpoint.signal) == bool(checkpoint.command):
        raise ProgramError(
            f"{at('checkpoint')}, key 'checkpoint': one of 'signal' and 'command' is expected."
        )
    check_commands(definition, at)
    check_inputs(definition.inputs, definition.groups, at)
    check_written(definition.write, definition.inputs, source, at)
    check_placed(definition.link, "link", at)
    check_placed(definition.copy, "copy", at)
    if definition.outputs:
        from zwrap.program.parsers.table import check_parser

        for key, output in definition.outputs.items():
            check_parser(output.parser, f"{at('outputs', key)}, output {key!r}")
    if definition.errors:
        from zwrap.program.causes.corrections import check_corrections

        check_errors(definition.errors, at, "errors")
        check_corrections(definition, at)
    if definition.errors_of:
        from zwrap.program.causes.errorlist import check_names

        check_names(definition.errors_of, source, f"{at('errors_of')}, key 'errors_of'")
    for route, key, pattern in _patterns(definition):
        check_pattern(pattern, f"{at(*route)}, {key}")
    if definition.messages:
        from zwrap.program.keys.messages import check_messages

        check_messages(definition, at)
    place = f"{at('success', 'values')}, key 'success'"
    check_value_rules(definition.success.values, definition.outputs, place)


def _patterns(definition: Definition) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield keys, name and text of every regular expression in a definition."""
    for position, command in enumerate(commands(definition)):
        before = route_of(position)
        success = command.success
        for key, rules in (("text", success.text), ("no_text", success.no_text)):
            for number, rule in enumerate(rules):
                route = (*before, "success", key, str(number))
                yield route, f"success rule for {rule.file}", rule.pattern
        if command.progress:
            yield (*before, "progress"), "key 'progress'", command.progress.pattern
    for name, output in definition.outputs.items():
        for key in ("pattern", "header"):
            if key in output.options:
                place = f"output {name!r}, option {key!r}"
                yield ("outputs", name, "options", key), place, str(output.options[key])


def read_definition(path: Path) -> Definition:
    """Return the checked definition in a file; ProgramError, which names file and key, if wrong."""
    source = read_source(path)
    return parse_definition(source.data, str(path), path.stem, source.begin)


def read_source(path: Path) -> Source:
    """Return the keys and values in the file of a definition, each with its line.

    Raises:
        ProgramError: The file cannot be read, or holds something else.
    """
    from zwrap.configuration.reading import read_file  # YAML is not needed by wrapper `command`

    try:
        source = read_file(path, "Program definition")
    except ConfigurationError as error:
        raise ProgramError(str(error)) from None
    if not isinstance(source.data, dict):
        raise ProgramError(f"Program definition {path} holds no mapping of keys to values.")
    return source


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
                if not file.is_dir()
            ),
        }
    )


def inline_definition(job_parameters: Mapping[str, object], where: str) -> dict[str, object]:
    """Return the keys of a definition that job parameters hold for wrapper `command`.

    Raises:
        ProgramError: There is no command; the text names `where`.
    """
    fields = {*Definition.__struct_fields__} - FILE_ONLY
    data = {
        key: value
        for key, value in job_parameters.items()
        if key in fields and (key not in NEW_KEYS or NEW_KEYS[key](value))
    }
    if "command" not in data:
        raise ProgramError(
            f"Wrapper 'command' runs the command in {where}, which has no key 'command'; a list of "
            "arguments is expected."
        )
    return data


def find_program(
    name: str, job_parameters: Mapping[str, object], site_directory: Path | None = None
) -> Definition | None:
    """Return the definition of a program; None if there is none of that name.

    The definition of program ``command`` is in `job_parameters` itself. A name that begins with
    ``zwrap:`` is that of a shipped one. Raises ProgramError if the definition is not usable.
    """
    if name.startswith(SHIPPED_PREFIX):
        name, site_directory = name.removeprefix(SHIPPED_PREFIX), None
    if name == INLINE_PROGRAM:
        return parse_definition(
            inline_definition(job_parameters, "job_parameters"), "job_parameters", INLINE_PROGRAM
        )
    for directory in program_directories(site_directory):
        file = directory / f"{name}.yaml"
        if "/" not in name and file.is_file():
            return read_definition(file)
    return None
