"""Parameter substitution in recipes: ``{name}`` as in `str.format`, which here never fails.

Text that `str.format` accepts gives the same result, except that attributes are never accessed
(``{x.y}`` stays). What cannot be filled in stays as it is: unknown names, missing keys, ``{}``,
stray braces. ``{$REPLACE:name[key][0]}`` becomes a value, or null. Source: Python's documentation,
Format String Syntax.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from zwrap.errors import RecipeError
from zwrap.message.jsontext import copied
from zwrap.message.limits import DEFAULTS, Limits, weight
from zwrap.recipe.pieces import Piece, Value, as_text

REPLACE = re.compile(r"\{\$REPLACE:([^{}]+)\}")
"""Text that the value of a parameter replaces as a whole."""

PARAMETER = re.compile(r"(?!\d)[\w-]+(?:\.\w+|\[[^\[\]]*\])*")
"""Field that asks for a parameter; others, as in ``awk '{print $1}'``, mean something else."""

_SIMPLE_FIELD = re.compile(r"\{([^{}]+)\}")
_FIELD_NAME = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]*\])*)")
_formatter = string.Formatter()

Keys = tuple[str, ...]
"""The way to a value in a recipe: keys, from the outermost."""

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


def fill(text: str, parameters: Mapping[str, object]) -> str:
    """Return a text with its ``{name}`` fields filled in, within the default limits."""
    return Filling(parameters).text(text)


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
        self.limits = limits
        self._left = limits.filled_bytes
        self._weights: dict[str, int] = {}
        self.unfilled: dict[str, None] = {}
        """Placeholders that ask for a parameter and got no value, in order."""

    def value(self, value: object, keys: Keys = ()) -> object:
        """Return a copy of a JSON value in which every text, keys included, is filled in once.

        A text that is only ``{$REPLACE:name}`` becomes the value of that name, or of a key in it
        (``{$REPLACE:name[key][0]}``), or None. `keys` is the way to the value.
        """
        if isinstance(value, str):
            replace = REPLACE.fullmatch(value)
            return self._replacement(replace[1]) if replace else self.text(value)
        if isinstance(value, Mapping):
            return self.mapping(value, keys)
        if isinstance(value, (list, tuple)):
            return [self.value(entry, keys) for entry in value]
        return copied(value)

    def mapping(self, value: Mapping[object, object], keys: Keys) -> dict[object, object]:
        """Return a copy of an object with its keys and values filled in."""
        return {self.key(key): self.value(entry, (*keys, str(key))) for key, entry in value.items()}

    def key(self, key: object) -> object:
        """Return a key of an object, filled in; a text or a number may replace it as a whole."""
        if not isinstance(key, str):
            return key
        replace = REPLACE.fullmatch(key)
        value = self._replacement(replace[1]) if replace else None
        return str(value) if isinstance(value, (str, int, float)) else self.text(key)

    def _replacement(self, name: str) -> object:
        """Return a copy of the value of a parameter, or of a key in it; None without one."""
        value = self._value_of(name)
        if name not in self._weights:
            self._weights[name] = weight(value)
        self._charge(self._weights[name])
        return copied(value)

    def _value_of(self, name: str) -> object:
        """Return the value for which ``{$REPLACE:name}`` stands; None without one, which counts."""
        try:
            [(_, field, _, how)] = _formatter.parse(f"{{{name}}}")
            value = self._found(field or "")
            return _formatter.convert_field(value, how) if how else value
        except (_UnfilledError, ValueError):
            if name not in self._parameters:
                self.unfilled[f"{{$REPLACE:{name}}}"] = None
            return self._parameters.get(name)  # such as "a.b", which is no way to a value

    def text(self, text: str) -> str:
        """Return a text with its ``{name}`` fields filled in."""
        if "{" not in text and "}" not in text:
            return text
        return as_text(self.pieces(text))

    def pieces(self, text: str, depth: int = 1) -> list[Piece]:
        """Return a text as pieces: what stays, and the values that are filled in.

        Args:
            text: The text.
            depth: 1 for a text, 2 for a format specification in it, and so on.
        """
        if "{" not in text and "}" not in text:
            return [text]
        try:
            fields = list(_formatter.parse(text))
        except ValueError:  # stray braces: only whole, known fields are touched, nothing unescaped
            return list(self._simple(text))
        pieces: list[Piece] = []
        for literal, field, spec, how in fields:
            pieces.append(literal)
            if field is not None:
                filled = self._field(field, spec or "", f"!{how}" if how else "", depth)
                pieces += filled
                if not isinstance(filled[0], Value) and not literal.endswith("$"):
                    self._stays(f"{field}:{spec}" if field == "$REPLACE" else field)
        return pieces

    def _stays(self, field: str) -> None:
        """Note a placeholder that is not filled in, if it asks for a parameter."""
        if PARAMETER.fullmatch(field) or field.startswith("$REPLACE:"):
            self.unfilled[f"{{{field}}}"] = None

    def _simple(self, text: str) -> Iterator[Piece]:
        """Yield the pieces of a text with stray braces; only plain fields in it are filled in."""
        at = 0
        for match in _SIMPLE_FIELD.finditer(text):
            self._charge(PLACEHOLDER_BYTES)
            try:
                value = str(self._found(match[1]))
            except (_UnfilledError, ValueError):
                if text[match.start() - 1 : match.start()] != "$":
                    self._stays(match[1])
                continue
            yield text[at : match.start()]
            yield self._charged(value, match[0])
            at = match.end()
        yield text[at:]

    def _field(self, field: str, spec: str, how: str, depth: int) -> list[Piece]:
        """Return one field filled in and formatted, or its pieces if that is not possible."""
        self._charge(PLACEHOLDER_BYTES)
        deep = "{" in spec and depth >= DEEPEST_SPEC
        specification: list[Piece] = [spec] if deep else self.pieces(spec, depth + 1)
        spec = as_text(specification)
        try:
            if deep:
                raise _UnfilledError
            value = self._found(field)
            if how:
                value = _formatter.convert_field(value, how[1:])
            if spec:
                self._check_width(field, spec)
            return [self._charged(format(value, spec), f"{{{field}}}")]
        except (_UnfilledError, ValueError, TypeError, OverflowError):
            return ["{" + field + how + ":" * bool(spec), *specification, "}"]

    def _check_width(self, field: str, spec: str) -> None:
        """Raise RecipeError if a format specification has a greater width than the limit."""
        limit = self.limits.format_width
        for digits in re.findall(r"\d+", spec):  # `format` takes those of all scripts, too
            if len(digits) > LONGEST_INDEX or int(digits) > limit:
                if not _SPEC.fullmatch(spec):
                    raise _UnfilledError
                raise RecipeError(
                    f"The placeholder {{{field[:60]}:{spec[:60]}}} asks for a width of more than "
                    f"{limit} characters (section limits, key 'format_width')."
                )

    def _charged(self, text: str, source: str) -> Value:
        """Return the value of the placeholder `source`, which counts."""
        self._charge(len(text))
        return Value(text, source)

    def _charge(self, size: int) -> None:
        """Count what is filled in; RecipeError if it is too much."""
        self._left -= size
        if self._left < 0:
            raise RecipeError(
                f"The parameters fill in more than {self.limits.filled_bytes} bytes (section "
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
