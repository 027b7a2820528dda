"""XML: documents without entities of their own, and as a mapping."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import Options, at_key, content, texts, value

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
    """Raise ProgramError if a document declares an entity."""

    def declared(name: str, *_: object) -> None:
        raise ProgramError(f"{path} declares the XML entity {name[:60]!r}; none are accepted.")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = declared
    parser.Parse(text, True)


def parse_xml(path: Path, options: Options) -> object:
    """Return a document as a mapping from the outermost element's name to its content."""
    outermost = root(path)
    lists = frozenset(texts(options, "lists"))
    return at_key({_name(outermost): _content(outermost, lists, path)}, options, path)


def _name(element: ET.Element) -> str:
    """Return the name of an element, without its namespace."""
    return element.tag.rpartition("}")[2]


def _content(element: ET.Element, lists: frozenset[str], path: Path, depth: int = 1) -> object:
    """Return what an element holds: a value, or a mapping of its attributes and elements."""
    if depth > DEEPEST:
        raise ProgramError(f"{path} is nested more than {DEEPEST} elements deep.")
    text = (element.text or "").strip()
    if not len(element) and not element.attrib:
        return value(text) if text else None
    found: dict[str, object] = {f"@{key}": value(each) for key, each in element.attrib.items()}
    repeated: dict[str, list[object]] = {}
    for child in element:
        repeated.setdefault(_name(child), []).append(_content(child, lists, path, depth + 1))
    for name, entries in repeated.items():
        found[name] = entries if len(entries) > 1 or name in lists else entries[0]
    if text:
        found["#text"] = value(text)
    return found
