"""What a definition refers to: each placeholder, group, parser option and file type is known.

A job does not look at these: a definition with such a complaint runs as it always did.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator

from zwrap.errors import UnknownNameError
from zwrap.program.checks.expectations import expectation_faults
from zwrap.program.checks.faults import Fault, unknown
from zwrap.program.checks.slips import slips
from zwrap.program.definition import Definition
from zwrap.program.keys.marks import FILLED, INPUT_NAME, marked
from zwrap.program.keys.messages import parts, row_names
from zwrap.program.keys.progress import file_fault
from zwrap.program.parsers.route import steps
from zwrap.program.parsers.table import option_faults
from zwrap.program.plan import commands, route_of
from zwrap.recipe.substitution import Filling

FILE_TYPES = ("result", "log", "graph", "debug", "input", "recip", "pia", "snapshot", "xy")
"""Types of result files: those of ISPyB's attachments, in small letters, which makes a log of any
other."""

PROVIDED = ("payload", "environment", "working_directory")
"""Names that stand for a value in every definition."""

_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
"""Word that may be an option whose value is the next word."""

OPTION_FORM = ("name", "value")
"""Names in the form of an option."""


class _Anything:
    """A value that is known in a job only; every key of it may be there."""

    def __getitem__(self, key: int | str) -> _Anything:
        return self

    def __format__(self, spec: str) -> str:
        return "?"


_ANYTHING = _Anything()


def complaints(definition: Definition, further: Collection[str] = ()) -> Iterator[Fault]:
    """Yield a complaint for each thing that a definition names and that does not exist.

    Args:
        definition: The definition, free of faults of form.
        further: Names that have values beside the definition's own.
    """
    own = [*definition.inputs, *(block.block for block in definition.options), *PROVIDED, *further]
    if definition.scratch:
        own.append("scratch")
    yield from _placeholders(definition, own)
    yield from _templates(definition, own)
    yield from _input_names(definition, own)
    yield from _lonely_options(definition)
    yield from _file_types(definition)
    yield from _progress_files(definition)
    yield from _outputs(definition)
    yield from _parts(definition, own)
    yield from expectation_faults(definition)
    yield from slips(definition, own)


def _placeholders(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each placeholder that gets no value."""
    outputs = [*definition.outputs, "files", "result_files"]
    order = list(definition.inputs)
    for route, text, names in marked(definition, FILLED):
        known = [*own, *names]
        match route:
            case ("messages", name, *_):
                known += [*outputs, *row_names(definition.messages[name])]
            case ("files", *_):
                known += definition.outputs
            case ("options", _, "format" | "flag", *_):
                known = [*OPTION_FORM]
            case ("inputs", name, *_):
                later = order[order.index(name) :]
                known = [each for each in known if each not in later and each != "scratch"]
        filling = Filling(dict.fromkeys(known, _ANYTHING))
        filling.value(text)
        for placeholder in filling.unfilled:
            yield Fault(route, _unfilled(placeholder, [*dict.fromkeys(known)], order, outputs))


def _unfilled(placeholder: str, known: list[str], inputs: list[str], outputs: list[str]) -> str:
    """Return the sentences about a placeholder that gets no value."""
    name = placeholder.strip("{}").removeprefix("$REPLACE:")
    head = re.split(r"[.\[]", name)[0]
    if head in known:
        return (
            f"The placeholder {placeholder} gets no value; a key is taken as in {{{head}[key]}} or "
            f"{{{head}[0]}}."
        )
    if head in inputs:
        return f"The placeholder {placeholder} names an input that stands only below it."
    if head in outputs:
        return (
            f"The placeholder {placeholder} names a result of the run, which is known in messages "
            "only."
        )
    return (
        f"{unknown('placeholder', head, known)} If job_parameters may hold it, declare it under "
        "'inputs'; write {{ and }} for braces."
    )


def _templates(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each name in the template of a file that gets no value."""
    for number, written in enumerate(definition.write):
        if written.format is None:
            from zwrap.program.files.templating import names_in  # which few definitions need
            from zwrap.program.keys.written import template_of

            key = "template" if written.template is not None else "template_file"
            for name in sorted(names_in(template_of(written, definition.source)) - {*own}):
                yield Fault(("write", str(number), key), unknown("placeholder", name, own))


def _input_names(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each name of an input that is none."""
    for route, name, names in marked(definition, INPUT_NAME):
        if name not in (known := [*own, *names]):
            yield Fault(route, unknown("input", name, known))


def _lonely_options(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each option that stays when the optional input behind it is missing."""
    optional = {
        f"{{{name}}}"
        for name, declared in definition.inputs.items()
        if not declared.required and declared.default in (None, "", [])
    }
    for number, command in enumerate(commands(definition)):
        line = command.command
        pairs = itertools.pairwise(line) if isinstance(line, list) else ()
        for place, (option, value) in enumerate(pairs):
            if not isinstance(option, str) or not isinstance(value, str):
                continue
            if _OPTION.fullmatch(option) and value in optional:
                said = (
                    f"{option} is left alone where {value} has no value. Write [{option}, "
                    f'"{value}"] for a pair that is left out together, or ["{value}"] if they do '
                    "not belong together."
                )
                yield Fault((*route_of(number), "command", str(place)), said)


def _file_types(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each type of files that ISPyB does not have."""
    for number, file in enumerate(definition.files):
        if file.type not in FILE_TYPES:
            said = unknown("type of files", file.type, list(FILE_TYPES))
            yield Fault(("files", str(number), "type"), said)


def _progress_files(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each file of progress that is none of the run."""
    for number, command in enumerate(commands(definition)):
        if command.progress and (said := file_fault(command.progress.file)):
            yield Fault((*route_of(number), "progress", "file"), said)


def _outputs(definition: Definition) -> Iterator[Fault]:
    """Yield the complaints about the options of parsers."""
    for name, output in definition.outputs.items():
        route = ("outputs", name)
        for key in output.only_if:
            if key not in output.beside:
                yield Fault((*route, "only_if"), unknown("key of 'beside'", key, [*output.beside]))
        for error in option_faults(
            output.parser, output.options, output.beside, f"output {name!r}"
        ):
            key = str(error.name) if isinstance(error, UnknownNameError) else ""
            place = ("beside" if key in output.beside else "options", key)
            yield Fault((*route, *filter(None, place)), str(error))
        pattern = output.options.get("pattern")
        if output.parser == "regex" and pattern and not re.compile(str(pattern)).groupindex:
            said = (
                f"Parser 'regex' gives the named groups of its pattern, and '{pattern}' has none; "
                "write (?P<name>...) around each value."
            )
            yield Fault((*route, "options", "pattern"), said)


def _parts(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each value on which a part of a message depends, and that is none."""
    for name, body in definition.messages.items():
        known = [*own, *definition.outputs, "files", "result_files", *row_names(body)]
        for part in parts(body):
            for key, way in part.ways():
                head = next((step for step, _ in steps(way)), "")
                if head not in known and way not in known:
                    yield Fault(("messages", name), unknown(f"value in {key!r}", head, known))
