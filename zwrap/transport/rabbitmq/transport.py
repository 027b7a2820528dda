"""Station "transport", over RabbitMQ (AMQP 0-9-1 with pika), wire format of python-workflows.

The server confirms every message before the delivery that it follows from is acknowledged. Units
are pipelined: at its end a unit is submitted to the connection's thread. A retry, and a dead letter
with its reason, is a copy of the message, which is confirmed before the original is acknowledged.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pika

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, PermanentError, ZwrapError
from zwrap.message import ID_HEADER, UNDECODABLE_HEADER, Message, Outgoing, decode
from zwrap.transport.contract import ACK, Delivery, Settlement, Verb, encoded
from zwrap.transport.copies import ATTEMPTS_HEADER
from zwrap.transport.options import BrokerOptions
from zwrap.transport.pipelined import ANSWER_WAIT_S, PendingWork, PipelinedTransport
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.connection import Connection, Consumer
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.received import Kind, Received, as_table
from zwrap.transport.rabbitmq.settings import Server, server_from
from zwrap.transport.rabbitmq.topology import Need

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.inspector import Inspector
    from zwrap.transport.rabbitmq.pika_types import (
        Channel,
        DeclareOk,
        Deliver,
        Frame,
        OnAnswer,
        OnMessage,
        Properties,
        Table,
    )

log = logging.getLogger(__name__)


class RabbitMQTransport(PipelinedTransport[Received, Publication]):
    """A connection to RabbitMQ."""

    hidden: tuple[str, ...] = (ATTEMPTS_HEADER,)
    """Headers of zwrap's own that receivers do not see."""
    _connection: Connection

    def __init__(
        self, server: Server, connection: Connection, configuration: Configuration | None = None
    ) -> None:
        super().__init__()
        self._server = server
        self._connection = connection
        self._configuration = configuration or Configuration()
        self._delay_queues: dict[str, set[str]] = {}
        self._copied: dict[tuple[Channel, str], list[Received]] = {}
        """Channel and id of a message with a copy under way, to the copies that arrived too early.

        The original must be gone when a receiver gets a copy, which may kill it immediately.
        """

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> RabbitMQTransport:
        """Connect to the server of plugin `pika`; queues are listed by plugin `rabbitmqapi`."""
        server = server_from(configuration, options)
        return cls(server, Connection.open(server), configuration)

    def inspector(self) -> Inspector:
        """Return the inspector of the server, over this connection and the management API."""
        from zwrap.transport.rabbitmq.inspector import RabbitMQInspector

        return RabbitMQInspector(
            self._connection,
            self._server,
            self._configuration,
            self._delay_queues,
            self.flush,
            lambda queue, prefetch: self._consume(
                topology.dead_letter_queue(queue), queue, "dead", prefetch
            ),
        )

    # -- receiving -------------------------------------------------------------------------------

    def subscribe(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive messages of `queue`; ConfigurationError if it does not exist.

        If the site asks for it (key `declare`), a missing queue is created.
        """
        if self._server.declare:
            need = topology.queue_exists(queue, self._server.declare)
            self._connection.ensure(need, ANSWER_WAIT_S)
        self._consume(queue, queue, "queue", prefetch)

    def _consume(self, place: str, source: str, kind: Kind, prefetch: int) -> None:
        """Begin to consume the server's queue `place`, as messages of `source`."""

        def start(channel: Channel, started: OnAnswer) -> None:
            channel.basic_consume(place, self._received(consumer, source, kind), callback=started)

        consumer = Consumer(start, prefetch, f"queue {place!r}")
        self._connection.consume(consumer)

    def subscribe_topic(self, topic: str) -> None:
        """Begin to receive broadcasts on `topic`, whose exchange is created if it is missing."""

        def start(channel: Channel, started: OnAnswer) -> None:
            received = self._received(consumer, topic, "topic")

            def declared(frame: Frame[DeclareOk]) -> None:
                name = frame.method.queue
                channel.queue_bind(
                    name,
                    topic,
                    name,
                    callback=lambda _: channel.basic_consume(
                        name, received, auto_ack=True, callback=started
                    ),
                )

            channel.queue_declare("", exclusive=True, callback=declared)

        consumer = Consumer(start, 0, f"topic {topic!r}")
        try:
            self._connection.consume(consumer)
        except ConfigurationError:  # there is no such exchange yet
            self._connection.ensure(topology.exchange_exists(topic), ANSWER_WAIT_S)
            consumer.reset()
            self._connection.consume(consumer)

    def _received(self, consumer: Consumer, source: str, kind: Kind) -> OnMessage:
        """Return the function that is called on the connection's thread with each message."""

        def received(
            channel: Channel, method: Deliver, properties: Properties, body: bytes
        ) -> None:
            message = Received(
                consumer, channel, method, properties, body, source, kind, time.monotonic()
            )
            if kind == "queue" and method.redelivered and "x-delivery-count" not in message.headers:
                self._count(message)  # a classic queue, which does not count deliveries
                return
            if self._copied and (early := self._copied.get(message.key)) is not None:
                early.append(message)
                return
            self._arrived.put(message)

        return received

    def _count(self, message: Received) -> None:
        """Send a redelivered message back as a copy that counts the delivery."""
        copy = message.copy(message.delivery_count + 1, self._added_headers(message))
        self._expect_copy(message)
        self._submit([copy], [message], ACK)

    def _expect_copy(self, message: Received) -> None:
        """Note that a copy of a message is under way; forget those of closed channels."""
        for key in list(self._copied):
            if not key[0].is_open:  # its connection is gone, and with it the early copies
                self._copied.pop(key, None)
        self._copied.setdefault(message.key, [])

    def _added_headers(self, message: Received) -> Table:
        """Return the further headers of a copy."""
        del message
        return {}

    def _delivery(self, message: Received) -> Delivery | None:
        """Return the delivery of a message; None if it expired, is lost, or is put aside."""
        if message.kind == "topic":
            if message.expired:
                return None
        elif not message.alive:
            return None  # its connection is gone, and the server delivers it again
        headers = message.plain_headers(self.hidden)
        try:
            body = self._read(message.body)
        except MessageError as error:
            if message.kind == "topic":
                return None
            if message.kind == "queue":
                log.error("A message of queue %r: %s", message.source, error)
                self._put_aside(message, str(error))
                return None
            body = message.body.decode("utf-8", "replace")
            headers[UNDECODABLE_HEADER] = True
        delivery = Delivery(
            self,
            Message(body, headers, message.identity(body)),
            message.source,
            delivery_count=message.delivery_count,
            topic=message.kind == "topic",
            reason=message.reason,
            sent_at=message.sent_at,
        )
        if not delivery.topic:
            self._held[delivery] = message
        return delivery

    def _read(self, body: bytes) -> object:
        """Return the body of a message; MessageError if it is not valid JSON."""
        return decode(body)

    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery's channel is still open."""
        held = self._held.get(delivery)
        return held is not None and held.alive

    # -- sending and settling --------------------------------------------------------------------

    def _encode(self, message: Outgoing) -> Publication:
        """Return a message as a publication, with the needs of its queue or topic."""
        headers = {key: as_table(value) for key, value in message.headers.items()}
        identity = str(headers[ID_HEADER])
        properties: Properties = pika.BasicProperties(
            headers=headers, delivery_mode=2, timestamp=int(time.time())
        )
        if message.expires_s is not None:
            properties.expiration = str(max(0, int(message.expires_s * 1000)))
        body = encoded(message, message.message)
        place = message.destination
        if message.topic:
            needs: tuple[Need, ...] = (topology.exchange_exists(place),)
            return Publication(place, "", body, properties, identity, mandatory=False, needs=needs)
        needs = ()
        if self._server.declare:
            needs = (topology.queue_exists(place, self._server.declare),)
        if message.delay_s:
            place, need = self._delay_queue(place, message.delay_s)
            needs = (*needs, need)
        return Publication("", place, body, properties, identity, mandatory=True, needs=needs)

    def _delay_queue(self, queue: str, delay_s: float) -> tuple[str, Need]:
        """Return the delay queue for a queue and delay, and its need; remember it for counts."""
        place, need = topology.delay(queue, delay_s)
        self._delay_queues.setdefault(queue, set()).add(place)
        return place, need

    def _hand_over(self, messages: list[Publication]) -> PendingWork:
        """Submit messages without deliveries to the connection."""
        work = Messages(messages)
        self._connection.submit(work)
        return work

    def _submit(
        self, messages: list[Publication], received: list[Received], settlement: Settlement
    ) -> None:
        """Submit messages and copies; the deliveries are settled when all are confirmed."""
        work: Messages = Messages(
            [*messages, *self._copies(received, settlement)],
            valid=lambda: all(message.alive for message in received),
            after=lambda failure: self._settle_received(received, settlement, failure, work),
        )
        self._unfinished.add(work)
        self._connection.submit(work)

    def _copies(self, received: list[Received], settlement: Settlement) -> list[Publication]:
        """Return the copies for a retry or a dead letter; none for an acknowledgement."""
        if settlement.verb is Verb.ACK:
            return []
        if settlement.verb is Verb.DEAD_LETTER:
            reason = settlement.reason
            return [message.dead_copy(reason, self._added_headers(message)) for message in received]
        return [
            message.back() if message.kind == "dead" else self._retry_copy(message, settlement)
            for message in received
        ]

    def _retry_copy(self, message: Received, settlement: Settlement) -> Publication:
        """Return the copy for a retry, in a delay queue if there is a delay."""
        self._expect_copy(message)
        attempts = message.delivery_count + settlement.counted
        added = self._added_headers(message)
        if not settlement.delay_s:
            return message.copy(attempts, added)
        place, need = self._delay_queue(message.source, settlement.delay_s)
        return message.copy(attempts, added, place, (need,))

    def _settle_received(
        self,
        received: list[Received],
        settlement: Settlement,
        failure: ZwrapError | None,
        work: Messages,
    ) -> None:
        """Settle deliveries, on the connection's thread, after confirmation or failure."""
        self._unfinished.discard(work)
        self._settle_now(received, settlement, failure)
        if self._copied:
            for message in received:
                self._hand_out_copies(message)

    def _settle_now(
        self, received: list[Received], settlement: Settlement, failure: ZwrapError | None
    ) -> None:
        """Acknowledge deliveries; after a failure give them back, or put them aside."""
        if not all(message.alive for message in received):
            log.info("%d message(s) are no longer ours and will come again", len(received))
        elif failure is None:
            for message in received:
                message.channel.basic_ack(message.method.delivery_tag)
            return
        for message in received:
            if not message.alive:
                continue
            if isinstance(failure, PermanentError) and settlement.verb is Verb.ACK:
                log.error("A message of queue %r is a dead letter: %s", message.source, failure)
                self._put_aside(
                    message, f"A message that follows from it cannot be sent: {failure}."
                )
            else:
                log.warning("A message of queue %r comes again: %s", message.source, failure)
                message.channel.basic_nack(message.method.delivery_tag, requeue=True)

    def _hand_out_copies(self, original: Received) -> None:
        """Release early copies when the server has certainly seen the original settled."""

        def settled(_: object) -> None:
            for copy in self._copied.pop(original.key, ()):
                self._arrived.put(copy)

        if original.key not in self._copied:
            return
        if original.alive:  # the server answers on this channel only after that
            prefetch = original.consumer.prefetch
            original.channel.basic_qos(prefetch_count=prefetch, callback=settled)
        else:
            settled(None)

    def _put_aside(self, message: Received, reason: str) -> None:
        """Make a message a dead letter."""
        self._submit([], [message], Settlement(Verb.DEAD_LETTER, reason))
