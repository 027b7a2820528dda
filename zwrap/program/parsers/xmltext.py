"""XML: documents without entities of their own, and as a mapping."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import KnownValues, Options, Value, at_key, content, texts, value

DEEPEST = 200
"""Depth of nesting of the deepest element that is read."""


def root(path: Path) -> ET.Element:
    """Return the outermost element of a document; ProgramError if it is not valid.

    One that declares entities is refused: they can make a small file a large document.
    """
    text = content(path)
    try:
        _refuse_entities(text, path)
        return ET.fromstring(text)  # noqa: S314  (without entities)
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise ProgramError(f"{path} is not valid XML: {error}.") from None


def _refuse_entities(text: bytes, path: Path) -> None:
    """Raise ProgramError if a document declares an entity.

    In each encoding that the reader knows a declaration has these bytes, except for UTF-16, which
    has a NUL among the first four. Other documents need not be read twice.
    """
    if b"<!ENTITY" not in text and b"\0" not in text[:4]:
        return

    def declared(name: str, *_: object) -> None:
        raise ProgramError(f"{path} declares the XML entity {name[:60]!r}; none are accepted.")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = declared
    parser.Parse(text, True)


def parse_xml(path: Path, options: Options) -> object:
    """Return a document as a mapping from the outermost element's name to its content."""
    outermost = root(path)
    found = _Content(frozenset(texts(options, "lists")), path)
    return at_key({found.name(outermost.tag): found.of(outermost)}, options, path)


class _Content:
    """What elements of a document hold; names and values are made once of each text.

    Args:
        lists: Names of elements that are lists, also where there is one only.
        path: File of the document.
    """

    def __init__(self, lists: frozenset[str], path: Path) -> None:
        self._lists, self._path = lists, path
        self._values, self._attributes = KnownValues(_value), KnownValues()
        self._names: dict[str, str] = {}

    def name(self, tag: str) -> str:
        """Return the name of an element, without its namespace."""
        if tag not in self._names:
            self._names[tag] = tag.rpartition("}")[2]
        return self._names[tag]

    def of(self, element: ET.Element, depth: int = 1) -> object:
        """Return what an element holds: a value, or a mapping of its attributes and elements."""
        if depth + bool(len(element)) > DEEPEST:
            raise ProgramError(f"{self._path} is nested more than {DEEPEST} elements deep.")
        values = self._values
        text = values[element.text] if element.text else None
        if not len(element) and not element.attrib:
            return text
        found: dict[str, object] = {
            f"@{key}": self._attributes[each] for key, each in element.attrib.items()
        }
        several: dict[str, list[object]] = {}
        for child in element:
            name = self.name(child.tag)
            if len(child) or child.attrib:
                held = self.of(child, depth + 1)
            else:
                held = values[child.text] if child.text else None
            if name in several:
                several[name].append(held)
            elif name in found:
                found[name] = several[name] = [found[name], held]
            elif name in self._lists:
                found[name] = several[name] = [held]
            else:
                found[name] = held
        if element.text and element.text.strip():
            found["#text"] = text
        return found


def _value(text: str) -> Value:
    """Return the value of the text in an element; None for blanks."""
    bare = text.strip()
    return value(bare) if bare else None
