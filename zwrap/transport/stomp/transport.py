"""Station "transport", over ActiveMQ (STOMP 1.1 with stomp.py), wire format of python-workflows.

A unit is one transaction of the server, whose receipt is awaited later. A message that was
delivered before is first sent back as a copy with a count, because ActiveMQ does not tell how often
it was. A retry, and a dead letter with its reason, is a copy, too, in one transaction with the
original.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from stomp.utils import Frame

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, ZwrapError
from zwrap.message import UNDECODABLE_HEADER, Message, Outgoing, decode, encode
from zwrap.transport.contract import ACK, Delivery, Settlement, Verb, encoded
from zwrap.transport.copies import ATTEMPTS_HEADER
from zwrap.transport.failures import LostError
from zwrap.transport.options import BrokerOptions
from zwrap.transport.pipelined import ANSWER_WAIT_S, PendingWork, PipelinedTransport
from zwrap.transport.stomp.connection import Connection, Subscription
from zwrap.transport.stomp.frames import Frames, frame
from zwrap.transport.stomp.link import Link
from zwrap.transport.stomp.places import Places
from zwrap.transport.stomp.received import Kind, Received
from zwrap.transport.stomp.settings import Server, server_from

if TYPE_CHECKING:  # a job needs no inspector
    from zwrap.transport.inspector import Inspector

log = logging.getLogger(__name__)


class StompTransport(PipelinedTransport[Received, Frame]):
    """A connection to ActiveMQ."""

    _connection: Connection

    def __init__(
        self, server: Server, connection: Connection, configuration: Configuration | None = None
    ) -> None:
        super().__init__()
        self._connection = connection
        self._configuration = configuration
        self._places = Places(server.prefix)
        self._delayed: list[tuple[str, float]] = []
        """Queue and due time of messages that this connection has sent with a delay."""

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

    def subscribe(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive messages of `queue`, which the server creates if it is missing."""
        self.read(self._places.queue(queue), queue, "queue", prefetch)

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
    ) -> Subscription:
        """Begin to receive messages of a destination; used by the inspector, too.

        Args:
            place: Destination on the server.
            source: Source of the deliveries.
            kind: Kind of subscription.
            prefetch: Largest number of unsettled messages; None: the server's default.
            selector: Condition on the messages (JMS message selector); None: all messages.
        """
        headers = {"destination": place, "ack": "auto" if kind == "topic" else "client-individual"}
        if prefetch is not None:
            headers["activemq.prefetchSize"] = str(prefetch)
        if selector is not None:
            headers["selector"] = selector
        received = self._received(source, kind)
        subscription = Subscription(self._connection.serial(), headers, received)
        self._connection.subscribe(subscription, ANSWER_WAIT_S)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription that `read` began."""
        self._connection.unsubscribe(subscription)

    def _received(self, source: str, kind: Kind) -> Callable[[Link, Frame], None]:
        """Return the function that is called on stomp.py's thread with each message."""

        def received(link: Link, came: Frame) -> None:
            body = came.body if isinstance(came.body, bytes) else str(came.body or "").encode()
            message = Received(link, came.headers, body, source, kind, time.monotonic())
            self._arrived.put(message)

        return received

    def _delivery(self, message: Received) -> Delivery | None:
        """Return the delivery of a message; None if it is expired, lost, sent back or put aside."""
        topic = message.kind == "topic"
        if message.expired if topic else message.link is not self._connection.link:
            return None  # expired; or its connection is gone, and the server delivers it again
        if message.kind == "queue" and message.redelivered:
            place = self._places.queue(message.source)
            copy = message.copy(place, message.delivery_count + 1)
            self._submit([copy], [message], ACK)  # the copy counts this delivery
            return None
        headers = {k: v for k, v in message.own_headers.items() if k != ATTEMPTS_HEADER}
        try:
            body = decode(message.body)
        except MessageError as error:
            if topic:
                return None
            if message.kind == "queue":
                log.error("A message of queue %r: %s", message.source, error)
                self._submit([], [message], Settlement(Verb.DEAD_LETTER, str(error)))
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
        )
        if not topic:
            self._held[delivery] = message
        return delivery

    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery's link is still the current one."""
        held = self._held.get(delivery)
        return held is not None and not self._closed and held.link is self._connection.link

    # -- sending and settling ----------------------------------------------------------------------

    def _hand_over(self, messages: list[Frame]) -> PendingWork:
        """Submit messages without deliveries as one transaction of the server."""
        work = Frames(self._transaction(messages))
        self._connection.submit(work)
        return work

    def _submit(
        self, messages: list[Frame], received: list[Received], settlement: Settlement
    ) -> None:
        """Submit encoded messages and settlements as one transaction of the server."""
        copies = [] if settlement.verb is Verb.ACK else self._copies(received, settlement)
        settled = [
            frame("ACK", {key: message.headers[key] for key in ("message-id", "subscription")})
            for message in received
        ]
        link = received[0].link

        def after(failure: ZwrapError | None) -> None:
            self._unfinished.discard(work)
            if failure is None:
                return
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
                self._delay(copy, message.source, settlement.delay_s)
            copies.append(copy)
        return copies

    def _encode(self, message: Outgoing) -> Frame:
        """Return a message as a SEND frame."""
        body = encoded(message, message.message)
        headers = {key: _text(value) for key, value in message.headers.items() if value is not None}
        place = self._places.topic if message.topic else self._places.queue
        headers["destination"] = place(message.destination)
        headers["content-length"] = str(len(body))
        if not message.topic:
            headers["persistent"] = "true"
        if message.expires_s is not None:
            headers["expires"] = str(int((time.time() + message.expires_s) * 1000))
        made = frame("SEND", headers, body)
        if not message.topic:
            self._delay(made, message.destination, message.delay_s)
        return made

    def _delay(self, made: Frame, queue: str, delay_s: float) -> None:
        """Delay a message by ActiveMQ's scheduler, and remember it for counts."""
        if delay_s:
            made.headers["AMQ_SCHEDULED_DELAY"] = str(max(1, int(delay_s * 1000)))
            self._delayed.append((queue, time.monotonic() + delay_s))

    def delayed(self, queue: str) -> int:
        """Return the number of messages that this connection sent to `queue` and are not due."""
        now = time.monotonic()
        self._delayed = [entry for entry in self._delayed if entry[1] > now]
        return sum(name == queue for name, _ in self._delayed)


def _text(value: object) -> str:
    """Return the value of a header as text; STOMP has only text. `True` is as python-workflows."""
    if isinstance(value, (dict, list)):
        return encode(value).decode()
    return str(value)
