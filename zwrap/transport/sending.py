"""Sending as all transports do it: JSON text, and messages that do not depend on each other.

A portion of such messages costs about as much as one of them, and what is wrong with one message,
or one queue, stays with it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from zwrap.errors import PermanentError, ZwrapError
from zwrap.host.faults import is_shared
from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode
from zwrap.transport.failures import HELD_UP, EncodingError

if TYPE_CHECKING:
    from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

Place = tuple[bool, str, str]
"""Kind, name and exchange of a destination: True for a topic, False for a queue."""


def place_of(message: Outgoing) -> Place:
    """Return the queue or topic of a message, and its exchange."""
    return message.topic, message.destination, message.exchange


@functools.lru_cache(maxsize=256)
def tell_without_exchange(where: str, exchange: str, queue: str) -> None:
    """Log once that messages for an exchange go to the queue, as the transport has no exchanges."""
    log.info(
        "%s has no exchanges: what is for exchange %r by the name %r goes to the queue of that "
        "name", where, exchange, queue,
    )  # fmt: skip


def encoded(message: Outgoing, content: object) -> bytes:
    """Return the JSON text of `content`; EncodingError names the destination of `message`."""
    if isinstance(content, msgspec.Raw):  # of a message that is passed on
        return bytes(content)
    try:
        return encode(content)
    except Exception as error:
        if is_shared(error):
            raise
        raise EncodingError(
            f"A message to {message.destination!r} cannot be written as JSON: {error}."
        ) from None


def send_by_place(transport: Transport, messages: Sequence[Outgoing]) -> list[Exception | None]:
    """Do as `Transport.send_each` does, with one commit for all messages to a queue or topic."""
    failures: list[Exception | None] = [None] * len(messages)
    places: dict[Place, list[int]] = {}
    for number, message in enumerate(messages):
        places.setdefault(place_of(message), []).append(number)
    away: Exception | None = None
    for numbers in places.values():
        if away is None:
            away = _send(transport, messages, numbers, failures)
        else:
            for number in numbers:
                failures[number] = away
    return failures


def _send(
    transport: Transport,
    messages: Sequence[Outgoing],
    numbers: Sequence[int],
    failures: list[Exception | None],
) -> Exception | None:
    """Send the messages to one place, and note failures; return why the transport is away, if so.

    What is refused as one commit is sent one by one, up to the first that is held up.
    """
    try:
        transport.commit([messages[number] for number in numbers])
    except Exception as error:
        passes = isinstance(error, ZwrapError) and not isinstance(error, PermanentError)
        away = passes and not isinstance(error, HELD_UP)
        if len(numbers) == 1 or away:
            for number in numbers:
                failures[number] = error
            return error if away else None
    else:
        return None
    for position, number in enumerate(numbers):
        lost = _send(transport, messages, [number], failures)
        if lost is not None or isinstance(failures[number], HELD_UP):
            for later in numbers[position + 1 :]:
                failures[later] = failures[number]
            return lost
    return None
