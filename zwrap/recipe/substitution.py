"""Parameter substitution in recipes: ``{name}`` as in `str.format`, but without any error.

Text that `str.format` accepts gives the same result, except that attributes are never accessed
(``{x.y}`` stays). Whatever cannot be filled in stays verbatim: unknown names, missing keys, ``{}``,
stray braces. Source: Python's documentation, Format String Syntax.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from zwrap.message import copied
from zwrap.recipe.quoting import AsIs, replace_quoted

_REPLACE = re.compile(r"\{\$REPLACE:([^{}]+)\}")
_SIMPLE_FIELD = re.compile(r"\{([^{}]+)\}")
_FIELD_NAME = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]*\])*)")
_SHELL_PIECE = r"\{\{|\}\}|\{[^{}]+\}"
_formatter = string.Formatter()

Printer = Callable[[str], str]
"""Function that turns the text of a value into its replacement text."""

Filler = Callable[[str, Mapping[str, object]], str]
"""Function that fills in one text."""


@runtime_checkable
class _Indexable(Protocol):
    """A value to which ``[...]`` in a field can be applied."""

    def __getitem__(self, key: int | str, /) -> object: ...


class _UnfilledError(Exception):
    """The field cannot be filled in and stays verbatim."""


def fill_shell(text: str, parameters: Mapping[str, object]) -> str:
    """Return shell text with its fields filled in, each value quoted for the quotes around it."""
    try:
        list(_formatter.parse(text))
        braces = {"{{": AsIs("{"), "}}": AsIs("}")}
    except ValueError:  # stray braces, as in `fill`
        braces = {}

    def value(piece: str) -> str | None:
        if piece in ("{{", "}}"):
            return braces.get(piece)
        filled = fill(piece, parameters)
        return None if filled == piece else filled

    return replace_quoted(text, _SHELL_PIECE, value)


def fill(text: str, parameters: Mapping[str, object], printer: Printer = str) -> str:
    """Return a text with its ``{name}`` fields filled in; no text raises an error.

    `printer` is applied to the text of each value.
    """
    if "{" not in text and "}" not in text:
        return text
    try:
        pieces = list(_formatter.parse(text))
    except ValueError:  # stray braces: only whole, known fields are touched, nothing is unescaped
        return _SIMPLE_FIELD.sub(lambda m: _filled_simple(m, parameters, printer), text)
    return "".join(
        literal + ("" if field is None else _filled(field, spec, conversion, parameters, printer))
        for literal, field, spec, conversion in pieces
    )


def _filled_simple(match: re.Match[str], parameters: Mapping[str, object], printer: Printer) -> str:
    """Return a plain field filled in, in a text with stray braces."""
    try:
        return printer(str(_value(match[1], parameters)))
    except _UnfilledError:
        return match[0]


def _filled(
    field: str,
    spec: str | None,
    conversion: str | None,
    parameters: Mapping[str, object],
    printer: Printer,
) -> str:
    """Return one field filled in and formatted, or verbatim if that is not possible."""
    spec = fill(spec or "", parameters)
    try:
        value = _formatter.convert_field(_value(field, parameters), conversion)
        return printer(format(value, spec))
    except (_UnfilledError, ValueError, TypeError):
        return (
            "{" + field + (f"!{conversion}" if conversion else "") + f":{spec}" * bool(spec) + "}"
        )


def _value(field: str, parameters: Mapping[str, object]) -> object:
    """Return the value for which ``name``, ``name[key]`` or ``name[0][key]`` stands."""
    match = _FIELD_NAME.fullmatch(field)
    if not match or match[1] not in parameters:
        raise _UnfilledError
    value = parameters[match[1]]
    for key in re.findall(r"\[([^\[\]]*)\]", match[2]):
        if not isinstance(value, _Indexable):
            raise _UnfilledError
        try:
            value = value[int(key) if key.isdecimal() else key]
        except (KeyError, IndexError, TypeError):
            raise _UnfilledError from None
    return value


def substitute(value: object, parameters: Mapping[str, object], filled: Filler = fill) -> object:
    """Return a copy of a JSON value in which every text, keys included, is filled in once.

    A text that is only ``{$REPLACE:name}`` becomes the value of that name, or None.
    """
    if isinstance(value, str):
        replace = _REPLACE.fullmatch(value)
        if replace:
            return copied(parameters.get(replace[1]))
        return filled(value, parameters)
    if isinstance(value, Mapping):
        return {
            fill(key, parameters) if isinstance(key, str) else key: substitute(
                entry, parameters, filled
            )
            for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [substitute(entry, parameters, filled) for entry in value]
    return copied(value)


def substitute_quoting_commands(value: object, parameters: Mapping[str, object]) -> object:
    """Return a copy as `substitute` does, with values quoted in shell text under ``commands``."""
    if isinstance(value, Mapping):
        return {
            fill(key, parameters) if isinstance(key, str) else key: substitute(
                entry, parameters, fill_shell
            )
            if key == "commands"
            else substitute_quoting_commands(entry, parameters)
            for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [substitute_quoting_commands(entry, parameters) for entry in value]
    return substitute(value, parameters)
