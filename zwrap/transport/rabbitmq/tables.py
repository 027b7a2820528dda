"""Tables of AMQP from other clients: what pika cannot decode is a fault of one message only.

pika makes whole numbers of floating point numbers, and writes none; here they stay what they are.

An exception in the middle of a frame would end the connection, and the server would deliver the
message again on the next one, without end. Times in milliseconds, say, are such a fault: Python
ends with the year 9999.
"""

from __future__ import annotations

import struct
import types

import pika.data
import pika.spec

from zwrap.message.limits import is_deeper

UNREADABLE_HEADER = "zwrap-unreadable"
"""Header in place of headers that cannot be read; its value is the reason."""

DEPTH = 50
"""Depth of nesting up to which headers are read."""


def decode_table(encoded: bytes, offset: int) -> tuple[dict[str, object], int]:
    """Return the table that begins at `offset`, and where it ends; as `pika.data.decode_table`."""
    try:
        table, end = pika.data.decode_table(encoded, offset)
        why = f"they are nested more than {DEPTH} deep" if is_deeper(table, DEPTH) else ""
    except Exception as error:
        (size,) = struct.unpack_from(">I", encoded, offset)
        table, end, why = {}, offset + 4 + size, f"{type(error).__name__}: {error}"
    return ({UNREADABLE_HEADER: why} if why else table), end


_FLOATS = {b"f": ">f", b"d": ">d"}
"""Type of a floating point number in a table, to its format."""

_decode_value, _encode_value = pika.data.decode_value, pika.data.encode_value


def decode_value(encoded: bytes, offset: int) -> tuple[object, int]:
    """Return the value that begins at `offset`, and where it ends; as `pika.data.decode_value`."""
    form = _FLOATS.get(encoded[offset : offset + 1])
    if form is None:
        value: tuple[object, int] = _decode_value(encoded, offset)
        return value
    (number,) = struct.unpack_from(form, encoded, offset + 1)
    return number, offset + 1 + struct.calcsize(form)


def encode_value(pieces: list[bytes], value: object) -> int:
    """Append a value to `pieces`, and return its size; as `pika.data.encode_value`."""
    if not isinstance(value, float):
        size: int = _encode_value(pieces, value)
        return size
    pieces.append(struct.pack(">cd", b"d", value))
    return len(pieces[-1])


def install() -> None:
    """Let pika decode the headers of messages with `decode_table`, and floating point numbers."""
    pika.data.decode_value, pika.data.encode_value = decode_value, encode_value
    names = {**vars(pika.data), "decode_table": decode_table}
    pika.spec.data = types.SimpleNamespace(**names)
