"""Faults of form in a definition: each with its key, and with the keys that are known there.

It is loaded only when a definition is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from zwrap.errors import short
from zwrap.message.jsontext import typed

KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "no value",
    "array": "a list",
    "object": "a mapping of keys to values",
}
"""Name of a type in a sentence of msgspec to words for people."""

_EXPECTED = re.compile(r"Expected `([^`]+)`( [<>=!]+ [^`]+?)?(?:, got `([^`]+)`)?$")


class Fault(NamedTuple):
    """A fault of form in a definition."""

    route: tuple[str, ...]
    """Keys to the value that is wrong, from the outermost."""
    said: str
    """A sentence without the place."""


def faults(value: object, kind: Any, route: tuple[str, ...] = ()) -> Iterator[Fault]:  # noqa: ANN401 - types have none in common
    """Yield each fault of a value that is to be of a type, in the order of the type's keys."""
    try:
        typed(value, kind)
    except msgspec.ValidationError as error:
        hint = _quotes_needed(value, kind)
        inner = [] if hint else list(_inner(value, kind, route))
        if hint:
            yield Fault(route, hint)
        yield from (
            inner if inner or hint else [Fault(route, _sentence(str(error), value, _words(kind)))]
        )


def _quotes_needed(value: object, kind: Any) -> str:  # noqa: ANN401
    """Return the sentences about a placeholder that YAML reads as a mapping; "": it is none."""
    if isinstance(value, Mapping) and len(value) == 1 and str in _alternatives(kind):
        [(name, inner)] = value.items()
        if inner is None:
            return (
                "It is a mapping of keys to values; a text is expected. A placeholder needs "
                f'quotes: "{{{name}}}".'
            )
    return ""


def _inner(value: object, kind: Any, route: tuple[str, ...]) -> Iterator[Fault]:  # noqa: ANN401
    """Yield the faults of what a value holds; none if the value itself is of the wrong type."""
    for each in _alternatives(kind):
        origin, given = get_origin(each), get_args(each)
        if isinstance(value, Mapping) and origin is dict:
            for key, entry in value.items():
                yield from faults(entry, given[1], (*route, str(key)))
        elif isinstance(value, Mapping) and _is_struct(each):
            yield from _of_struct(value, each, route)
        elif isinstance(value, list) and origin is list:
            for number, entry in enumerate(value):
                yield from faults(entry, given[0], (*route, str(number)))


def _alternatives(kind: Any) -> list[Any]:  # noqa: ANN401
    """Return the types of which a value may be one, without marks and bounds."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [each for part in get_args(kind) for each in _alternatives(part)]
    return [kind]


def _words(kind: Any) -> list[str]:  # noqa: ANN401
    """Return the words of which a value must be one; none if it may be something else."""
    words = [get_args(each) for each in _alternatives(kind) if get_origin(each) is Literal]
    return [str(word) for each in words for word in each]


def _is_struct(kind: object) -> bool:
    """Return True for a struct of msgspec."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _of_struct(
    value: Mapping[str, object], kind: type[msgspec.Struct], route: tuple[str, ...]
) -> Iterator[Fault]:
    """Yield the faults of the keys of a mapping that is to be a struct."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    known = known_keys(kind)
    for key in value:
        if key not in fields and kind.__struct_config__.forbid_unknown_fields:
            yield Fault((*route, str(key)), unknown("key", key, known, "Known keys there"))
    for key, field in fields.items():
        if key in value:
            yield from faults(value[key], field.type, (*route, key))
        elif field.required:
            yield Fault(route, f"Key {key!r} is missing. Known keys there: {', '.join(known)}.")


def placed(at: Callable[..., str], route: Iterable[str]) -> str:
    """Return the place of a value for people: file, line and key.

    Args:
        at: Function from keys, from the outermost, to file and line.
        route: Keys of the value.
    """
    keys = list(route)
    key = f", key {'.'.join(keys)!r}" if keys else ""
    return f"{at(*keys)}{key}"


def known_keys(kind: type[msgspec.Struct]) -> list[str]:
    """Return the keys of a struct that a file may hold."""
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.name != "source"]


def unknown(what: str, name: object, known: list[str], listed: str = "Known") -> str:
    """Return the sentences about a name that is not known, with the nearest one that is.

    Args:
        what: Kind of thing that has the name.
        name: The unknown name.
        known: Names that could have been used.
        listed: Words before the list of known names.
    """
    import difflib

    close = difflib.get_close_matches(str(name)[:200], known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {what} {short(name)}.{hint} {listed}: {', '.join(known) or 'none'}."


def _sentence(error: str, value: object, words: list[str]) -> str:
    """Return a complaint of msgspec about a value in words for people; `words`: see `_words`."""
    what = error.partition(" - at `$")[0]
    if words and isinstance(value, str):
        return unknown("word", value, words, "Expected is one of")
    if not (found := _EXPECTED.match(what)):
        return f"{what}."
    expected, bound, got = found.groups()
    if got is None:
        return f"It is {short(value)}; {_kinds(expected)}{bound or ''} is expected."
    quotes = "; put it in quotes" if expected == "str" and got in ("int", "float", "bool") else ""
    return f"It is {_kinds(got)}; {_kinds(expected)} is expected{quotes}."


def _kinds(names: str) -> str:
    """Return the words for a type of msgspec, or for a union of types."""
    kinds = names.split(" | ")
    kinds = [kind for kind in kinds if kind != "null"] or kinds
    return " or ".join(KINDS.get(kind, kind) for kind in kinds)
