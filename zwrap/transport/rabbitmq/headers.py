"""Headers and properties of AMQP: from JSON values, to JSON values, and unchanged."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import pika

from zwrap.host.faults import is_shared
from zwrap.host.printable import well_formed
from zwrap.message.content import Outgoing
from zwrap.transport.failures import EncodingError
from zwrap.transport.rabbitmq.faults import unwritable

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Properties, Table

PROPERTIES = (
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
    "message_id", "timestamp", "type", "app_id", "cluster_id",
)  # fmt: skip
"""Properties that a message which is passed on keeps. The server takes ``user_id`` from that user
alone, and ``expiration`` is what is left of it."""

TRANSIENT = 1
"""Delivery mode of a message without that property."""

PERSISTENT = 2
"""Delivery mode of a message that outlives a restart of the server."""

MODE_HEADER = "zwrap_delivery_mode"
"""Delivery mode of the original of a copy that outlives a restart, where the original did not."""

HEADERS_BYTES = 120_000
"""Largest size of all headers of a message, in bytes."""

SMALL_BYTES, SOME = 20_000, 200
"""Size of headers, in bytes, up to which it is only estimated, and the estimate for one that is not
a text, or for a name."""


def written(message: Outgoing) -> Table:
    """Return the headers of a message; EncodingError if AMQP cannot hold them."""
    place = message.destination
    try:
        table = {well_formed(key): as_table(value) for key, value in message.headers.items()}
        properties = pika.BasicProperties(headers=table)
        # All of it in most messages is short, which need not be encoded twice to be measured.
        size = sum(len(value) if isinstance(value, str) else SOME for value in table.values())
        if size + SOME * len(table) > SMALL_BYTES:
            size = sum(map(len, properties.encode()))
    except Exception as error:
        if is_shared(error):
            raise
        raise unwritable(error) from None
    if size > HEADERS_BYTES:
        raise EncodingError(
            f"A message to {place!r} has headers of {size} bytes; AMQP can hold {HEADERS_BYTES}."
        )
    return table


def as_table(value: object) -> object:
    """Return a header in a form that pika can write; pika has no floating point numbers.

    Raises RecursionError if it is too deep.
    """
    if isinstance(value, dict):
        return {well_formed(str(key)): as_table(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_table(entry) for entry in value]
    if isinstance(value, str):
        return well_formed(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return well_formed(str(value))


def plain(value: object) -> object:
    """Return a header as a JSON value; AMQP has times, decimals and byte strings, too."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC).timestamp()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if value is None or isinstance(value, (str, float, bool)):
        return value
    return int(value) if isinstance(value, int) else str(value)  # pika has an int of its own


def kept(properties: Properties, hidden: Collection[str]) -> dict[str, object]:
    """Return the properties with which a message is passed on.

    Headers whose values JSON cannot hold are under ``headers``, but for those in `hidden`.
    """
    found = {name: value for name in PROPERTIES if (value := getattr(properties, name)) is not None}
    found.setdefault("delivery_mode", TRANSIENT)
    if MODE_HEADER in (properties.headers or {}):
        found["delivery_mode"] = TRANSIENT
    headers = (properties.headers or {}).items()
    typed = {key: each for key, each in headers if key not in hidden and not _is_plain(each)}
    return {**found, "headers": typed} if typed else found


def properties_of(message: Outgoing) -> Properties:
    """Return the properties of a message; EncodingError if AMQP cannot hold them.

    One that is passed on has those that it had.
    """
    table = written(message)
    if not message.properties:
        made: Properties = pika.BasicProperties(
            headers=table, delivery_mode=PERSISTENT, timestamp=int(time.time())
        )
        return made
    given = {name: message.properties[name] for name in PROPERTIES if name in message.properties}
    typed = message.properties.get("headers")
    if isinstance(typed, dict):
        table |= {key: value for key, value in typed.items() if key in table}
    properties: Properties = pika.BasicProperties(
        headers=table, **{"delivery_mode": PERSISTENT, **given}
    )
    try:
        properties.encode()
    except Exception as error:  # they come from a file, perhaps
        if is_shared(error):
            raise
        raise unwritable(error) from None
    return properties


def _is_plain(value: object) -> bool:
    """Return True if a header is the same after `plain` and `as_table`."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, bool)
