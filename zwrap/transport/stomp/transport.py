"""Station "transport", over ActiveMQ (STOMP 1.1 with stomp.py), wire format of python-workflows.

A unit is one transaction of the server, whose receipt is awaited later. A message that was
delivered before is first sent back as a copy with a count, because ActiveMQ does not tell how often
it was. A retry, and a dead letter with its reason, is a copy, too, in one transaction with the
original.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import msgspec
from stomp.utils import Frame

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, PermanentError, TransportError, ZwrapError
from zwrap.message.content import UNDECODABLE_HEADER, Message, Outgoing
from zwrap.message.jsontext import decode
from zwrap.transport.contract import ACK, Delivery, Original, Settlement, Verb
from zwrap.transport.copies import has_expired
from zwrap.transport.delayed import Delayed
from zwrap.transport.failures import LostError, NoPermissionError
from zwrap.transport.options import BrokerOptions
from zwrap.transport.pipelined import ANSWER_WAIT_S, PendingWork, PipelinedTransport
from zwrap.transport.stomp.clock import ServerClock
from zwrap.transport.stomp.connection import Connection, Subscription
from zwrap.transport.stomp.encoding import bounded, sent
from zwrap.transport.stomp.frames import Frames, frame
from zwrap.transport.stomp.link import Link
from zwrap.transport.stomp.places import Places
from zwrap.transport.stomp.received import HIDDEN, Kind, Received
from zwrap.transport.stomp.refusal import Instead, instead_of, whole
from zwrap.transport.stomp.settings import Server, server_from
from zwrap.transport.unreadable import why_unreadable

if TYPE_CHECKING:  # a job needs no inspector
    from zwrap.transport.inspector import Inspector

log = logging.getLogger(__name__)

EXCLUSIVE = "activemq.exclusive"
"""Header of a subscription to which the server gives all messages while it lasts."""

REMEMBERED = 1000
"""Largest number of messages that are remembered because their unit was refused."""

ENCODING = "content-encoding"
"""Header by which senders tell that a body is compressed."""


class StompTransport(PipelinedTransport[Received, Frame]):
    """A connection to ActiveMQ."""

    gives_alone: ClassVar[bool] = True
    _connection: Connection

    def __init__(
        self, server: Server, connection: Connection, configuration: Configuration | None = None
    ) -> None:
        super().__init__()
        self._connection = connection
        self._configuration = configuration
        self._places = Places(server.prefix)
        self.clock = ServerClock(connection, self._places)
        self._delayed = Delayed()
        self._readers: dict[str, list[Subscription]] = {}
        """Queue to its subscriptions."""
        self._instead: dict[str, Instead] = {}
        """Id of a message whose unit was refused to its settlement, when it is delivered again."""

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> StompTransport:
        """Connect to the server of plugin `stomp`; its inspector needs plugin `jmx`."""
        server = server_from(configuration, options)
        return cls(server, Connection.open(server), configuration)

    def inspector(self) -> Inspector:
        """Return the inspector of the server, over this connection and Jolokia."""
        from zwrap.transport.stomp.inspector import StompInspector

        return StompInspector(self, self._places, self._configuration)

    # -- receiving ---------------------------------------------------------------------------------

    def subscribe(self, queue: str, prefetch: int = 1, *, exclusive: bool = False) -> None:
        """Begin to receive messages of `queue`, which the server creates if it is missing.

        The server gives an exclusive reader nothing while another one is there.
        """
        readers = self._readers.setdefault(queue, [])
        if exclusive and any(EXCLUSIVE in each.headers for each in readers):
            return
        place = self._places.queue(queue)
        readers.append(self.read(place, queue, "queue", prefetch, exclusive=exclusive))

    def unsubscribe(self, queue: str) -> None:
        """Give the unsettled deliveries of `queue` back, and receive none of it from now on."""
        with contextlib.suppress(TransportError):  # what is not settled in time comes again
            self.flush(ANSWER_WAIT_S)
        ended = self._readers.pop(queue, [])
        numbers = {each.headers["id"] for each in ended}
        with self._lock:
            for delivery, held in list(self._held.items()):
                if held.headers.get("subscription") in numbers:
                    del self._held[delivery]
        for subscription in ended:
            self._connection.unsubscribe(subscription).wait(ANSWER_WAIT_S)

    def subscribe_topic(self, topic: str) -> None:
        """Begin to receive messages that are broadcast on `topic` from now on."""
        self.read(self._places.topic(topic), topic, "topic")

    def read(
        self,
        place: str,
        source: str,
        kind: Kind,
        prefetch: int | None = None,
        selector: str | None = None,
        *,
        exclusive: bool = False,
    ) -> Subscription:
        """Begin to receive messages of a destination; used by the inspector, too.

        Args:
            place: Destination on the server.
            source: Source of the deliveries.
            kind: Kind of subscription.
            prefetch: Largest number of unsettled messages; None: the server's default.
            selector: Condition on the messages (JMS message selector); None: all messages.
            exclusive: True if all messages are for one reader.
        """
        headers = {"destination": place, "ack": "auto" if kind == "topic" else "client-individual"}
        if prefetch is not None:
            headers["activemq.prefetchSize"] = str(prefetch)
        if selector is not None:
            headers["selector"] = selector
        if exclusive:
            headers[EXCLUSIVE] = "true"
        received = self._received(source, kind, exclusive)
        subscription = Subscription(self._connection.serial(), headers, received)
        self._connection.subscribe(subscription, ANSWER_WAIT_S)
        return subscription

    def end(self, subscription: Subscription) -> None:
        """End a subscription that `read` began."""
        self._connection.unsubscribe(subscription)

    def _received(self, source: str, kind: Kind, exclusive: bool) -> Callable[[Link, Frame], None]:
        """Return the function that is called on stomp.py's thread with each message."""

        def received(link: Link, came: Frame) -> None:
            body = came.body if isinstance(came.body, bytes) else str(came.body or "").encode()
            message = Received(link, came.headers, body, source, kind, time.monotonic(), exclusive)
            self._arrived.put(message)

        return received

    def _delivery(self, message: Received) -> Delivery | None:
        """Return the delivery of a message; None if it is expired, lost, sent back or put aside."""
        topic = message.kind == "topic"
        if message.expired if topic else not self._is_ours(message):
            return None  # expired; or the server delivers it again
        if self._instead and not topic and (instead := self._instead.pop(message.identity, None)):
            self._submit([], [message], *instead)
            return None
        if message.kind == "queue" and has_expired(message.headers, self.clock.now_ms):
            self._submit([], [message], ACK)
            return None
        if message.kind == "queue" and message.redelivered and not message.in_order:
            place = self._places.queue(message.source)
            copy = message.copy(place, message.delivery_count + 1)
            self._submit([copy], [message], ACK)  # the copy counts this delivery
            return None
        headers = {k: v for k, v in message.own_headers.items() if k not in HIDDEN}
        try:
            body = decode(message.body, largest=self._largest(message.kind))
        except MessageError as error:
            if topic:
                return None
            if message.kind == "queue" and not self._relays:
                given = message.headers
                why = why_unreadable(error, given.get("content-type"), given.get(ENCODING))
                log.error("A message of queue %r: %s", message.source, why)
                self._submit([], [message], Settlement(Verb.DEAD_LETTER, why))
                return None
            body = message.body.decode("utf-8", "replace")
            headers[UNDECODABLE_HEADER] = "True"
        delivery = Delivery(
            self,
            Message(body, headers, message.identity),
            message.source,
            delivery_count=message.delivery_count,
            topic=topic,
            reason=message.reason,
            sent_at=message.sent_at,
            size=len(message.body),
        )
        if not topic:
            self._held[delivery] = message
        return delivery

    def _is_ours(self, message: Received) -> bool:
        """Tell whether the link of a message, and its subscription, are still there."""
        return message.link is self._connection.link and self._connection.reads(message.headers)

    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery's link is still the current one."""
        held = self._held.get(delivery)
        return held is not None and not self._closed and held.link is self._connection.link

    @property
    def prefix(self) -> str:
        """Beginning of the names of queues and topics on the server."""
        return self._places.name("")

    def original(self, delivery: Delivery) -> Original:
        """Return a message with its text and its properties."""
        held = self._held[delivery]
        left_ms = held.lifetime_ms if held.kind == "dead" else held.expires_ms
        if left_ms is not None and held.kind != "dead":
            left_ms = max(1, left_ms - self.clock.now_ms())
        left_s = None if left_ms is None else left_ms / 1000
        return Original(msgspec.Raw(held.body), held.properties, left_s)

    # -- sending and settling ----------------------------------------------------------------------

    def _hand_over(self, messages: list[Frame]) -> PendingWork:
        """Submit messages without deliveries as one transaction of the server."""
        work = Frames(self._transaction(messages))
        self._connection.submit(work)
        return work

    def _submit(
        self,
        messages: list[Frame],
        received: list[Received],
        settlement: Settlement,
        stub_of: str = "",
    ) -> None:
        """Submit encoded messages and settlements as one transaction of the server.

        `stub_of`: sentence that tells where a message is of which a stub becomes a dead letter.
        """
        copies = [] if settlement.verb is Verb.ACK else self._copies(received, settlement)
        if stub_of:
            copies = [
                message.stub(copy, stub_of) for message, copy in zip(received, copies, strict=True)
            ]
        settled = [
            frame("ACK", {key: message.headers[key] for key in ("message-id", "subscription")})
            for message in received
        ]
        link = received[0].link

        def after(failure: ZwrapError | None) -> None:
            self._unfinished.discard(work)
            if failure is None:
                return
            if isinstance(failure, (PermanentError, NoPermissionError)):
                if len(self._instead) >= REMEMBERED:
                    self._instead.clear()
                unit = Instead(settlement, stub_of)
                follow = [whole(each, self._places) for each in messages]
                self._instead |= instead_of(unit, follow, received, failure)
            if link is self._connection.link:
                # The messages of a failed transaction are delivered again to another link only.
                log.warning("%s: %s; messages come again", self._connection.where, failure)
                link.cut()
            else:
                log.info("%d message(s) are no longer ours and will come again", len(received))

        work = Frames(
            self._transaction([*messages, *copies, *settled]),
            valid=lambda: link is self._connection.link,
            after=after,
        )
        self._unfinished.add(work)
        if work.valid():
            self._connection.submit(work)
        else:
            work.finish(LostError("the connection was lost"))

    def _transaction(self, frames: list[Frame]) -> list[Frame]:
        """Return the frames as a transaction: all of them take effect, or none."""
        if len(frames) == 1:
            return frames
        number = {"transaction": self._connection.serial()}
        for each in frames:
            each.headers.update(number)
        return [frame("BEGIN", number), *frames, frame("COMMIT", number)]

    def _copies(self, received: list[Received], settlement: Settlement) -> list[Frame]:
        """Return the copies for a retry or a dead letter."""
        copies = []
        for message in received:
            place = self._places.queue(message.source)
            dead_place = self._places.dead(message.source)
            if message.kind == "dead":
                copy = message.back(dead_place)
            elif settlement.verb is Verb.DEAD_LETTER:
                copy = message.dead_copy(dead_place, settlement.reason, place)
            else:
                copy = message.copy(place, message.delivery_count + settlement.counted)
                self._delay(copy, message.source, bounded(settlement.delay_s))
            copies.append(copy)
        return copies

    def _encode(self, message: Outgoing) -> Frame:
        """Return a message as a SEND frame."""
        made = sent(message, self._places, self.clock.now_ms)
        if not message.topic:
            self._delay(made, message.destination, message.delay_s)
        return made

    def _delay(self, made: Frame, queue: str, delay_s: float) -> None:
        """Delay a message by ActiveMQ's scheduler, and remember it for counts."""
        if delay_s:
            made.headers["AMQ_SCHEDULED_DELAY"] = str(max(1, int(delay_s * 1000)))
            self._delayed.add(queue, delay_s)

    def delayed(self, queue: str) -> int:
        """Return the number of messages that this connection sent to `queue` and are not due."""
        return self._delayed.count(queue)
