"""The transport of a wrapper written in Python: it sends, by way of the outbox.

Names and arguments are those of python-workflows. What a wrapper cannot do here, such as to receive
messages, raises an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, SupportsFloat

from msgspec.structs import replace

from zwrap.errors import MessageError
from zwrap.message.content import STATUS_EXPIRES_S, STATUS_TOPIC, Outgoing
from zwrap.message.jsontext import decode
from zwrap.transport.calloptions import check_options

Post = Callable[[list[Outgoing]], object]
"""Function that accepts messages to send, which are on disk when it returns."""

Header = Mapping[str, object]
"""Headers of a message, by name."""

NEEDED_FIELDS = {"host", "workflows", "status"}
"""Fields that each status message has."""


class OutboxTransport:
    """The transport for a wrapper: send to a queue, broadcast on a topic.

    `headers`, `delay` and `expiration` (seconds), and `exchange`, are those of `RecipeWrapper`;
    another option that asks for something, such as `transaction`, is a MessageError. Nothing sent
    here waits for a connection: the outbox takes it at any time.
    """

    is_reconnectable = True
    """True: the outbox connects again by itself."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def send(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a plain message to the queue `destination`."""
        self._post([timed(Outgoing(destination, message, dict(headers or {})), how)])

    def broadcast(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a plain message to all present subscribers of the topic `destination`."""
        self._post([timed(Outgoing(destination, message, dict(headers or {}), topic=True), how)])

    def raw_send(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Send a message, given as JSON text, to a queue; MessageError if it is not JSON text."""
        self.send(destination, from_text(message, "raw_send"), headers, **how)

    def raw_broadcast(
        self, destination: str, message: object, headers: Header | None = None, **how: object
    ) -> None:
        """Broadcast a message, given as JSON text; MessageError if it is not JSON text."""
        self.broadcast(destination, from_text(message, "raw_broadcast"), headers, **how)

    def broadcast_status(self, status: Mapping[str, object]) -> None:
        """Send a status message; ValueError if `host`, `workflows` or `status` is missing in it.

        The heartbeats of the wrapper go on beside it.
        """
        if missing := NEEDED_FIELDS - status.keys():
            raise ValueError(f"A status message needs {', '.join(sorted(missing))}, too.")
        self._post(
            [
                Outgoing(
                    STATUS_TOPIC, dict(status), topic=True, expires_s=STATUS_EXPIRES_S,
                    replaces=str(status["host"]),
                )
            ]
        )  # fmt: skip

    def connect(self) -> bool:
        """Return True: the outbox takes messages at any time, and connects by itself."""
        return True

    def is_connected(self) -> bool:
        """Return True: the outbox takes messages at any time."""
        return True

    def disconnect(self) -> None:
        """Do nothing: zwrap sends the final messages over the same connection."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"The transport of a wrapper has no {name!r} under zwrap: it sends and broadcasts, and "
            "receives nothing. A step that receives messages, or needs transactions, is the work "
            "of a service (docs/zocalo.md)."
        )


def from_text(text: object, function: str) -> object:
    """Return the JSON value of a text that is ready to be sent.

    zwrap keeps each message as JSON until it is sent.

    Args:
        text: JSON text.
        function: Name of what made it, or got it, for the sentence of a MessageError.
    """
    if isinstance(text, (str, bytes)):
        try:
            return decode(text.encode() if isinstance(text, str) else text)
        except MessageError as error:
            raise MessageError(f"{_expected(function)} {error}") from None
    raise MessageError(f"{_expected(function)} It is a {type(text).__name__}.")


def _expected(function: str) -> str:
    """Return a sentence that says what text is expected."""
    return (
        f"The message of {function} has to be JSON text, because zwrap keeps messages as JSON "
        "until they are sent."
    )


def timed(message: Outgoing, how: Mapping[str, object]) -> Outgoing:
    """Return a message with `delay` and `expiration`, in seconds, and `exchange`, if given.

    Raises MessageError for an option of python-workflows that is not carried out.
    """
    options = dict(how)
    options.pop("persistent", None)  # every message is
    exchange = options.pop("exchange", None)
    delay, expiration = options.pop("delay", None), options.pop("expiration", None)
    check_options("broadcast" if message.topic else "send", options, MessageError)
    if exchange and not message.topic:
        message = replace(message, exchange=str(exchange))
    if delay is not None:
        message = replace(message, delay_s=_seconds("delay", delay))
    if expiration is not None:
        message = replace(message, expires_s=_seconds("expiration", expiration))
    return message


def _seconds(name: str, value: object) -> float:
    """Return an argument as a number of seconds; TypeError or ValueError if it is not one."""
    if not isinstance(value, SupportsFloat | str):
        raise TypeError(f"{name} is {value!r}; a number of seconds is expected.")
    return float(value)
