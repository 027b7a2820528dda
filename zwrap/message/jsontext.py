"""JSON text: what Python's `json` writes is read, and travels on unchanged.

msgspec does the work, and Python's `json`, which a job need not load otherwise, what it refuses:
NaN, Infinity, lone surrogates.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TypeVar, overload

import msgspec

from zwrap.errors import MessageError
from zwrap.message.limits import is_deeper

K = TypeVar("K")
V = TypeVar("V")


def _as_text(value: object) -> str:
    """Return a value of a foreign type, or a key that is none of a JSON object, as text."""
    import json

    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_as_text)
_canonical = msgspec.json.Encoder(decimal_format="number", enc_hook=_as_text, order="deterministic")
_packer = msgspec.msgpack.Encoder(decimal_format="number", enc_hook=_as_text)

_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""Beginning of NaN and Infinity in MessagePack, which takes a tenth of the time of a search in
Python; text that looks the same is rare."""

T = TypeVar("T")

MOST = 1_000_000
"""Largest number of lists and objects in the text of a message: each takes 30 times its bytes in
memory, and all of them are looked at several times."""

INDENTED_BYTES = 1 << 20
"""Size above which Python does not add line breaks to a text, in bytes."""

DEEPEST = 500
"""Depth of nesting of the deepest value that is read; a deeper one could not be written again where
the stack is higher."""


def encode(value: object) -> bytes:
    """Return a value as JSON text; decimals become numbers, values of other foreign types text.

    NaN, Infinity and lone surrogates are written as Python's `json` writes them, so that what
    python-workflows sends travels on unchanged.
    """
    return encode_as(value)


def encode_finite(value: object) -> bytes:
    """Return a value as JSON text for all readers: NaN and Infinity, which JSON lacks, are null."""
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, TypeError):
        return _written_by_python(finite(value))


def indented(value: object, *, ordered: bool = False) -> bytes:
    """Return a value as JSON text as `encode_as` does, with line breaks for people."""
    return _indented(encode_as(value, ordered=ordered), 2)


def pretty(value: object, indent: int = 2) -> str:
    """Return a value as JSON text for people, as `_indented` does; NaN and Infinity are null."""
    return _indented(encode_finite(value), indent).decode()


def _indented(text: bytes, indent: int) -> bytes:
    """Return a JSON text with line breaks; 0: in one line, -1: in one line without blanks.

    A large text that msgspec cannot read stays as it is: Python takes minutes for the line breaks.
    """
    try:
        return msgspec.json.format(text, indent=indent)
    except msgspec.DecodeError:  # NaN, lone surrogates
        if len(text) > INDENTED_BYTES:
            return text
        import json

        separators = (",", ":") if indent < 0 else None
        return json.dumps(
            json.loads(text), indent=max(indent, 0) or None, separators=separators
        ).encode()


def encode_as(value: object, *, ordered: bool = False) -> bytes:
    """Return a value as JSON text as `encode` does; with `ordered` keys in order."""
    try:
        text = (_canonical if ordered else _encoder).encode(value)
    except (UnicodeEncodeError, TypeError):  # lone surrogates; keys such as None and True
        return _written_by_python(value, ordered=ordered)
    if b"null" in text and not _is_finite(value):  # msgspec writes null for NaN and Infinity
        return _written_by_python(value, ordered=ordered)
    return text


def _written_by_python(value: object, *, ordered: bool = False) -> bytes:
    """Return a value as JSON text, as `json.dumps` of python-workflows writes it."""
    import json

    text = json.dumps(value, default=_plain, sort_keys=ordered, separators=(",", ":"))
    return text.encode()


def _plain(value: object) -> object:
    """Return a value of a type that JSON lacks in a form that it has."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        return {field.encode_name: getattr(value, field.name) for field in fields}
    if isinstance(value, Decimal):
        return float(value)
    try:
        return msgspec.to_builtins(value, enc_hook=str)
    except (UnicodeEncodeError, TypeError):
        return str(value)


def _is_finite(value: object) -> bool:
    """Return False if a number in a value, which msgspec can encode, may be NaN or Infinity."""
    try:
        return not _NON_FINITE.search(_packer.encode(value))
    except OverflowError:  # MessagePack has no integers of more than 64 bits
        return False


def typed(value: object, kind: type[T], *, strict: bool = True) -> T:
    """Return a value of a type, such as a struct, from the value of a JSON text.

    Args:
        value: The value.
        kind: The type.
        strict: True if a number may not be given as text (`msgspec.convert`).

    Raises:
        msgspec.ValidationError: The value does not fit the type, for whatever reason.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (UnicodeError, OverflowError, RecursionError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise
        raise msgspec.ValidationError(f"It holds a value that nothing can be: {error}") from None


def finite(value: object) -> object:
    """Return a JSON value with null in place of NaN and Infinity, a copy if it holds any."""
    try:
        if _is_finite(value):
            return value
    except (UnicodeEncodeError, TypeError):  # lone surrogates; keys such as None
        pass
    return _finite_copy(value)


def _finite_copy(value: object) -> object:
    """Return a copy of a JSON value with null in place of NaN and Infinity."""
    if isinstance(value, dict):
        return {key: _finite_copy(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_copy(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(
    data: bytes, what: str = "message", largest: int | None = None, *, bounded: bool = False
) -> object:
    """Return the value of a JSON text.

    What `json.dumps` of python-workflows writes is accepted: NaN, Infinity, numbers of any size,
    lone surrogates.

    Args:
        data: The text.
        what: Name of the text for errors.
        largest: Size above which the text is not decoded, in bytes (limit ``body_bytes``); None:
            any size is.
        bounded: True if a text of any size must not hold more lists and objects than `MOST`; so it
            is with `largest`.

    Raises:
        MessageError: The text is too large, or malformed at the place that the error names.
    """
    if largest is not None and len(data) > largest:
        raise MessageError(
            f"The {what} has {len(data)} bytes, and a service takes up to {largest} (section "
            "limits, key 'body_bytes'). Put large data into a file, and send its path."
        )
    if not data.strip():
        raise MessageError(f"The {what} is empty; a JSON text is expected.")
    brackets = brackets_of(data, what, limited=bounded or largest is not None)
    deep = MessageError(f"The {what} is nested too deeply to be read as JSON.")
    try:
        value: object = msgspec.json.decode(data)
    except RecursionError:
        raise deep from None
    except (msgspec.DecodeError, ValueError) as error:  # ValueError: bad UTF-8, thousands of digits
        value = _read_by_python(data, what, error)
    if brackets > DEEPEST and is_deeper(value, DEEPEST):
        raise deep
    return value


def brackets_of(data: bytes, what: str = "message", *, limited: bool = True) -> int:
    """Return the number of brackets that open a list or an object in a JSON text.

    Raises MessageError if it is `limited` and there are more than `MOST`.
    """
    number = data.count(b"[") + data.count(b"{")
    if limited and number > MOST:
        raise MessageError(
            f"The {what} has {number} brackets that open lists or objects; up to {MOST} are read."
        )
    return number


def _read_by_python(data: bytes, what: str, first: Exception) -> object:
    """Return the value of a text that Python's `json` accepts; MessageError if it does not either.

    `first` is the complaint about the text, which has the place of the fault.
    """
    import json

    try:
        value: object = json.loads(data.decode())
    except RecursionError:
        raise MessageError(f"The {what} is nested too deeply to be read as JSON.") from None
    except ValueError as second:
        error = second if "digits" in str(second) else first
    else:
        return value
    begin = data[:60].decode("utf-8", "replace")
    raise MessageError(f"The {what} is not valid JSON: {error}. It begins {begin!r}.") from None


@overload
def copied(value: dict[K, V]) -> dict[K, V]: ...
@overload
def copied(value: list[V]) -> list[V]: ...
@overload
def copied(value: object) -> object: ...
def copied(value: object) -> object:
    """Return a copy of a value that shares no dict and no list with it."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [copied(each) for each in value]
    return value
