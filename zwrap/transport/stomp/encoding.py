"""Messages as SEND frames."""

from __future__ import annotations

from collections.abc import Callable

from stomp.utils import Frame

from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode
from zwrap.transport.failures import EncodingError
from zwrap.transport.sending import encoded, tell_without_exchange
from zwrap.transport.stomp.frames import checked, frame
from zwrap.transport.stomp.places import Places
from zwrap.transport.stomp.received import written

LONGEST_S = 10**10
"""Longest delay and expiration, in seconds."""

TRANSACTIONAL = ("transaction", "receipt")
"""Headers of a frame that a message may not set."""


def sent(message: Outgoing, places: Places, now_ms: Callable[[], int]) -> Frame:
    """Return a message as a SEND frame, without its delay; EncodingError if that is impossible.

    `now_ms` returns the server's time, in milliseconds since the epoch.
    """
    body = encoded(message, message.message)
    name = message.destination
    headers: dict[str, str] = {}
    try:
        for key, value in message.headers.items():
            if value is not None and key not in TRANSACTIONAL:
                headers[key] = _text(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodingError(f"A header {key!r} cannot be written in STOMP: {error}.") from None
    place = places.topic if message.topic else places.queue
    headers["destination"] = place(name)
    if not message.topic:
        headers["persistent"] = "true"
    headers |= written(message.properties, body)
    if message.exchange:
        tell_without_exchange("ActiveMQ", message.exchange, name)
        headers["exchange"] = message.exchange  # as python-workflows sends it
    if not name:
        raise EncodingError("A message to '' cannot be sent: the queue has no name.")
    if message.expires_s is not None:
        expires_ms = int(_seconds(message.expires_s, "expire") * 1000)
        headers["expires"] = str(now_ms() + expires_ms)
    _seconds(message.delay_s, "be delayed")
    return checked(frame("SEND", headers, body), name)


def _seconds(given: float, what: str) -> float:
    """Return a time in seconds; EncodingError if it is not one that ActiveMQ can hold."""
    if not 0 <= given <= LONGEST_S:
        raise EncodingError(
            f"A message cannot {what} in {given:g} s on ActiveMQ: a number from 0 to {LONGEST_S} "
            "is expected."
        )
    return given


def bounded(delay_s: float) -> float:
    """Return a delay that ActiveMQ can hold: the longest for one that is longer, or no number."""
    return max(0.0, delay_s) if delay_s <= LONGEST_S else float(LONGEST_S)


def _text(value: object) -> str:
    """Return the value of a header as text; STOMP has only text. `True` is as python-workflows."""
    if isinstance(value, (dict, list)):
        return encode(value).decode()
    return str(value)
