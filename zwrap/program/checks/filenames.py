"""Names of files in a definition that no run could have, or that mean something else there.

A job does not look at these: a definition with such a complaint runs as it always did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from zwrap.program.causes.knownerrors import EXIT_STATUS, OUTPUT
from zwrap.program.checks.faults import Fault
from zwrap.program.definition import Definition
from zwrap.program.invocation import base_of
from zwrap.program.keys.commandline import Command
from zwrap.program.keys.progress import ABSOLUTE, file_fault
from zwrap.program.plan import commands, route_of

NEAR = 0.7
"""Least likeness of a name to one of the words of zwrap for which it counts as misspelt."""

_REGULAR_EXPRESSION = re.compile(r"\\|^\^|\$$|\.\+|\([^()]*\|[^()]*\)")
_CHOICE = re.compile(r"\{[^{}]*,[^{}]*\}")

Route = tuple[str, ...]


def file_name_faults(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each name, or pattern, of a file that is not as it must be meant."""
    for route, directory, name in _file_names(definition):
        known = [*OUTPUT, EXIT_STATUS] if route[0] == "errors" else [*OUTPUT]
        if name not in known and (said := _fault(name, directory, known)):
            yield Fault(route, said)


def _fault(name: str, directory: str, known: list[str]) -> str:
    """Return the sentence about a name of a file; "": it is right.

    Args:
        name: The name, or pattern.
        directory: Directory below the working directory from which it starts.
        known: Words that stand for something else than a file of that name.
    """
    if _leads_out(directory, name):
        return (
            f"It is {name!r}, which leads out of the working directory; a pattern of files below "
            "it is expected, without '..', or an absolute one."
        )
    if found := _CHOICE.search(name):
        return (
            f"{found[0]!r} is a part of the name as it stands: braces are no choice in patterns of "
            "files. Write a pattern for each."
        )
    if _REGULAR_EXPRESSION.search(name):
        return (
            f"{name!r} looks like a regular expression; a pattern of files is expected, as shells "
            "have them, such as '*.mtz'."
        )
    if not set(name) & set("./*?[{"):
        import difflib

        if near := difflib.get_close_matches(name.lower()[:50], known, n=1, cutoff=NEAR):
            return f"{name!r} would be the name of a file. Did you mean {near[0]!r}?"
    return ""


def _leads_out(directory: str, name: str) -> bool:
    """Return True if a name with ``..`` leads above the working directory.

    A placeholder counts as one level; where it stands first the name may be an absolute one.
    """
    parts = PurePath(name).parts
    if ".." not in parts or parts[0] == "/":
        return False
    if parts[:1] in ABSOLUTE:
        parts = parts[1:]
    elif "{" in parts[0]:
        return False
    else:
        parts = (*PurePath(directory).parts, *parts)
    level = 0
    for part in parts:
        level += -1 if part == ".." else 1
        if level < 0:
            return True
    return False


def _file_names(definition: Definition) -> Iterator[tuple[Route, str, str]]:
    """Yield keys of each name, or pattern, of files of the run, its directory, and the name."""
    for number, command in enumerate(commands(definition)):
        directory = command.directory or ""
        for route, name in _of_command(command, route_of(number)):
            yield route, directory, name
    directory = base_of(definition)
    for place, error in enumerate(definition.errors):
        for route, name in _each(("errors", str(place), "where"), error.where):
            yield route, directory, name
    for key, output in definition.outputs.items():
        beside = (
            (("outputs", key, "beside", option), each) for option, each in output.beside.items()
        )
        for route, name in (*_each(("outputs", key, "file"), output.file), *beside):
            yield route, directory, name
    for place, file in enumerate(definition.files):
        yield ("files", str(place), "pattern"), directory, file.pattern


def _of_command(command: Command, route: Route) -> Iterator[tuple[Route, str]]:
    """Yield the names of files by which a command is judged, and in which it tells its progress."""
    success = command.success
    for key, names in (("files", success.files), ("no_files", success.no_files)):
        yield from _each((*route, "success", key), names)
    for key, rules in (("text", success.text), ("no_text", success.no_text)):
        for place, rule in enumerate(rules):
            yield (*route, "success", key, str(place), "file"), rule.file
    if command.progress and not file_fault(command.progress.file):
        yield (*route, "progress", "file"), command.progress.file


def _each(route: Route, given: str | list[str]) -> Iterator[tuple[Route, str]]:
    """Yield the texts of a key that has one, or a list of them, each with its keys."""
    if isinstance(given, str):
        yield route, given
    else:
        yield from (((*route, str(place)), text) for place, text in enumerate(given))
