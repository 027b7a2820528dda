"""Station "transport", over RabbitMQ (AMQP 0-9-1 with pika); on the wire as python-workflows.

Every message is confirmed by the server before what it follows from is acknowledged. Units are
pipelined: leaving one hands it to the connection's thread. A retry, and a dead letter with its
reason, is a copy of the message that is confirmed before the original is acknowledged.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Iterator, Sequence
from copy import copy as duplicate
from typing import Any

import msgspec
import pika

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.message import ID_HEADER, UNDECODABLE_HEADER, Message, Outgoing, decode, identify, new_id
from zwrap.transport.contract import ACK, Delivery, Settlement, Verb, encoded
from zwrap.transport.copies import ATTEMPTS_HEADER, BY_BROKER, REASON_HEADER
from zwrap.transport.options import BrokerOptions
from zwrap.transport.pipelined import ANSWER_WAIT_S, PipelinedTransport
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.connection import Connection, Consumer
from zwrap.transport.rabbitmq.publisher import Messages, Publication
from zwrap.transport.rabbitmq.settings import Server, server_from

log = logging.getLogger(__name__)


class _Received(msgspec.Struct):
    """A message as it came, and the channel on which it must be settled."""

    consumer: Consumer
    channel: Any
    method: Any
    """AMQP's ``basic.deliver``: delivery tag, exchange, routing key."""
    properties: Any
    body: bytes
    queue: str
    kind: str
    """``queue``, ``topic`` or ``dead``."""
    arrived: float

    @property
    def expired(self) -> bool:
        """Whether its time ended while it waited here; the server only sees to its own."""
        given = self.properties.expiration
        limit_s = int(given) / 1000 if given and str(given).isdecimal() else float("inf")
        return time.monotonic() - self.arrived > limit_s

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers."""
        return self.properties.headers or {}

    @property
    def key(self) -> tuple[Any, str]:
        """What it shares with a copy of it that comes the same way."""
        return self.channel, _identity(self)

    @property
    def alive(self) -> bool:
        """Whether it can still be settled."""
        if self.consumer.channel is not self.channel:
            return False
        return bool(self.channel.is_open and self.channel.connection.is_open)


class RabbitMQTransport(PipelinedTransport):
    """A connection to RabbitMQ."""

    hidden: tuple[str, ...] = (ATTEMPTS_HEADER,)
    """Headers that are between us and the server."""
    _connection: Connection

    def __init__(self, server: Server, api: Any = None) -> None:
        super().__init__()
        self._server = server
        self._api = api
        self._connection = Connection(server)
        self._delay_queues: dict[str, set[str]] = {}
        self._copied: dict[tuple[Any, str], list[_Received]] = {}
        """Channels and ids of which a copy is under way, and copies that came too early.

        Whoever gets a copy may die of it at once; the original must be gone by then.
        """

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> RabbitMQTransport:
        """The server of plugin `pika`; lists of queues come from plugin `rabbitmqapi`."""
        return cls(server_from(configuration, options), configuration)

    # -- receiving -------------------------------------------------------------------------------

    def subscribe(self, queue: str, prefetch: int = 1) -> None:
        self._declare(queue)
        self._consume(queue, queue, "queue", prefetch)

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        self._connection.ensure(topology.dead_letters_exist(queue), ANSWER_WAIT_S)
        self._consume(topology.dead_letter_queue(queue), queue, "dead", prefetch)

    def _consume(self, place: str, queue: str, kind: str, prefetch: int) -> None:
        def start(channel: Any, started: Any) -> None:
            channel.basic_consume(place, self._received(consumer, queue, kind), callback=started)

        consumer = Consumer(start, lambda: None, prefetch, f"queue {place!r}")
        self._connection.consume(consumer)

    def subscribe_topic(self, topic: str) -> None:
        def start(channel: Any, started: Any) -> None:
            def bound(name: str) -> None:
                channel.basic_consume(
                    name, self._received(consumer, topic, "topic"), auto_ack=True, callback=started
                )

            def declared(frame: Any) -> None:
                name = frame.method.queue
                channel.queue_bind(name, topic, name, callback=lambda _: bound(name))

            channel.queue_declare("", exclusive=True, callback=declared)

        consumer = Consumer(start, lambda: None, 0, f"topic {topic!r}")
        try:
            self._connection.consume(consumer)
        except ConfigurationError:  # there is no such exchange yet
            self._connection.ensure(topology.exchange_exists(topic), ANSWER_WAIT_S)
            consumer.reset()
            self._connection.consume(consumer)

    def _received(self, consumer: Consumer, queue: str, kind: str) -> Any:
        def received(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            message = _Received(
                consumer, channel, method, properties, body, queue, kind, time.monotonic()
            )
            if kind == "queue" and method.redelivered and "x-delivery-count" not in message.headers:
                self._count(message)  # a classic queue, which does not
                return
            if self._copied and (early := self._copied.get(message.key)) is not None:
                early.append(message)
                return
            self._arrived.put(message)

        return received

    def _count(self, message: _Received) -> None:
        """Send a redelivered message back as a copy with one more attempt; it comes again."""
        copy = self._copy(message, _identity(message), attempts=_delivery_count(message) + 1)
        self._expect_copy(message)
        self._submit([copy], [message], ACK)

    def _expect_copy(self, message: _Received) -> None:
        for key in list(self._copied):
            if not key[0].is_open:  # its connection is gone, and with it what came early
                self._copied.pop(key, None)
        self._copied.setdefault(message.key, [])

    def _delivery(self, message: _Received) -> Delivery | None:
        if message.kind == "topic":
            if message.expired:
                return None
        elif not message.alive:
            return None  # it died with its connection, and comes again
        headers = {k: _plain(v) for k, v in message.headers.items() if k not in self.hidden}
        try:
            body = self._read(message.body)
        except MessageError as error:
            if message.kind == "topic":
                return None
            if message.kind == "queue":
                log.error("A message of queue %r: %s", message.queue, error)
                self._put_aside(message, str(error))
                return None
            body = message.body.decode("utf-8", "replace")
            headers[UNDECODABLE_HEADER] = True
        made = Message(body, headers, _identity(message, body))
        delivery = Delivery(
            self,
            made,
            message.queue,
            delivery_count=_delivery_count(message),
            topic=message.kind == "topic",
            reason=_reason(message),
            sent_at=_sent_at(message),
        )
        if not delivery.topic:
            self._held[delivery] = message
        return delivery

    def _read(self, body: bytes) -> Any:
        """What a message says; MessageError if it is not a message."""
        return decode(body)

    # -- sending and settling --------------------------------------------------------------------

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        publications = [self._publication(message) for message in messages]
        received = [self._held.pop(delivery) for delivery in deliveries]
        needs = tuple(need for message in messages for need in self._needs(message))
        if received:
            self._submit(publications, received, settlement, needs)
            return
        work = Messages(publications, needs=needs)
        self._connection.submit(work)
        self._wait_for(work)
        if work.failure:
            kind = MessageError if "does not exist" in work.failure else TransportError
            raise kind(f"A message cannot be sent: {work.failure}.")

    def _submit(
        self,
        publications: list[Publication],
        received: list[_Received],
        settlement: Settlement,
        needs: tuple[Any, ...] = (),
    ) -> None:
        """Hand over messages and what is settled when they are confirmed."""
        copies, more = self._copies(received, settlement)
        work: Messages = Messages(
            [*publications, *copies],
            needs=(*needs, *more),
            valid=lambda: all(message.alive for message in received),
            after=lambda failure: self._settle_received(received, settlement, failure, work),
        )
        self._unfinished.add(work)
        self._connection.submit(work)

    def _copies(
        self, received: list[_Received], settlement: Settlement
    ) -> tuple[list[Publication], list[Any]]:
        """Copies that a retry or a dead letter is made of."""
        if settlement.verb is Verb.ACK:
            return [], []
        if settlement.verb is Verb.DEAD_LETTER:
            dead = [self._dead_copy(message, settlement.reason) for message in received]
            return dead, [topology.dead_letters_exist(message.queue) for message in received]
        copies, needs = [], []
        for message in received:
            if message.kind == "dead":
                copies.append(_back(message))
                continue
            copy = self._copy(
                message, _identity(message), attempts=_delivery_count(message) + settlement.counted
            )
            self._expect_copy(message)
            if settlement.delay_s:
                place, need = topology.delay(message.queue, settlement.delay_s)
                self._delay_queues.setdefault(message.queue, set()).add(place)
                copy.routing_key = place
                needs.append(need)
            copies.append(copy)
        return copies, needs

    def _settle_received(
        self, received: list[_Received], settlement: Settlement, failure: str | None, work: Messages
    ) -> None:
        """On the connection's thread: everything is confirmed, or something never will be."""
        self._unfinished.discard(work)
        self._settle_now(received, settlement, failure)
        if self._copied:
            for message in received:
                self._hand_out_copies(message)

    def _settle_now(
        self, received: list[_Received], settlement: Settlement, failure: str | None
    ) -> None:
        if not all(message.alive for message in received):
            log.info("%d message(s) are no longer ours and will come again", len(received))
        elif failure is None:
            for message in received:
                message.channel.basic_ack(message.method.delivery_tag)
            return
        for message in received:
            if not message.alive:
                continue
            if failure and "does not exist" in failure and settlement.verb is Verb.ACK:
                log.error("A message of queue %r is a dead letter: %s", message.queue, failure)
                self._put_aside(message, f"What follows from it cannot be sent: {failure}.")
            else:
                log.warning("A message of queue %r comes again: %s", message.queue, failure)
                message.channel.basic_nack(message.method.delivery_tag, requeue=True)

    def _hand_out_copies(self, original: _Received) -> None:
        """Hand out what came early, once the server has certainly seen the original settled."""

        def settled(_: Any) -> None:
            for copy in self._copied.pop(original.key, ()):
                self._arrived.put(copy)

        if original.key not in self._copied:
            return
        if original.alive:  # whatever is answered on this channel is answered after that
            prefetch = original.consumer.prefetch
            original.channel.basic_qos(prefetch_count=prefetch, callback=settled)
        else:
            settled(None)

    def _put_aside(self, message: _Received, reason: str) -> None:
        self._submit([], [message], Settlement(Verb.DEAD_LETTER, reason))

    def _publication(self, message: Outgoing) -> Publication:
        """A message as it goes over the wire."""
        headers = {key: _table(value) for key, value in message.headers.items()}
        identity = str(headers[ID_HEADER])
        properties = pika.BasicProperties(
            headers=headers, delivery_mode=2, timestamp=int(time.time())
        )
        if message.expires_s is not None:
            properties.expiration = str(max(0, int(message.expires_s * 1000)))
        body = encoded(message, message.message)
        if message.topic:
            place = message.destination
            return Publication(place, "", body, properties, identity, mandatory=False)
        place = message.destination
        if message.delay_s:
            place, _ = topology.delay(place, message.delay_s)
            self._delay_queues.setdefault(message.destination, set()).add(place)
        return Publication("", place, body, properties, identity, mandatory=True)

    def _needs(self, message: Outgoing) -> list[Any]:
        """What must exist before a message can be published."""
        if message.topic:
            return [topology.exchange_exists(message.destination)]
        needs = []
        if self._server.declare:
            needs.append(topology.queue_exists(message.destination, self._server.declare))
        if message.delay_s:
            needs.append(topology.delay(message.destination, message.delay_s)[1])
        return needs

    def _copy(self, message: _Received, identity: str, *, attempts: int) -> Publication:
        """The same message once more, for its own queue."""
        headers = {
            key: value
            for key, value in message.headers.items()
            if not key.startswith(("x-death", "x-first-death", "x-delivery-count"))
        }
        properties = duplicate(message.properties)
        properties.headers = {**headers, ID_HEADER: identity, ATTEMPTS_HEADER: attempts}
        properties.delivery_mode = 2
        properties.expiration = None
        properties.user_id = None  # the server wants ours or none
        return Publication("", message.queue, message.body, properties, identity, mandatory=True)

    def _dead_copy(self, message: _Received, reason: str) -> Publication:
        """The message for its dead letter queue, with the history that RabbitMQ itself writes."""
        copy = self._copy(message, _identity(message), attempts=1)
        headers = copy.properties.headers
        del headers[ATTEMPTS_HEADER]
        death = {
            "count": 1,
            "reason": "rejected",
            "queue": message.queue,
            "time": dt.datetime.now(dt.UTC),
            "exchange": "",
            "routing-keys": [message.queue],
        }
        headers |= {
            REASON_HEADER: reason,
            "x-death": [death],
            "x-first-death-exchange": "",
            "x-first-death-queue": message.queue,
            "x-first-death-reason": "rejected",
        }
        copy.routing_key = topology.dead_letter_queue(message.queue)
        return copy

    def _owned(self, delivery: Delivery) -> bool:
        held = self._held.get(delivery)
        return held is not None and held.alive

    # -- looking ---------------------------------------------------------------------------------

    def waiting(self, queue: str) -> int:
        self.flush()
        self._declare(queue)
        places = [queue, *self._delay_queues.get(queue, ())]
        counts = [self._connection.ask(topology.count(place), ANSWER_WAIT_S) for place in places]
        if isinstance(counts[0], BaseException):
            raise MessageError(f"Queue {queue!r} does not exist on {self._connection.where}.")
        return sum(count for count in counts if isinstance(count, int))

    def consumers(self, queue: str) -> int:
        self._declare(queue)
        count = self._connection.ask(topology.count(queue, "consumer_count"), ANSWER_WAIT_S)
        if isinstance(count, BaseException):
            raise MessageError(f"Queue {queue!r} does not exist on {self._connection.where}.")
        return int(count)

    def _declare(self, queue: str) -> None:
        """Make a queue where the site wants that."""
        if self._server.declare:
            need = topology.queue_exists(queue, self._server.declare)
            self._connection.ensure(need, ANSWER_WAIT_S)

    def queues(self) -> dict[str, int]:
        names = [name for name in self._names() if not topology.is_internal(name)]
        return self._counted(names)

    def dead_letters(self) -> dict[str, int]:
        self.flush()
        dead = {
            topology.dead_letter_queue(name): name
            for name in map(topology.source_of, self._names())
            if name
        }
        counts = self._counted(list(dead))
        return {dead[place]: count for place, count in counts.items() if count}

    def _counted(self, names: list[str]) -> dict[str, int]:
        """Exact counts, by asking the queues themselves: the API's are seconds old."""
        counts = {name: self._connection.ask(topology.count(name), ANSWER_WAIT_S) for name in names}
        return {name: count for name, count in counts.items() if isinstance(count, int)}

    def _names(self) -> list[str]:
        """Names of all queues of the vhost, from the management API."""
        from zwrap.transport.rabbitmq.management.api import RabbitMQAPI

        api = RabbitMQAPI.from_zocalo_configuration(self._api or Configuration())
        found = api.queues(self._server.vhost)
        api.close()
        return sorted(queue.name for queue in found) if isinstance(found, list) else []

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Nothing: to look at a waiting message would be another hand-out of it.

        What comes too often is put aside where it arrives, and by the server's `delivery-limit`.
        """
        del limit
        yield from ()

    def audit(self) -> list[str]:
        from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
        from zwrap.transport.rabbitmq.management.audit import audited

        api = RabbitMQAPI.from_zocalo_configuration(self._api or Configuration())
        try:
            return audited(api, self._server.vhost)
        finally:
            api.close()


def _back(message: _Received) -> Publication:
    """A dead letter for the queue that it came from, as it is.

    Given back it would be counted, and RabbitMQ 4 throws away what was given back 20 times.
    """
    identity = _identity(message)
    properties = duplicate(message.properties)
    properties.user_id = None
    place = topology.dead_letter_queue(message.queue)
    return Publication("", place, message.body, properties, identity, mandatory=True)


def _delivery_count(message: _Received) -> int:
    """Which hand-out this is: what copies say, plus what a quorum queue counts."""
    copies = message.headers.get(ATTEMPTS_HEADER)
    counted = message.headers.get("x-delivery-count")
    return (copies if isinstance(copies, int) else 1) + (counted if isinstance(counted, int) else 0)


def _identity(message: _Received, body: Any = None) -> str:
    own = message.headers.get(ID_HEADER)
    if isinstance(own, str) and own:
        return own
    if body is None:
        with contextlib.suppress(MessageError):
            body = decode(message.body)
    identity = identify(body, message.headers) if body is not None else new_id()
    if message.properties.headers is None:
        message.properties.headers = {}
    message.properties.headers[ID_HEADER] = identity  # the copies of it have the same
    return identity


def _reason(message: _Received) -> str:
    if message.kind != "dead":
        return ""
    given = message.headers.get(REASON_HEADER)
    if isinstance(given, str):
        return given
    deaths = message.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return f"{BY_BROKER}{deaths[0].get('reason')}."
    return ""


def _sent_at(message: _Received) -> float | None:
    stamp = message.properties.timestamp
    if isinstance(stamp, (int, float)):
        return float(stamp)
    deaths = message.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        moment = deaths[0].get("time")
        if isinstance(moment, dt.datetime):
            return moment.replace(tzinfo=dt.UTC).timestamp()
    return None


def _table(value: Any) -> Any:
    """A header as pika can write it, which knows no floating point numbers."""
    if isinstance(value, dict):
        return {str(key): _table(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_table(entry) for entry in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value)


def _plain(value: Any) -> Any:
    """A header as JSON can hold it: AMQP has times, decimals and byte strings besides."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC).timestamp()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


__all__ = ["RabbitMQTransport", "Server"]
