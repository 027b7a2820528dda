"""What a definition says by a slip, and no run could use, or only in another sense.

A job does not look at these: a definition with such a complaint runs as it always did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zwrap.program.checks.faults import Fault
from zwrap.program.checks.filenames import file_name_faults
from zwrap.program.checks.searches import search_faults
from zwrap.program.checks.words import word_faults
from zwrap.program.definition import Definition, directory_fault
from zwrap.program.keys.inputs import Input
from zwrap.program.keys.marks import FILLED, marked
from zwrap.program.plan import commands, route_of, same_file, stdout_fault

_OPEN = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)[^{}]*\Z")

_MESSAGE_KEYS = frozenset(("each", "append_to"))
"""Keys that an object has beside `then` only."""

FILLED_IN = {
    "payload": "the message of the step",
    "environment": "that of the recipe",
    "working_directory": "the directory of the step",
    "scratch": "the directory on the node's disk",
    "files": "the result files, in messages",
    "result_files": "the result files, in messages",
}
"""Names that zwrap fills in, each with what it stands for."""


def slips(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each slip; `own`: names that have values in the definition."""
    yield from file_name_faults(definition)
    yield from word_faults(definition)
    yield from search_faults(definition)
    yield from _reserved_names(definition)
    yield from _names_of_output(definition)
    yield from _loops(definition)
    yield from _open_braces(definition, own)
    yield from _messages(definition)


def _reserved_names(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each input with a name that zwrap fills in."""
    free = set() if definition.scratch else {"scratch"}
    free |= set() if definition.messages else {"files", "result_files"}
    for name in definition.inputs:
        if (meaning := FILLED_IN.get(name)) and name not in free:
            said = f"zwrap fills in '{{{name}}}' ({meaning}); give the input another name."
            yield Fault(("inputs", name), said)


def _names_of_output(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each directory, and each name of a file of output, of no use."""
    taken: set[Path] = set()
    for number, command in enumerate(commands(definition)):
        route = route_of(number)
        directory, stdout = command.directory or "", command.stdout
        if "{" not in directory and (fault := directory_fault(directory)):
            yield Fault((*route, "directory"), f"It {fault}")
        if stdout and "{" not in stdout and (fault := stdout_fault(stdout)):
            yield Fault((*route, "stdout"), f"It {fault}")
        name = Path(directory, stdout or f"{command.name}.log")
        if command.if_ or "{" in str(name) or (command.for_each and not stdout):
            continue  # what is not known before the run
        if name in taken:
            yield Fault((*route, "stdout"), f"T{same_file(name)[1:]}")
        taken.add(name)


def _loops(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each loop over an input that is a single value."""
    for number, command in enumerate(commands(definition)):
        for name, source in command.for_each.items():
            declared = definition.inputs.get(source, Input())
            if declared.type not in (None, "list"):
                said = f"Input {source!r} is of type {declared.type}; one of type list is expected."
                yield Fault((*route_of(number), "for_each", name), said)


def _open_braces(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each placeholder whose brace is not closed."""
    for route, text, names in marked(definition, FILLED):
        found = _OPEN.search(text)
        if found and found[1] in (*own, *names):
            yield Fault(route, f"The brace of the placeholder '{{{found[1]}' is not closed.")


def _messages(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each message that is repeated or added, and does not say what."""
    for name, body in definition.messages.items():
        if isinstance(body, dict) and "then" not in body and (keys := _MESSAGE_KEYS & {*body}):
            said = (
                f"Key 'then' is missing: with {min(keys)!r} it holds what the message is made of."
            )
            yield Fault(("messages", name), said)
