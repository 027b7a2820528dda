"""Messages and options between the form of python-workflows and that of zwrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from zwrap.compat.workflows.basics import Error
from zwrap.errors import ZwrapError
from zwrap.message.content import Message, Outgoing
from zwrap.message.jsontext import decode
from zwrap.transport import calloptions

OWN = "zwrap-"
"""Begin of the names of headers that are kept from callbacks, so that code which passes headers on
does not give its own message the identity of the one that it handles."""

RECEIVED = (
    "destination", "message-id", "redelivered", "routing_key", "subscription", "timestamp",
)  # fmt: skip
"""Headers of a received message that are no part of a message which is sent."""


def header_of(message: Message, source: str, number: int) -> dict[str, Any]:
    """Return the header of a received message without its id."""
    own = {name: value for name, value in message.headers.items() if not name.startswith(OWN)}
    return {**own, "destination": source, "routing_key": source, "subscription": number}


def value_of(content: Any) -> object:
    """Return the JSON value of a content; Error for a text or bytes without one."""
    if not isinstance(content, (str, bytes, bytearray)):
        return content
    try:
        return decode(content.encode() if isinstance(content, str) else bytes(content))
    except ZwrapError as error:
        raise Error(f"zwrap's transports send JSON only. {error}") from error


def message_to_send(
    call: str, message: Outgoing, how: dict[str, Any]
) -> tuple[Outgoing, int | None]:
    """Return a message with the options of a call, and the number of its transaction."""
    options = dict(how)
    options.pop("persistent", None)  # every message is
    transaction = options.pop("transaction", None)
    headers: Mapping[str, Any] = options.pop("headers", None) or {}
    own = {name: value for name, value in headers.items() if name not in RECEIVED}
    message = msgspec.structs.replace(message, headers=own)
    delay, expiration = options.pop("delay", None), options.pop("expiration", None)
    if delay:
        message = msgspec.structs.replace(message, delay_s=float(delay))
    if expiration:
        message = msgspec.structs.replace(message, expires_s=float(expiration))
    exchange = options.pop("exchange", None)
    if exchange and "exchange" in Outgoing.__struct_fields__ and not message.topic:
        message = msgspec.structs.replace(message, exchange=str(exchange))
    elif exchange:
        options["exchange"] = exchange
    check_options(call, options)
    return message, transaction


def check_options(call: str, further: Mapping[str, object]) -> None:
    """Raise Error for an option that zwrap does not carry out; warn of one that is only a hint."""
    calloptions.check_options(call, further, Error)
