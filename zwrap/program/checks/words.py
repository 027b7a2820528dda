"""Words of command lines, and variables, that are meant for a shell where there is none.

A job does not look at these: a definition with such a complaint runs as it always did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zwrap.program.checks.faults import Fault
from zwrap.program.definition import Definition
from zwrap.program.keys.commandline import Command, When
from zwrap.program.plan import commands, route_of

_OPTION_WITH_VALUE = re.compile(r"(--?[A-Za-z][\w-]*)\s+(\S+|\S*\{.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*)")
_EXPANDED = re.compile(rf"(?:--?[\w-]+=)?(?:~|{_VARIABLE.pattern})(?:/\S*)?")
"""Word that a shell would expand as a whole."""

_OF_SHELL = ("|", "||", "&&", "<", ">", ">>", "2>", "2>&1", "&>")
"""Words that mean something in a shell only."""

_BUILT_IN = frozenset((
    "cd", "source", ".", "export", "unset", "set", "eval", "alias", "ulimit", "umask", "module",
))  # fmt: skip
"""Commands that act on the shell itself: there is no program of the name, or one without effect."""

Route = tuple[str, ...]


def word_faults(definition: Definition) -> Iterator[Fault]:
    """Yield a complaint for each word of a list, and each variable, that no shell reads."""
    for number, command in enumerate(commands(definition)):
        words = _words(command, (*route_of(number), "command"))
        for place, (route, word) in enumerate(words):
            if said := _program(word) if place == 0 else _argument(word):
                yield Fault(route, said)
        own = (definition.then[number - 1] if number else definition).environment
        for name, value in own.items():
            if said := _variable(name, value):
                yield Fault((*route_of(number), "environment", name), said)


def _program(word: str) -> str:
    """Return the sentence about the first word of a list, which names a program; "": it is one."""
    if word in _BUILT_IN:
        return (
            f"{word!r} is a command of the shell, and no program. Write it into a line of "
            "'set_up', which the same shell runs before the command."
        )
    bare = re.sub(r"\{[^{}]*\}", "x", word.strip())
    name, blank, _ = bare.partition(" ")
    if blank and ("/" not in bare or re.search(r"\s-|\sx", bare[len(name) :])):
        return (
            f"{word[:100]!r} is the name of one program, blanks included. Write each word as an "
            "entry of the list, or the command as a text."
        )
    return ""


def _argument(word: str) -> str:
    """Return the sentence about an argument that is meant for a shell, or as two; "": it is not."""
    if word in _OF_SHELL:
        instead = ", or use 'stdout' for a file that gets the output" if ">" in word else ""
        return (
            f"{word!r} is an argument of the program: no shell runs a list. Write the command as a "
            f"text{instead}."
        )
    if found := _OPTION_WITH_VALUE.fullmatch(word):
        option, value = found.groups()
        return (
            f"'{word[:100]}' is one argument, blank included; write [{option}, \"{value[:100]}\"]."
        )
    if _EXPANDED.fullmatch(word):
        return (
            f"{word[:100]!r} reaches the program as it stands: no shell runs a list. Write "
            "'{name}' for an input, or the command as a text."
        )
    return ""


def _variable(name: str, value: str) -> str:
    """Return the sentence about a variable that names another; "": it does not."""
    if found := _VARIABLE.search(value):
        return (
            f"{found[0]!r} is set as it stands, because no shell reads it. Write a line of "
            f"'set_up': export {name}=..., or '{{name}}' for an input."
        )
    return ""


def _words(command: Command, route: Route) -> Iterator[tuple[Route, str]]:
    """Yield the words of a command line that is a list, with their keys."""
    parts = command.command if isinstance(command.command, list) else []
    for place, part in enumerate(parts):
        here = (*route, str(place))
        if isinstance(part, When):
            yield from _each((*here, "then"), part.then)
        else:
            yield from _each(here, part)


def _each(route: Route, words: str | list[str]) -> Iterator[tuple[Route, str]]:
    """Yield a word, or those of a group, with their keys."""
    if isinstance(words, str):
        yield route, words
    else:
        yield from (((*route, str(place)), word) for place, word in enumerate(words))
