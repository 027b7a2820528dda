"""What a definition says by a slip, and no run could use, or only in another sense.

A job does not look at these: a definition with such a complaint runs as it always did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zwrap.program.causes.knownerrors import EXIT_STATUS, OUTPUT
from zwrap.program.checks.faults import Fault
from zwrap.program.definition import Definition, directory_fault
from zwrap.program.keys.commandline import Command, When
from zwrap.program.keys.inputs import Input
from zwrap.program.keys.marks import FILLED, marked
from zwrap.program.plan import commands, route_of, same_file, stdout_fault

NEAR = 0.7
"""Least likeness of a name to one of the words of zwrap for which it counts as misspelt."""

_OPTION_WITH_VALUE = re.compile(r"(--?[A-Za-z][\w-]*)\s+(\S+|\S*\{.*)", re.DOTALL)
_OPEN = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)[^{}]*\Z")

_OF_SHELL = ("|", "||", "&&", "<", ">", ">>", "2>", "2>&1", "&>")
"""Words that mean something in a shell only."""

_MESSAGE_KEYS = frozenset(("each", "append_to"))
"""Keys that an object has beside `then` only."""

Route = tuple[str, ...]


def slips(definition: Definition, own: list[str]) -> Iterator[Fault]:
    """Yield a complaint for each slip; `own`: names that have values in the definition."""
    yield from _misspelt_streams(definition)
    yield from _words_of_lists(definition)
    yield from _names_of_output(definition)
    yield from _loops(definition)
    yield from _open_braces(definition, own)
    yield from _messages(definition)


def _misspelt_streams(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each name of a file that is nearly the name of an output."""
    import difflib

    for route, name in _file_names(definition):
        known = [*OUTPUT, EXIT_STATUS] if route[0] == "errors" else [*OUTPUT]
        if name in known or set(name) & set("./*?[{"):
            continue
        if near := difflib.get_close_matches(name.lower()[:50], known, n=1, cutoff=NEAR):
            said = f"{name!r} would be the name of a file. Did you mean {near[0]!r}?"
            yield Fault(route, said)


def _file_names(definition: Definition) -> Iterator[tuple[Route, str]]:
    """Yield the names of files for which ``stdout`` and ``stderr`` may stand, with their keys."""
    for number, command in enumerate(commands(definition)):
        route, success = route_of(number), command.success
        for key, rules in (("text", success.text), ("no_text", success.no_text)):
            for place, rule in enumerate(rules):
                yield (*route, "success", key, str(place), "file"), rule.file
        if command.progress:
            yield (*route, "progress", "file"), command.progress.file
    for place, error in enumerate(definition.errors):
        yield from _each(("errors", str(place), "where"), error.where)
    for name, output in definition.outputs.items():
        yield from _each(("outputs", name, "file"), output.file)
    for place, file in enumerate(definition.files):
        yield ("files", str(place), "pattern"), file.pattern


def _each(route: Route, given: str | list[str]) -> Iterator[tuple[Route, str]]:
    """Yield the texts of a key that has one, or a list of them."""
    if isinstance(given, str):
        yield route, given
    else:
        yield from (((*route, str(place)), text) for place, text in enumerate(given))


def _words_of_lists(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each argument that is meant for a shell, or as two arguments."""
    for number, command in enumerate(commands(definition)):
        for route, word in _words(command, (*route_of(number), "command")):
            if word in _OF_SHELL:
                instead = ", or use 'stdout' for a file that gets the output" if ">" in word else ""
                said = (
                    f"{word!r} is an argument of the program: no shell runs a list. Write the "
                    f"command as a text{instead}."
                )
                yield Fault(route, said)
            elif found := _OPTION_WITH_VALUE.fullmatch(word):
                option, value = found.groups()
                said = (
                    f"'{word[:100]}' is one argument, blank included; write "
                    f'[{option}, "{value[:100]}"].'
                )
                yield Fault(route, said)


def _words(command: Command, route: Route) -> Iterator[tuple[Route, str]]:
    """Yield the words of a command line that is a list, behind its first, with their keys."""
    parts = command.command if isinstance(command.command, list) else []
    for place, part in list(enumerate(parts))[1:]:
        here = (*route, str(place))
        if isinstance(part, When):
            yield from _each((*here, "then"), part.then)
        else:
            yield from _each(here, part)


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
