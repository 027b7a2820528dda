"""Parameter substitution in recipes: `{name}` as Python formats it, minus everything that kills.

Text that `str.format` accepts gives what `str.format` gives, except that attribute access is
never done (`{x.y}` stays as it is). Whatever cannot be filled in stays verbatim: unknown names,
missing keys, `{}`, stray braces. See reference "Format String Syntax" of the Python manual.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from zwrap.message import copied
from zwrap.recipe.quoting import AsIs, replace_quoted

_REPLACE = re.compile(r"\{\$REPLACE:([^{}]+)\}")
_SIMPLE_FIELD = re.compile(r"\{([^{}]+)\}")
_FIELD_NAME = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]*\])*)")
_SHELL_PIECE = r"\{\{|\}\}|\{[^{}]+\}"
_formatter = string.Formatter()

Printer = Callable[[str], str]
Filler = Callable[[str, Mapping[str, Any]], str]


class _UnfilledError(Exception):
    """The field cannot be filled in and stays verbatim."""


def fill_shell(text: str, parameters: Mapping[str, Any]) -> str:
    """Shell `text` with its fields filled in, each value quoted for the quotes around it."""
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


def fill(text: str, parameters: Mapping[str, Any], printer: Printer = str) -> str:
    """`text` with its `{name}` fields filled in; `printer` is applied to each value's text."""
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


def _filled_simple(match: re.Match[str], parameters: Mapping[str, Any], printer: Printer) -> str:
    try:
        return printer(str(_value(match[1], parameters)))
    except _UnfilledError:
        return match[0]


def _filled(
    field: str,
    spec: str | None,
    conversion: str | None,
    parameters: Mapping[str, Any],
    printer: Printer,
) -> str:
    spec = fill(spec or "", parameters)
    try:
        value = _formatter.convert_field(_value(field, parameters), conversion)
        return printer(format(value, spec))
    except (_UnfilledError, ValueError, TypeError):
        return (
            "{" + field + (f"!{conversion}" if conversion else "") + f":{spec}" * bool(spec) + "}"
        )


def _value(field: str, parameters: Mapping[str, Any]) -> Any:
    """The value that `name`, `name[key]` or `name[0][key]` stands for."""
    match = _FIELD_NAME.fullmatch(field)
    if not match or match[1] not in parameters:
        raise _UnfilledError
    value = parameters[match[1]]
    for key in re.findall(r"\[([^\[\]]*)\]", match[2]):
        try:
            value = value[int(key) if key.isdecimal() else key]
        except (KeyError, IndexError, TypeError):
            raise _UnfilledError from None
    return value


def substitute(value: Any, parameters: Mapping[str, Any], filled: Filler = fill) -> Any:
    """A copy of `value` in which every text, dictionary keys included, is filled in once."""
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


def substitute_quoting_commands(value: Any, parameters: Mapping[str, Any]) -> Any:
    """As `substitute`, but below keys ``commands`` (shell text) each value stays one word."""
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
