"""RabbitMQ for consumers that use AMQP itself: any exchange, any queue, and bodies of any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pika

from zwrap.errors import MessageError, SettledError
from zwrap.message.content import ID_HEADER
from zwrap.transport.contract import Delivery
from zwrap.transport.pipelined import ANSWER_WAIT_S
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.connection import Connection
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.publication import Publication
from zwrap.transport.rabbitmq.received import Received
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.rabbitmq.transport import RabbitMQTransport

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, OnAnswer, Properties, Table

ORIGIN_HEADER = "zwrap_origin"
"""Header of a copy: exchange and routing key of the original message. The routing key of the copy
is the queue's name."""


class AMQPTransport(RabbitMQTransport):
    """A connection whose messages are texts; bytes that are not valid UTF-8 stay bytes."""

    hidden = (ORIGIN_HEADER, *RabbitMQTransport.hidden)

    @classmethod
    def open(cls, server: Server) -> AMQPTransport:
        """Connect to a server; TransportError or ConfigurationError tells why it is impossible."""
        return cls(server, Connection.open(server))

    def _read(self, body: bytes, largest: int | None = None) -> str | bytes:
        """Return a body as text, or unchanged if it is not UTF-8; consumers take any size."""
        del largest
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body

    def declare(self, queue: topology.QueueDeclaration) -> None:
        """Declare and bind a queue; TransportError tells why that is not possible."""
        self._connection.ensure(topology.queue_declared(queue), ANSWER_WAIT_S)

    def consume(self, queue: topology.QueueDeclaration | str, prefetch: int) -> None:
        """Begin to receive messages of a queue; a declaration is repeated on each connection."""
        name = queue if isinstance(queue, str) else queue.name

        def start(channel: Channel, started: OnAnswer) -> None:
            def consume(_: object = None) -> None:
                received = self._received(consumer, name, "queue")
                channel.basic_consume(name, received, callback=started)

            if isinstance(queue, str):
                consume()
            else:
                queue.declare(channel, consume)

        consumer = Consumer(start, prefetch, f"queue {name!r}")
        self._connection.consume(consumer)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: str | bytes,
        headers: dict[str, object],
        id_: str,
    ) -> None:
        """Publish a message; return when it is confirmed.

        An exchange without bindings accepts and discards the message; the default exchange ("")
        needs a queue. Raises NoRouteError if there is no such exchange or queue.
        """
        if not isinstance(body, (str, bytes)):
            raise MessageError(f"A body is a text or bytes, and not a {type(body).__name__}.")
        data = body.encode() if isinstance(body, str) else body
        properties: Properties = pika.BasicProperties(
            headers={ID_HEADER: id_, **headers}, delivery_mode=2
        )
        needs = (topology.exchange_is_there(exchange),) if exchange else ()
        self._wait_for(
            self._hand_over(
                [
                    Publication(
                        exchange,
                        routing_key,
                        data,
                        properties,
                        id_,
                        mandatory=not exchange,
                        needs=needs,
                    )
                ]
            )
        )

    def reject(self, delivery: Delivery) -> None:
        """Reject a message, so that its queue's dead letter exchange, if any, gets it."""
        with self._lock:
            if delivery.settled:
                raise SettledError
            delivery.settled = True
            message = self._held.pop(delivery)
        channel, tag = message.channel, message.method.delivery_tag
        self._connection.call(
            lambda: channel.basic_reject(tag, requeue=False) if message.alive else None
        )

    def origin(self, delivery: Delivery) -> tuple[Table, Table]:
        """Return the fields of AMQP's ``basic.deliver`` of an unsettled message, and properties."""
        message = self._held[delivery]
        method = message.method
        exchange, routing_key = _first_way(message)
        came: Table = {
            "consumer_tag": method.consumer_tag,
            "delivery_tag": method.delivery_tag,
            "redelivered": method.redelivered or delivery.delivery_count > 1,
            "exchange": exchange,
            "routing_key": routing_key,
        }
        given = {key: value for key, value in vars(message.properties).items() if value is not None}
        headers = {key: value for key, value in message.headers.items() if key not in self.hidden}
        return came, {**given, "headers": headers}

    def _added_headers(self, message: Received) -> Table:
        """Return the further headers of a copy."""
        return {ORIGIN_HEADER: list(_first_way(message))}


def _first_way(message: Received) -> tuple[object, object]:
    """Return exchange and routing key of a message, for a copy those of the original."""
    given = message.headers.get(ORIGIN_HEADER)
    if isinstance(given, list) and len(given) == 2:
        return given[0], given[1]
    return message.method.exchange, message.method.routing_key
