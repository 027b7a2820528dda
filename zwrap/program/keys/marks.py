"""Marks of keys of a definition: what the texts under them mean, for checks and for the reference.

A mark is written into the type of a field: ``files: Annotated[list[str], FILLED]``. It holds for
all texts below the field, but not for those in structs, whose fields have marks of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, get_origin

import msgspec

FILLED = msgspec.Meta(extra={"texts": "filled"})
"""Texts in which ``{name}`` stands for a value."""

INPUT_NAME = msgspec.Meta(extra={"texts": "input"})
"""Texts that are names of inputs, or of other keys of `job_parameters`."""

OF_COMMANDS = (
    "command", "set_up", "stdin", "stdout", "directory", "environment", "success", "progress",
)  # fmt: skip
"""Keys of a command in which the entry of its loop has a value; in others of a definition none."""


Text = tuple[tuple[str, ...], str, tuple[str, ...]]
"""Keys of a text of a definition, the text, and names with a value there only, such as that of a
loop."""


def marked(
    value: object, mark: msgspec.Meta, route: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[Text]:
    """Yield the texts in a struct, and in those below it, whose fields have a mark."""
    looped = _loop(value)
    for field in msgspec.structs.fields(type(value)) if isinstance(value, msgspec.Struct) else ():
        has = get_origin(field.type) is Annotated and mark in field.type.__metadata__
        place = (*route, field.encode_name)
        known = (*names, *looped) if field.name in OF_COMMANDS else names
        yield from _below(getattr(value, field.name), mark, place, known, has=has)


def _below(
    value: object, mark: msgspec.Meta, route: tuple[str, ...], names: tuple[str, ...], *, has: bool
) -> Iterator[Text]:
    """Yield the marked texts in the value of a field; `has`: True if the field has the mark."""
    if isinstance(value, msgspec.Struct):
        yield from marked(value, mark, route, names)
    elif isinstance(value, str) and has:
        yield route, value, names
    elif isinstance(value, (Mapping, list)):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, entry in entries:
            yield from _below(entry, mark, (*route, str(key)), names, has=has)


def _loop(value: object) -> list[str]:
    """Return the names that stand for the entry, and its number, in the loop of a command."""
    names = getattr(value, "for_each", None) or ()
    return [each for name in names for each in (name, f"{name}_number")]
