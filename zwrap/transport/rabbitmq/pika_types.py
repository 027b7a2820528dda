"""Types of the objects of pika 1.3 that zwrap uses; pika itself has no types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

Table = dict[str, object]
"""AMQP's headers and arguments."""

M = TypeVar("M", covariant=True)


class Frame(Protocol[M]):
    """A frame from the server."""

    @property
    def method(self) -> M:
        """The method of AMQP in the frame."""


class DeclareOk(Protocol):
    """Answer to a declaration: name and state of the queue."""

    queue: str
    message_count: int
    consumer_count: int


class Confirmation(Protocol):
    """Method ``basic.ack`` or ``basic.nack`` of the server for published messages."""

    delivery_tag: int
    multiple: bool


class Blocked(Protocol):
    """Method ``connection.blocked``."""

    reason: str


class Returned(Protocol):
    """Method ``basic.return``: a message that the server could not route."""

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str


class Deliver(Protocol):
    """Method ``basic.deliver``: the origin of a message."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str


class Properties(Protocol):
    """Properties of a message (``pika.BasicProperties``)."""

    content_type: str | None
    content_encoding: str | None
    headers: Table | None
    delivery_mode: int | None
    expiration: str | None
    timestamp: int | None
    user_id: str | None

    def encode(self) -> list[bytes]:
        """Return the properties in the format of the wire."""


class PikaConnection(Protocol):
    """A connection (``pika.SelectConnection``)."""

    @property
    def is_open(self) -> bool:
        """True if it can be used."""

    def channel(self, *, on_open_callback: Callable[[Channel], None]) -> object:
        """Open a channel."""

    def close(self) -> None:
        """Close the connection."""

    def add_on_connection_blocked_callback(
        self, callback: Callable[[object, Frame[Blocked]], None]
    ) -> None:
        """Call back when the server blocks publishers."""

    def add_on_connection_unblocked_callback(
        self, callback: Callable[[object, object], None]
    ) -> None:
        """Call back when the server no longer blocks publishers."""


OnMessage = Callable[["Channel", Deliver, Properties, bytes], None]
OnDeclared = Callable[[Frame[DeclareOk]], object]
OnAnswer = Callable[[object], object]


class Channel(Protocol):
    """A channel of a connection (``pika.channel.Channel``)."""

    @property
    def is_open(self) -> bool:
        """True if it can be used."""

    @property
    def connection(self) -> PikaConnection:
        """The connection of the channel."""

    def close(self, reply_code: int = ..., reply_text: str = ...) -> None:
        """Close the channel."""

    def add_on_close_callback(self, callback: Callable[[Channel, BaseException], None]) -> None:
        """Call back when the channel is closed by either side."""

    def add_on_cancel_callback(self, callback: OnAnswer) -> None:
        """Call back when the server ends a consumer."""

    def add_on_return_callback(
        self, callback: Callable[[Channel, Returned, Properties, bytes], None]
    ) -> None:
        """Call back with each message that the server could not route."""

    def confirm_delivery(
        self, ack_nack_callback: Callable[[Frame[Confirmation]], None], callback: OnAnswer
    ) -> None:
        """Let the server confirm published messages."""

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool
    ) -> None:
        """Publish a message."""

    def basic_ack(self, delivery_tag: int) -> None:
        """Acknowledge a delivery."""

    def basic_nack(self, delivery_tag: int, *, requeue: bool) -> None:
        """Give a delivery back."""

    def basic_reject(self, delivery_tag: int, *, requeue: bool) -> None:
        """Refuse a delivery."""

    def basic_qos(self, *, prefetch_count: int, callback: OnAnswer) -> None:
        """Limit the number of messages that are delivered and not settled."""

    def basic_consume(
        self,
        queue: str,
        on_message: OnMessage,
        auto_ack: bool = ...,
        exclusive: bool = ...,
        *,
        callback: OnAnswer,
    ) -> object:
        """Begin to consume a queue."""

    def queue_declare(
        self,
        queue: str,
        passive: bool = ...,
        durable: bool = ...,
        exclusive: bool = ...,
        auto_delete: bool = ...,
        arguments: Mapping[str, object] | None = ...,
        *,
        callback: OnDeclared,
    ) -> None:
        """Declare a queue, or check that it exists (`passive`)."""

    def queue_delete(self, queue: str, *, callback: OnAnswer) -> None:
        """Delete a queue."""

    def queue_bind(
        self, queue: str, exchange: str, routing_key: str, *, callback: OnAnswer
    ) -> None:
        """Bind a queue to an exchange."""

    def exchange_declare(
        self,
        exchange: str,
        exchange_type: str = ...,
        passive: bool = ...,
        durable: bool = ...,
        *,
        callback: OnAnswer,
    ) -> None:
        """Declare an exchange, or check that it exists (`passive`)."""
