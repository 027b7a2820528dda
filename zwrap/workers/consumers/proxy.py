"""What a consumer is given: the message, and what it may do with it."""

from __future__ import annotations

from typing import Any

from zwrap.message import JSON, child_id
from zwrap.transport.contract import Delivery
from zwrap.transport.rabbitmq.amqp import AMQPTransport


class Message:
    """One message."""

    def __init__(
        self, body: str | bytes, delivery_info: dict[str, Any], properties: dict[str, Any]
    ) -> None:
        self.body = body
        """Text; bytes if it is no UTF-8."""
        self.delivery_info = delivery_info
        """``consumer_tag``, ``delivery_tag``, ``redelivered``, ``exchange``, ``routing_key``."""
        self.properties = properties
        """AMQP's properties that were given, ``headers`` always."""

    def __len__(self) -> int:
        return len(self.body)

    def __bool__(self) -> bool:
        return True


class AMQP:
    """Answers one message, once, and publishes others."""

    def __init__(self, transport: AMQPTransport, delivery: Delivery) -> None:
        self._transport = transport
        self._delivery = delivery
        self._published = 0

    @property
    def has_responded_to_message(self) -> bool:
        """Whether it was answered."""
        return self._delivery.settled

    def ack(self) -> None:
        """Done."""
        self._delivery.ack()

    def nack(self) -> None:
        """Not now: it comes again."""
        self.reject()

    def reject(self, requeue: bool = True) -> None:
        """Not now; without `requeue` never, and the queue's dead letter exchange gets it."""
        if requeue:
            again_later(self._delivery)
        else:
            self._transport.reject(self._delivery)

    def publish(
        self, exchange: str, routing_key: str, headers: dict[str, JSON] | None, body: str | bytes
    ) -> None:
        """Publish a message; returns when the server has it. A repeat has the same `zwrap-id`."""
        identity = child_id(self._delivery.message.id, self._published)
        self._published += 1
        self._transport.publish(exchange, routing_key, body, dict(headers or {}), identity)


def again_later(delivery: Delivery) -> None:
    """Give a message back: the first time at once, then later and later, never in a hot loop."""
    tries = delivery.delivery_count - 1
    delivery.retry(min(2.0 ** (tries - 1), 60.0) if tries else 0.0)
