"""What a definition says without effect: no fault, and perhaps not what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zwrap.program.checks.faults import Fault
from zwrap.program.checks.parameters import used_names
from zwrap.program.definition import Definition
from zwrap.program.keys.inputs import Input, is_given
from zwrap.program.keys.marks import FILLED, marked
from zwrap.program.plan import commands, route_of

OF_STEPS = {
    "timeout": "'limits.time' is the limit of a definition",
    "results_directory": "results are copied where the step names a directory",
}
"""Keys that zwrap takes from `job_parameters` alone, each with what is to be known beside it."""

_DOUBLED = re.compile(r"\{\{([\w-]+)\}\}")
_NAME = re.compile(r"(?<!\{)\{([\w-]+)")


def remarks(definition: Definition) -> Iterator[Fault]:
    """Yield a sentence for each thing without effect, with its keys."""
    yield from _inputs(definition)
    yield from _progress(definition)
    yield from _needed_names(definition)
    for route, text, _ in marked(definition, FILLED):
        for name in _DOUBLED.findall(text):
            if name in definition.inputs:
                said = (
                    f"'{{{{{name}}}}}' is the text '{{{name}}}'; the value of input {name!r} is "
                    f"'{{{name}}}', in single braces."
                )
                yield Fault(route, said)


def _inputs(definition: Definition) -> Iterator[Fault]:
    """Yield a sentence for each input, or key of one, that changes no run."""
    used = set(used_names(definition))
    for name, declared in definition.inputs.items():
        route = ("inputs", name)
        if name not in used and declared.block is None:
            yield Fault(route, f"input {name!r} is used nowhere.")
        if declared.required and is_given(declared.default):
            said = f"input {name!r} is never missing, because it has a default: 'required' is idle."
            yield Fault((*route, "required"), said)
        if declared.default == "None":
            said = (
                f"the default of input {name!r} is the text 'None', which the program gets; leave "
                "the key out for no value."
            )
            yield Fault((*route, "default"), said)
        if name in OF_STEPS and is_given(declared.default):
            said = (
                f"the default of {name!r} fills in '{{{name}}}' and does no more: {OF_STEPS[name]}."
            )
            yield Fault((*route, "default"), said)


def _progress(definition: Definition) -> Iterator[Fault]:
    """Yield a sentence for each pattern of progress of which the whole match is shown."""
    for number, command in enumerate(commands(definition)):
        if command.progress and not re.compile(command.progress.pattern).groups:
            said = (
                "the pattern has no groups, so that the whole match is shown, without rate and "
                r"time left; write (?P<done>\d+) around a number, and (?P<total>\d+)."
            )
            yield Fault((*route_of(number), "progress", "pattern"), said)


def _needed_names(definition: Definition) -> Iterator[Fault]:
    """Yield a sentence for each name that must be there, of an input that may be missing."""
    for number, command in enumerate(commands(definition)):
        route, success = route_of(number), command.success
        texts = [((*route, "directory"), command.directory or "")] if number == 0 else []
        texts += [
            ((*route, "success", "files", str(at)), each) for at, each in enumerate(success.files)
        ]
        for place, text in texts:
            for name in _NAME.findall(text):
                declared = definition.inputs.get(name, Input(required=True))
                if not declared.required and not is_given(declared.default):
                    said = (
                        f"a step that gives no value for {name!r} fails here; give the input a "
                        "default, or 'required: true'."
                    )
                    yield Fault(place, said)
