"""Station "transport", over RabbitMQ (AMQP 0-9-1 with pika), wire format of python-workflows.

The server confirms every message before the delivery that it follows from is acknowledged. Units
are pipelined: at its end a unit is submitted to the connection's thread. A retry, and a dead letter
with its reason, is a copy of the message, which is confirmed before the original is acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, ClassVar

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError, ZwrapError
from zwrap.message.content import ID_HEADER, UNDECODABLE_HEADER, Message, Outgoing
from zwrap.message.jsontext import decode
from zwrap.transport.contract import ACK, Delivery, Original, Settlement
from zwrap.transport.copies import has_expired
from zwrap.transport.options import BrokerOptions
from zwrap.transport.pipelined import ANSWER_WAIT_S, PendingWork, PipelinedTransport
from zwrap.transport.rabbitmq import delays, tables, topology
from zwrap.transport.rabbitmq.alone import refused, released, when_alone
from zwrap.transport.rabbitmq.connection import Connection
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.headers import kept, properties_of
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.received import HIDDEN, Kind, Received
from zwrap.transport.rabbitmq.settings import Server, server_from
from zwrap.transport.rabbitmq.settling import Settler
from zwrap.transport.rabbitmq.topology import Need
from zwrap.transport.sending import encoded
from zwrap.transport.unreadable import why_unreadable

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

    hidden: tuple[str, ...] = HIDDEN
    """Headers of zwrap's own that receivers do not see."""
    gives_alone: ClassVar[bool] = True
    _connection: Connection

    def __init__(
        self, server: Server, connection: Connection, configuration: Configuration | None = None
    ) -> None:
        super().__init__()
        self._server = server
        self._connection = connection
        tables.install()
        self._configuration = configuration or Configuration()
        self._readers: dict[str, list[Consumer]] = {}
        """Queue to its consumers."""
        self._locked: set[str] = set()
        """Queues whose locks this connection may have (`zwrap.transport.rabbitmq.alone`)."""
        self._settler = Settler(
            connection, self._arrived.put, self._added_headers, self._unfinished
        )

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
            self._settler.delayed,
            self.flush,
            lambda queue, prefetch: self._consume(
                topology.dead_letter_queue(queue), queue, "dead", prefetch
            ),
        )

    def wait_for_room(self, wait_s: float) -> None:
        """Wait from now on up to `wait_s` seconds, in all, for queues that refuse messages."""
        self._connection.publisher.refusals.wait_s = wait_s

    # -- receiving -------------------------------------------------------------------------------

    def subscribe(self, queue: str, prefetch: int = 1, *, exclusive: bool = False) -> None:
        """Begin to receive messages of `queue`; ConfigurationError if it does not exist.

        If the site asks for it (key `declare`), a missing queue is created.
        """
        there = self._readers.get(queue, ())
        if exclusive and any(each.exclusive and each.failure is None for each in there):
            return
        topology.checked(queue, "Queue")
        if self._server.declare:
            need = topology.queue_exists(queue, self._server.declare)
            self._connection.ensure(need, ANSWER_WAIT_S)
        self._consume(queue, queue, "queue", prefetch, exclusive=exclusive)

    def unsubscribe(self, queue: str) -> None:
        """Give the unsettled deliveries of `queue` back, and receive none of it from now on."""
        with contextlib.suppress(TransportError):  # what is not settled in time comes again
            self.flush(ANSWER_WAIT_S)
        with self._lock:
            for delivery, held in list(self._held.items()):
                if held.kind == "queue" and held.source == queue:
                    del self._held[delivery]
        for consumer in self._readers.pop(queue, []):
            self._connection.end(consumer, queue if consumer.exclusive else "", ANSWER_WAIT_S)
        if queue in self._locked:
            self._locked.discard(queue)
            with contextlib.suppress(TransportError):  # it has ended with its connection
                self._connection.ask(released(queue), ANSWER_WAIT_S)

    def close(self) -> None:
        """Give unsettled deliveries back and end the connection."""
        for queue in [] if self._closed else list(self._locked):
            with contextlib.suppress(TransportError):
                self.unsubscribe(queue)  # in order, for the next reader
        super().close()

    def _consume(
        self, place: str, source: str, kind: Kind, prefetch: int, *, exclusive: bool = False
    ) -> None:
        """Begin to consume the server's queue `place`, as messages of `source`."""

        def start(channel: Channel, started: OnAnswer) -> None:
            def consume() -> None:
                received = self._received(consumer, source, kind)
                channel.basic_consume(place, received, exclusive=exclusive, callback=started)

            if exclusive:
                when_alone(channel, place, consume)
            else:
                consume()

        def taken(error: BaseException) -> ZwrapError | None:
            return refused(error, source, self.where)

        def over(error: ZwrapError) -> None:
            self._readers.pop(source, None)
            self._arrived.put(error)

        consumer = Consumer(start, prefetch, f"queue {place!r}", taken if exclusive else None)
        consumer.on_taken = over
        if exclusive:
            self._locked.add(source)
        self._connection.consume(consumer)
        if kind == "queue":
            self._readers.setdefault(source, []).append(consumer)

    def subscribe_topic(self, topic: str) -> None:
        """Begin to receive broadcasts on `topic`, whose exchange is created if it is missing."""
        topology.checked(topic, "Topic")

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
            consumer.unsettled += 1
            if kind == "queue" and message.is_uncounted and not consumer.exclusive:
                self._settler.count(message)
            elif not self._settler.is_early(message):
                self._arrived.put(message)

        return received

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
        elif message.kind == "queue" and has_expired(message.headers):
            self._settler.submit([], [message], ACK)
            return None
        headers = message.plain_headers(self.hidden)
        try:
            if flaw := headers.get(tables.UNREADABLE_HEADER):
                raise MessageError(f"Its headers cannot be read: {flaw}.")
            body = self._read(message.body, self._largest(message.kind))
        except MessageError as error:
            if message.kind == "topic":
                return None
            if message.kind == "queue" and not self._relays:
                given = message.properties
                why = why_unreadable(error, given.content_type, given.content_encoding)
                log.error("A message of queue %r: %s", message.source, why)
                self._settler.put_aside(message, why)
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
            size=len(message.body),
        )
        if not delivery.topic:
            self._held[delivery] = message
        return delivery

    def _read(self, body: bytes, largest: int | None = None) -> object:
        """Return the body of a message; MessageError if it is not valid JSON, or too large."""
        return decode(body, largest=largest)

    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery's channel is still open."""
        held = self._held.get(delivery)
        return held is not None and held.alive

    def original(self, delivery: Delivery) -> Original:
        """Return a message with its text, its properties and its typed headers."""
        held = self._held[delivery]
        return Original(
            msgspec.Raw(held.body), kept(held.properties, self.hidden), expires_s=held.left_s
        )

    # -- sending and settling --------------------------------------------------------------------

    def _encode(self, message: Outgoing) -> Publication:
        """Return a message as a publication, with the needs of its queue or topic."""
        place = topology.checked(message.destination, "Topic" if message.topic else "Queue")
        body = encoded(message, message.message)
        identity = str(message.headers[ID_HEADER])
        properties = properties_of(message)
        if message.expires_s is not None:
            properties.expiration = delays.expiration(message.expires_s)
        if message.topic:
            needs: tuple[Need, ...] = (topology.exchange_exists(place),)
            return Publication(place, "", body, properties, identity, mandatory=False, needs=needs)
        needs = ()
        exchange = message.exchange
        if exchange:
            needs = (topology.exchange_is_there(topology.checked(exchange, "Exchange")),)
        elif self._server.declare:
            needs = (topology.queue_exists(place, self._server.declare),)
        if message.delay_s:
            delay = delays.delay(message.delay_s, exchange)
            exchange, properties.expiration = delay.exchange, delay.expiration
            needs = (*needs, delay.need)
            self._settler.delayed.add(place, message.delay_s)
        return Publication(exchange, place, body, properties, identity, mandatory=True, needs=needs)

    def _hand_over(self, messages: list[Publication]) -> PendingWork:
        """Submit messages without deliveries to the connection."""
        work = Messages(messages)
        self._connection.submit(work)
        return work

    def _submit(
        self, messages: list[Publication], received: list[Received], settlement: Settlement
    ) -> None:
        """Submit messages and copies; the deliveries are settled when all are confirmed."""
        self._settler.submit(messages, received, settlement)
