"""The way to a value in a document: ``a.b.0."a name with dots".*.c``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zwrap.errors import ProgramError

_PART = re.compile(r"""("[^"]*"|'[^']*'|[^.]+)(?:\.|$)|\.""")
_INDEX = re.compile(r"-?\d{1,9}")

Step = tuple[str, bool]
"""A name, an index or ``*``, and True if it was quoted, so that it is a name."""


def steps(route: str) -> list[Step]:
    """Return the steps of a route; empty ones are left out."""
    return [
        (part[1:-1], True) if len(part) > 1 and part[0] == part[-1] in "\"'" else (part, False)
        for part in _parts(route)
    ]


def _parts(route: str) -> Iterator[str]:
    """Yield what dots separate in a route, if they are outside of quotes."""
    at = 0
    while match := _PART.match(route, at):
        at = match.end()
        if match[1]:
            yield match[1]


def follow(value: object, route: str, where: str) -> object:
    """Return the value to which a route leads, with ``*`` a list of such values.

    Raises ProgramError, which begins with `where`, if there is none.
    """
    return _follow(value, steps(route), route, where)


def _follow(value: object, rest: list[Step], route: str, where: str) -> object:
    """Return the value to which the rest of a route leads."""
    for number, (name, quoted) in enumerate(rest):
        if name == "*" and not quoted and not (isinstance(value, dict) and "*" in value):
            if not isinstance(value, dict | list):
                raise ProgramError(f"{where} has no list for '*' in key {route!r}.")
            entries = value.values() if isinstance(value, dict) else value
            return [_follow(entry, rest[number + 1 :], route, where) for entry in entries]
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and not quoted and _INDEX.fullmatch(name):
            if not -len(value) <= int(name) < len(value):
                raise ProgramError(
                    f"{where} has no key {route!r}: there are {len(value)} entries before {name}."
                )
            value = value[int(name)]
        else:
            raise ProgramError(f"{where} has no key {route!r}{_known(value, name)}.")
    return value


def _known(value: object, name: str) -> str:
    """Return the names that could have been used in place of one, as a clause."""
    if isinstance(value, dict) and value:
        names = ", ".join(repr(str(each)[:60]) for each in list(value)[:10])
        return f": in place of {name[:60]!r} there {'are' if len(value) > 1 else 'is'} {names}"
    return f": there is no object that has {name[:60]!r}"
