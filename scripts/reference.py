"""References in docs, made from what reads them: keys of a program definition, commands of ISPyB.

`scripts/reference` writes them between the marks in docs/programs.md and docs/ispyb-commands.md; a
test compares.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import msgspec

from zwrap.program.definition import Definition
from zwrap.program.keys.marks import FILLED, INPUT_NAME
from zwrap.program.keys.messages import Part
from zwrap.program.parsers.table import PARSERS, Option
from zwrap.service.ispyb.commands.processing import PIPELINES
from zwrap.service.ispyb.commands.table import COMMANDS

DOCS = Path(__file__).parents[1] / "docs"
BEGIN = "<!-- {}: made by scripts/reference; do not edit -->"
END = "<!-- end of {} -->"
"""Marks in the page around each of the blocks."""

WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    object: "any value",
    type(None): "none",
}

PLURALS = {"text": "texts", "whole number": "whole numbers", "mapping": "mappings"}

Struct = type[msgspec.Struct]

NAME_OF_FILE = "name of the file"
"""Default of the name of a definition in a file."""

PART = "messages.PART"
"""Where a part stands, which no type of a field names: anywhere in the payload of a message."""


def main() -> None:
    """Write the references into their pages."""
    for name in BLOCKS:
        page = DOCS / name
        page.write_text(replaced(page.read_text(), name))


def replaced(page: str, name: str) -> str:
    """Return the text of a page of a name with the references between the marks in it."""
    for block, lines in BLOCKS[name].items():
        begin, end = BEGIN.format(block), END.format(block)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = "\n".join([f"{before}{begin}", "", *lines(), f"{end}{after}"])
    return page


def _commands() -> Iterator[str]:
    """Yield the lines of the tables of all commands of the ISPyB service."""
    told: dict[int, str] = {}
    for command in COMMANDS.values():
        yield from (f"### `{command.name}`", "", f"{_cell(command.meaning)}.", "")
        same = told.setdefault(id(command.fields), command.name)
        if same != command.name:
            yield from (f"Takes the parameters of `{same}`.", "")
            continue
        yield from ("| parameter | meaning | column |", "|---|---|---|")
        for name, field in command.fields.items():
            required = " (required)" if field.required else ""
            column = f"`{field.column}`" if field.column else ""
            yield f"| `{name}` | {_cell(field.meaning)}{required} | {column} |"
        yield ""


def _pipelines() -> Iterator[str]:
    """Yield the lines of the table of pipelines."""
    yield from ("| `program`, or `program/upstream_source` | `processingPipelineId` |", "|---|---|")
    for name, number in PIPELINES.items():
        yield f"| `{name}` | {number} |"
    yield ""


def _keys() -> Iterator[str]:
    """Yield the lines of the tables of all keys."""
    for route, kind in every():
        yield from _table(route, kind)


def _parsers() -> Iterator[str]:
    """Yield the lines of the table of parsers and their options."""
    yield from ("| parser | gives | options |", "|---|---|---|")
    for name, parser in PARSERS.items():
        options = "; ".join(_option(key, each) for key, each in parser.options.items())
        yield f"| `{name}` | {_cell(parser.gives)} | {options} |"
    yield ""


def _option(key: str, option: Option) -> str:
    """Return what an option of a parser means; those that are files stand under `beside`."""
    notes = [note for note, holds in (("required", option.required),
             ("under `beside`", option.type == "file")) if holds]  # fmt: skip
    notes += [f"one of {', '.join(f'`{each}`' for each in option.choices)}"] * bool(option.choices)
    note = f" ({', '.join(notes)})" if notes else ""
    return f"`{key}`{note}: {_cell(option.meaning)}"


def every() -> Iterator[tuple[str, Struct]]:
    """Yield all structs of a definition, with the keys that lead there."""
    yield from structs(Definition)
    yield from structs(Part, PART)


def structs(kind: Struct, route: str = "") -> Iterator[tuple[str, Struct]]:
    """Yield a struct and those below it, each once, with the keys that lead there."""
    seen: list[Struct] = []
    waiting = [(route, kind)]
    while waiting:
        route, kind = waiting.pop(0)
        if kind in seen:
            continue
        seen.append(kind)
        yield route, kind
        for field in msgspec.structs.fields(kind):
            place = f"{route}.{field.encode_name}" if route else field.encode_name
            waiting += [(place + suffix, inner) for suffix, inner in _inside(field.type)]


def _inside(kind: object) -> Iterator[tuple[str, Struct]]:
    """Yield the structs in a type, each with what stands behind the key that leads to it."""
    origin, given = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield "", kind
    elif origin is Annotated:
        yield from _inside(given[0])
    elif origin in (Union, UnionType):
        for each in given:
            yield from _inside(each)
    elif origin is dict:
        yield from ((f".NAME{suffix}", inner) for suffix, inner in _inside(given[1]))
    elif origin is list:
        yield from ((f"[]{suffix}", inner) for suffix, inner in _inside(given[0]))


def _table(route: str, kind: Struct) -> Iterator[str]:
    """Yield the lines of the section about one struct."""
    if route:
        yield from (f"### `{route}`", "")
    yield from (*_prose(kind), "")
    yield from ("| key | value | if not given | meaning |", "|---|---|---|---|")
    meanings = docstrings(kind)
    for field in msgspec.structs.fields(kind):
        if field.name != "source":
            words = _kind(field.type)
            meaning = _cell(meanings.get(field.name, ""))
            default = (
                NAME_OF_FILE if (kind, field.name) == (Definition, "name") else _default(field)
            )
            yield f"| `{field.encode_name}` | {words} | {default} | {meaning} |"
    yield ""


def _prose(kind: Struct) -> list[str]:
    """Return the docstring of a struct, as paragraphs."""
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return ["\n\n".join(_plain(each) for each in paragraphs)]


def docstrings(kind: Struct) -> dict[str, str]:
    """Return what stands below each field of a struct, and of those it inherits, in the source."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= _own_docstrings(base)
    return found


def _own_docstrings(kind: Struct) -> dict[str, str]:
    """Return what stands below each field of a struct in its own source."""
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    body = next(
        each.body
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef) and each.name == kind.__name__
    )
    return {
        first.target.id: str(second.value.value)
        for first, second in pairwise(body)
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    }


def _kind(kind: object) -> str:
    """Return the words for a type."""
    origin, given = get_origin(kind), get_args(kind)
    if origin is Annotated:
        notes = ", filled in" * (FILLED in given[1:]) + " (an input)" * (INPUT_NAME in given[1:])
        return f"{_kind(given[0])}{notes}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(each) for each in given if each is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in given)
    if origin is dict:
        return f"name → {_kind(given[1])}"
    if origin is list:
        inner = _kind(given[0])
        return f"list of ({inner})" if " or " in inner else f"list of {PLURALS.get(inner, inner)}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "mapping"
    return WORDS[kind] if isinstance(kind, type) else str(kind)


def _default(field: msgspec.structs.FieldInfo) -> str:
    """Return what holds where a key is not given."""
    if field.required:
        return "required"
    made = field.default_factory
    value = field.default if made is msgspec.NODEFAULT else made()
    if value is None or value == "" or value == [] or value == {}:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "see below"
    return f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    """Return a docstring as a cell of a table."""
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return a docstring as Markdown, in one line."""
    return " ".join(re.sub(r"``([^`]+)``", r"`\1`", text).split())


BLOCKS: Mapping[str, Mapping[str, Callable[[], Iterator[str]]]] = {
    "programs.md": {"keys": _keys, "parsers": _parsers},
    "ispyb-commands.md": {"pipelines": _pipelines, "commands": _commands},
}
"""Page to the references in it."""

if __name__ == "__main__":
    main()
