"""Tables of AMQP from other clients: what pika cannot decode is a fault of one message only.

An exception in the middle of a frame would end the connection, and the server would deliver the
message again on the next one, without end. Times in milliseconds, say, are such a fault: Python
ends with the year 9999.
"""

from __future__ import annotations

import struct
import types

import pika.data
import pika.spec

from zwrap.limits import is_deeper

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


def install() -> None:
    """Let pika decode the headers of messages with `decode_table`."""
    names = {**vars(pika.data), "decode_table": decode_table}
    pika.spec.data = types.SimpleNamespace(**names)
