"""RabbitMQ for those who know it: any exchange, any queue, and bodies that are any text."""

from __future__ import annotations

from typing import Any

import pika

from zwrap.errors import MessageError, SettledError, TransportError
from zwrap.message import ID_HEADER, JSON
from zwrap.transport.contract import Delivery
from zwrap.transport.pipelined import ANSWER_WAIT_S
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.connection import Consumer
from zwrap.transport.rabbitmq.publisher import Messages, Publication
from zwrap.transport.rabbitmq.transport import RabbitMQTransport

ORIGIN_HEADER = "zwrap_origin"
"""Exchange and routing key that a message first came by; a copy comes by the queue's name."""


class AMQPTransport(RabbitMQTransport):
    """A connection whose messages are texts; bytes that are no UTF-8 stay bytes."""

    hidden = (ORIGIN_HEADER, *RabbitMQTransport.hidden)

    def _read(self, body: bytes) -> str | bytes:
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body

    def declare(self, queue: topology.QueueDeclaration) -> None:
        """Declare and bind a queue; TransportError says why that is not possible."""
        self._connection.ensure(topology.queue_declared(queue), ANSWER_WAIT_S)

    def consume(self, queue: topology.QueueDeclaration | str, prefetch: int) -> None:
        """Take messages of a queue, which is declared on each new connection, if at all."""
        name = queue if isinstance(queue, str) else queue.name

        def start(channel: Any, started: Any) -> None:
            def consume(_: Any = None) -> None:
                received = self._received(consumer, name, "queue")
                channel.basic_consume(name, received, callback=started)

            if isinstance(queue, str):
                consume()
            else:
                queue.declare(channel, consume)

        consumer = Consumer(start, lambda: None, prefetch, f"queue {name!r}")
        self._connection.consume(consumer)

    def publish(
        self, exchange: str, routing_key: str, body: str | bytes, headers: dict[str, JSON], id_: str
    ) -> None:
        """Publish a message; returns when it is confirmed.

        An exchange that nothing is bound to takes it and forgets it; the default exchange ("")
        wants a queue.
        """
        if not isinstance(body, (str, bytes)):
            raise MessageError(f"A body is a text or bytes, and not a {type(body).__name__}.")
        data = body.encode() if isinstance(body, str) else body
        properties = pika.BasicProperties(headers={ID_HEADER: id_, **headers}, delivery_mode=2)
        mandatory = not exchange
        sent = Publication(exchange, routing_key, data, properties, id_, mandatory=mandatory)
        work = Messages([sent], needs=[topology.exchange_is_there(exchange)] if exchange else [])
        self._connection.submit(work)
        self._wait_for(work)
        if work.failure:
            gone = "does not exist" in work.failure or "NOT_FOUND" in work.failure
            kind = MessageError if gone else TransportError
            raise kind(f"A message cannot be published: {work.failure}.")

    def reject(self, delivery: Delivery) -> None:
        """Refuse a message: what its queue declares for dead letters becomes of it."""
        with self._lock:
            if delivery.settled:
                raise SettledError
            delivery.settled = True
            message = self._held.pop(delivery)
        channel, tag = message.channel, message.method.delivery_tag
        self._connection.call(
            lambda: channel.basic_reject(tag, requeue=False) if message.alive else None
        )

    def origin(self, delivery: Delivery) -> tuple[dict[str, Any], dict[str, Any]]:
        """How an unsettled message came (AMQP's delivery), and its properties."""
        message = self._held[delivery]
        method = message.method
        exchange, routing_key = message.headers.get(
            ORIGIN_HEADER, (method.exchange, method.routing_key)
        )
        came = {
            "consumer_tag": method.consumer_tag,
            "delivery_tag": method.delivery_tag,
            "redelivered": method.redelivered or delivery.delivery_count > 1,
            "exchange": exchange,
            "routing_key": routing_key,
        }
        given = {key: value for key, value in vars(message.properties).items() if value is not None}
        headers = {key: value for key, value in message.headers.items() if key not in self.hidden}
        return came, {**given, "headers": headers}

    def _copy(self, message: Any, identity: str, *, attempts: int) -> Publication:
        copy = super()._copy(message, identity, attempts=attempts)
        method = message.method
        copy.properties.headers.setdefault(ORIGIN_HEADER, [method.exchange, method.routing_key])
        return copy
