"""Reading of YAML with the place of each value, so that messages name file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from zwrap.errors import ConfigurationError
from zwrap.host.files import UnfitFileError
from zwrap.host.given import read_text_given

Route = tuple[str, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

AS_WRITTEN = ("password", "username")
"""Keys whose plain numbers are texts as they are written, ``0815`` included: a password or a name
is no quantity."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TEXT = "tag:yaml.org,2002:str"

_FAULTS = (
    yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError,
    RecursionError,
)  # fmt: skip
"""Errors of PyYAML for a text with any fault; those of values are not documented."""


class Source(msgspec.Struct, frozen=True):
    """One text of configuration."""

    label: str
    """Name of the text for people, usually its file."""
    base: Path
    """Directory from which relative paths in the text start."""
    data: Any
    lines: Mapping[Route, int] = {}

    def place(self, *route: str) -> str:
        """Return file, line and key of a value, with which a message may begin."""
        around = self._around(route)
        where = f"{self.label}, line {self.lines[around]}" if around else self.label
        return f"{where}, key {'.'.join(route)!r}" if route else where

    def origin(self, *route: str) -> str:
        """Return file and line of a value, or of the innermost known value around it."""
        around = self._around(route)
        return f"{self.label}:{self.lines[around]}" if around else self.label

    def begin(self, *route: str) -> str:
        """Return what `origin` does; without keys, the file and the line of its first key."""
        if route or not self.lines:
            return self.origin(*route)
        return f"{self.label}:{min(self.lines.values())}"

    def _around(self, route: Route) -> Route:
        """Return the route of the value, or of the innermost value around it with a known line."""
        while route and route not in self.lines:
            route = route[:-1]
        return route


def read_file(path: Path, what: str) -> Source:
    """Read a YAML file.

    Raises:
        ConfigurationError: The file cannot be read, or is not valid YAML; the text begins with
            `what`, a name for the file.
    """
    try:
        text = read_text_given(path)
    except OSError as error:
        raise ConfigurationError(f"{what} {path} cannot be read: {error.strerror}.") from None
    except UnfitFileError as error:
        raise ConfigurationError(f"{what} {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{what} {path} is not UTF-8 text: {error.reason}.") from None
    return read_text(text, str(path), path.parent)


def read_text(text: str, label: str, base: Path) -> Source:
    """Read YAML text; ConfigurationError names the line of its first fault."""
    node: yaml.Node | None = None
    try:
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            lines = _lines(node, label) if node is not None else {}
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except _FAULTS as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        mark = mark or (_fault_in(node) if node is not None else None)
        where = f"{label}, line {mark.line + 1}," if mark else label
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
        if clause := _clause(problem, error, text):
            problem += f" ({clause})"
        raise ConfigurationError(f"{where} is not valid YAML: {problem}.") from None
    return Source(label, base, data, lines)


_CLAUSES = {
    "unknown escape character": "a backslash in \"...\" begins an escape; put patterns in '...'",
    "mapping values are not allowed": 'a text with ": " in it needs quotes',
    "alphabetic or numeric character": "a text that begins with '*' or '&' needs quotes",
    "did not find expected key": "the line is indented otherwise than those around it, or has more "
    "behind a closing quote or brace: a text that begins with '{' or a quote needs quotes around "
    "the whole",
}
"""Words in a complaint of PyYAML to what a person can do about it."""


def _clause(problem: str, error: Exception, text: str) -> str:
    """Return what a person can do about a fault of YAML; "": the problem says it."""
    if "cannot start any token" in problem:
        mark = getattr(error, "problem_mark", None)
        character = text[mark.index : mark.index + 1] if mark else ""
        if character in ("", "\t"):
            return "a tab, say: YAML is indented with blanks only"
        return f"a text that begins with {character!r} needs quotes"
    begin = getattr(error, "context_mark", None)
    if begin and "quoted scalar" in str(getattr(error, "context", "")) and "end of" in problem:
        return f"the quote in line {begin.line + 1} is not closed"
    return next((clause for words, clause in _CLAUSES.items() if words in problem), "")


def _fault_in(root: yaml.Node) -> yaml.Mark | None:
    """Return the place of the first value that cannot be constructed, such as day 45 of a month."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            waiting += [each for pair in reversed(node.value) for each in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        else:
            try:
                _LOADER("").construct_object(node)
            except _FAULTS:
                return node.start_mark
    return None


def _lines(root: yaml.Node, label: str) -> dict[Route, int]:
    """Return the line of every key and list entry; ConfigurationError for a repeated key.

    Numbers under `AS_WRITTEN` become texts.
    """
    lines: dict[Route, int] = {}
    stack: list[tuple[yaml.Node, Route]] = [(root, ())]
    seen: set[int] = set()
    while stack:
        node, route = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            here: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                if name in AS_WRITTEN and value.tag in _NUMBERS:
                    value.tag = _TEXT
                line = key.start_mark.line + 1
                if name in here and name != "<<":
                    raise ConfigurationError(
                        f"{label}, line {line}: key {'.'.join([*route, name])!r} is there twice; "
                        f"the first is in line {lines[(*route, name)]}."
                    )
                here.add(name)
                lines[(*route, name)] = line
                stack.append((value, (*route, name)))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                lines[(*route, str(number))] = value.start_mark.line + 1
                stack.append((value, (*route, str(number))))
    return lines
