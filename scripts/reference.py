"""The reference of the keys of a program definition, made from the types that read them.

`scripts/reference` writes it between the two marks in docs/programs.md; a test compares.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import msgspec

from zwrap.program.definition import Definition
from zwrap.program.marks import FILLED

PAGE = Path(__file__).parents[1] / "docs" / "programs.md"
BEGIN = "<!-- made by scripts/reference from the types in zwrap/program: do not edit -->"
END = "<!-- end of what scripts/reference makes -->"

WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    object: "any value",
    type(None): "none",
}

Struct = type[msgspec.Struct]


def main() -> None:
    """Write the reference into the page."""
    PAGE.write_text(replaced(PAGE.read_text()))


def replaced(page: str) -> str:
    """Return a page with the reference between the marks in it."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def reference() -> str:
    """Return the tables of all keys, as Markdown."""
    return "\n".join(line for route, kind in structs(Definition) for line in _table(route, kind))


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
    yield f"### {f'`{route}`' if route else 'All keys'}"
    yield ""
    yield from (*_prose(kind), "")
    yield "| key | value | unless given | meaning |"
    yield "|---|---|---|---|"
    meanings = docstrings(kind)
    for field in msgspec.structs.fields(kind):
        if field.name != "source":
            words = _kind(field.type)
            meaning = _cell(meanings.get(field.name, ""))
            yield f"| `{field.encode_name}` | {words} | {_default(field)} | {meaning} |"
    yield ""


def _prose(kind: Struct) -> list[str]:
    """Return the docstring of a struct, as paragraphs."""
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return ["\n\n".join(_plain(each) for each in paragraphs)]


def docstrings(kind: Struct) -> dict[str, str]:
    """Return what stands below each field of a struct in its source."""
    module: ModuleType = sys.modules[kind.__module__]
    tree = ast.parse(inspect.getsource(module))
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
        filled = ", `{name}` filled in" if FILLED in given[1:] else ""
        return f"{_kind(given[0])}{filled}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(each) for each in given if each is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in given)
    if origin is dict:
        return f"name → {_kind(given[1])}"
    if origin is list:
        return f"list of {_kind(given[0])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "keys below"
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


if __name__ == "__main__":
    main()
