"""The two arguments of a consumer: the object for its answers and publications, and the message."""

from __future__ import annotations

from zwrap.host.backoff import pause_after
from zwrap.message.identity import child_id
from zwrap.transport.contract import Delivery
from zwrap.transport.rabbitmq.amqp import AMQPTransport


class Message:
    """One message of AMQP."""

    def __init__(
        self, body: str | bytes, delivery_info: dict[str, object], properties: dict[str, object]
    ) -> None:
        self.body = body
        """Body as text; as bytes if it is not valid UTF-8."""
        self.delivery_info = delivery_info
        """``consumer_tag``, ``delivery_tag``, ``redelivered``, ``exchange``, ``routing_key``."""
        self.properties = properties
        """Properties of AMQP that the sender gave, and always ``headers``."""

    def __len__(self) -> int:
        return len(self.body)

    def __bool__(self) -> bool:
        return True


class AMQP:
    """The means to answer a message, once, and to publish others."""

    def __init__(self, transport: AMQPTransport, delivery: Delivery) -> None:
        self._transport = transport
        self._delivery = delivery
        self._published = 0

    @property
    def has_responded_to_message(self) -> bool:
        """True if the message was answered."""
        return self._delivery.settled

    def ack(self) -> None:
        """Acknowledge the message."""
        self._delivery.ack()

    def nack(self) -> None:
        """Give the message back, to be delivered again later."""
        self.reject()

    def reject(self, requeue: bool = True) -> None:
        """Give the message back; without `requeue` send it to the queue's dead letter exchange."""
        if requeue:
            again_later(self._delivery)
        else:
            self._transport.reject(self._delivery)

    def publish(
        self, exchange: str, routing_key: str, headers: dict[str, object] | None, body: str | bytes
    ) -> None:
        """Publish a message; return when it is confirmed. A repeat has the same `zwrap-id`."""
        identity = child_id(self._delivery.message.id, self._published)
        self._published += 1
        self._transport.publish(exchange, routing_key, body, dict(headers or {}), identity)


def again_later(delivery: Delivery) -> None:
    """Give a message back: without delay the first time, then after 1, 2, 4, ... 60 s."""
    delivery.retry(pause_after(delivery.delivery_count - 1, first_s=1.0, last_s=60.0))
