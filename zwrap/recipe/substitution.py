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

from zwrap.errors import RecipeError
from zwrap.limits import DEFAULTS, Limits, weight
from zwrap.message import copied
from zwrap.recipe.quoting import AsIs, replace_quoted

_REPLACE = re.compile(r"\{\$REPLACE:([^{}]+)\}")
_SIMPLE_FIELD = re.compile(r"\{([^{}]+)\}")
_FIELD_NAME = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]*\])*)")
_SHELL_PIECE = r"\{\{|\}\}|\{[^{}]+\}"
_formatter = string.Formatter()

Printer = Callable[[str], str]
"""Function that turns the text of a value into its replacement text."""

_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?z?#?[\d,_]*(?:\.[\d,_]+)?[a-zA-Z%]?", re.DOTALL)
"""Form of a format specification. Source: Python, Format Specification Mini-Language."""

DEEPEST_SPEC = 20
"""Depth to which placeholders in format specifications of placeholders are filled in."""

PLACEHOLDER_BYTES = 64
"""Size for which a placeholder counts beside its value, in bytes: even an empty one takes time."""

LONGEST_INDEX = 20
"""Largest number of digits of an index, as in ``{x[7]}``."""


@runtime_checkable
class _Indexable(Protocol):
    """A value to which ``[...]`` in a field can be applied."""

    def __getitem__(self, key: int | str, /) -> object: ...


class _UnfilledError(Exception):
    """The field cannot be filled in and stays verbatim."""


def fill(text: str, parameters: Mapping[str, object], printer: Printer = str) -> str:
    """Return a text with its ``{name}`` fields filled in, within the default limits.

    `printer` is applied to the text of each value.
    """
    return Filling(parameters).text(text, printer)


def substitute(value: object, parameters: Mapping[str, object]) -> object:
    """Return a copy of a JSON value with every text filled in, within the default limits."""
    return Filling(parameters).value(value)


class Filling:
    """The filling in of one value, or of several, within limits of width and of size.

    All methods raise RecipeError, which names the limit, if a placeholder asks for a greater width,
    or if more was filled in than the limit; no text raises any other error.
    """

    def __init__(self, parameters: Mapping[str, object], limits: Limits = DEFAULTS) -> None:
        """Fill in `parameters`, by name; a placeholder without a value stays."""
        self._parameters = parameters
        self._limits = limits
        self._left = limits.filled_bytes
        self._weights: dict[str, int] = {}

    def value(self, value: object, *, quote_commands: bool = False, shell: bool = False) -> object:
        """Return a copy of a JSON value in which every text, keys included, is filled in once.

        A text that is only ``{$REPLACE:name}`` becomes the value of that name, or None.

        Args:
            value: The JSON value.
            quote_commands: True if shell text under a key ``commands`` is filled in as such.
            shell: True if all texts but keys are shell text.
        """
        if isinstance(value, str):
            replace = _REPLACE.fullmatch(value)
            if replace:
                return self._replacement(replace[1])
            return self.shell(value) if shell else self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(key) if isinstance(key, str) else key: self.value(
                    entry,
                    quote_commands=quote_commands,
                    shell=shell or (quote_commands and key == "commands"),
                )
                for key, entry in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [
                self.value(entry, quote_commands=quote_commands, shell=shell) for entry in value
            ]
        return copied(value)

    def _replacement(self, name: str) -> object:
        """Return a copy of the value of a parameter, None without one."""
        value = self._parameters.get(name)
        if name not in self._weights:
            self._weights[name] = weight(value)
        self._charge(self._weights[name])
        return copied(value)

    def shell(self, text: str) -> str:
        """Return shell text with its fields filled in, each value quoted for the quotes around."""
        try:
            list(_formatter.parse(text))
            braces = {"{{": AsIs("{"), "}}": AsIs("}")}
        except ValueError:  # stray braces, as in `text`
            braces = {}

        def value(piece: str) -> str | None:
            if piece in ("{{", "}}"):
                return braces.get(piece)
            filled = self.text(piece)
            return None if filled == piece else filled

        return replace_quoted(text, _SHELL_PIECE, value)

    def text(self, text: str, printer: Printer = str, depth: int = 1) -> str:
        """Return a text with its ``{name}`` fields filled in.

        Args:
            text: The text.
            printer: Function that is applied to the text of each value.
            depth: 1 for a text, 2 for a format specification in it, and so on.
        """
        if "{" not in text and "}" not in text:
            return text
        try:
            pieces = list(_formatter.parse(text))
        except ValueError:  # stray braces: only whole, known fields are touched, nothing unescaped
            return _SIMPLE_FIELD.sub(lambda m: self._simple(m, printer), text)
        return "".join(
            literal + ("" if field is None else self._field(field, spec, how, printer, depth))
            for literal, field, spec, how in pieces
        )

    def _simple(self, match: re.Match[str], printer: Printer) -> str:
        """Return a plain field filled in, in a text with stray braces."""
        self._charge(PLACEHOLDER_BYTES)
        try:
            return self._charged(printer(str(self._found(match[1]))))
        except (_UnfilledError, ValueError):
            return match[0]

    def _field(
        self, field: str, spec: str | None, how: str | None, printer: Printer, depth: int
    ) -> str:
        """Return one field filled in and formatted, or verbatim if that is not possible."""
        spec = spec or ""
        self._charge(PLACEHOLDER_BYTES)
        try:
            if "{" in spec and depth >= DEEPEST_SPEC:
                raise _UnfilledError
            if spec:
                spec = self.text(spec, depth=depth + 1)
            value = self._found(field)
            if how:
                value = _formatter.convert_field(value, how)
            if spec:
                self._check_width(field, spec)
            return self._charged(printer(format(value, spec)))
        except (_UnfilledError, ValueError, TypeError, OverflowError):
            return "{" + field + (f"!{how}" if how else "") + f":{spec}" * bool(spec) + "}"

    def _check_width(self, field: str, spec: str) -> None:
        """Raise RecipeError if a format specification has a greater width than the limit."""
        limit = self._limits.format_width
        for digits in re.findall(r"\d+", spec):  # `format` takes those of all scripts, too
            if len(digits) > LONGEST_INDEX or int(digits) > limit:
                if not _SPEC.fullmatch(spec):
                    raise _UnfilledError
                raise RecipeError(
                    f"The placeholder {{{field[:60]}:{spec[:60]}}} asks for a width of more than "
                    f"{limit} characters (section limits, key 'format_width')."
                )

    def _charged(self, text: str) -> str:
        """Return a text that is filled in, which counts."""
        self._charge(len(text))
        return text

    def _charge(self, size: int) -> None:
        """Count what is filled in; RecipeError if it is too much."""
        self._left -= size
        if self._left < 0:
            raise RecipeError(
                f"The parameters fill in more than {self._limits.filled_bytes} bytes (section "
                "limits, key 'filled_bytes'). Put large data into a file, and give its path."
            )

    def _found(self, field: str) -> object:
        """Return the value for which ``name``, ``name[key]`` or ``name[0][key]`` stands."""
        match = _FIELD_NAME.fullmatch(field)
        if not match or match[1] not in self._parameters:
            raise _UnfilledError
        value = self._parameters[match[1]]
        if not match[2]:
            return value
        for key in re.findall(r"\[([^\[\]]*)\]", match[2]):
            if not isinstance(value, _Indexable):
                raise _UnfilledError
            try:
                value = value[int(key) if key.isdecimal() and len(key) <= LONGEST_INDEX else key]
            except (KeyError, IndexError, TypeError):
                raise _UnfilledError from None
        return value
