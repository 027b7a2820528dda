"""Station "transport", over ActiveMQ (STOMP 1.1 with stomp.py); on the wire as python-workflows.

A unit is one transaction of the server, whose receipt is waited for elsewhere. A message that was
handed out before is first sent back as a copy that says so, since ActiveMQ does not tell how often.
A retry, and a dead letter with its reason, is a copy, too, in one transaction with the original.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from stomp.utils import Frame

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TransportError
from zwrap.message import (
    ID_HEADER,
    JSON,
    UNDECODABLE_HEADER,
    Message,
    Outgoing,
    decode,
    encode,
    identify,
)
from zwrap.transport.contract import ACK, Delivery, Settlement, Verb, encoded
from zwrap.transport.copies import ATTEMPTS_HEADER, BY_BROKER, REASON_HEADER
from zwrap.transport.options import BrokerOptions
from zwrap.transport.pipelined import ANSWER_WAIT_S, PipelinedTransport
from zwrap.transport.stomp.connection import Connection, Frames, Link, Subscription, frame
from zwrap.transport.stomp.jolokia import jolokia_from
from zwrap.transport.stomp.settings import Server, server_from

log = logging.getLogger(__name__)

QUIET_S = 0.5
"""When the server has handed out nothing for so long, there is nothing more that matches."""

DEAD = "DLQ"
"""The server's own dead letters lie in queues ``DLQ.<queue>`` (individualDeadLetterStrategy)."""

_SERVERS_OWN = frozenset(
    {
        "content-length", "destination", "expires", "message-id", "subscription", "timestamp",
        "redelivered", "priority", "persistent", "ack", "receipt", "transaction", "content-type",
        "original-destination", "originalExpiration", "dlqDeliveryFailureCause", "scheduledJobId",
        "AMQ_SCHEDULED_DELAY", "transformation-error",
    }
)  # fmt: skip


class _Received(msgspec.Struct):
    """A message as it came, and the connection on which it must be settled."""

    link: Link
    headers: dict[str, str]
    body: bytes
    queue: str
    kind: str
    """``queue``, ``topic``, ``dead`` or ``overdelivered``."""
    arrived: float

    @property
    def own_headers(self) -> dict[str, JSON]:
        """The headers that its sender gave."""
        return {key: value for key, value in self.headers.items() if key not in _SERVERS_OWN}

    @property
    def expired(self) -> bool:
        """Whether its time ended while it waited here; the server only sees to its own."""
        with contextlib.suppress(KeyError, ValueError):
            expires, stamp = int(self.headers["expires"]), int(self.headers["timestamp"])
            return bool(expires) and time.monotonic() - self.arrived > (expires - stamp) / 1000
        return False

    @property
    def redelivered(self) -> bool:
        """Whether it was handed out before."""
        return self.headers.get("redelivered") == "true"


class StompTransport(PipelinedTransport):
    """A connection to ActiveMQ."""

    _connection: Connection

    def __init__(self, server: Server, configuration: Configuration | None = None) -> None:
        super().__init__()
        self._server = server
        self._configuration = configuration
        self._connection = Connection(server)
        self._delayed: list[tuple[str, float]] = []

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> StompTransport:
        """The server of plugin `stomp`; what waits in its queues comes from plugin `jmx`."""
        return cls(server_from(configuration, options), configuration)

    def _name(self, name: str) -> str:
        return f"{self._server.prefix}.{name}" if self._server.prefix else name

    def _place(self, name: str, *, topic: bool = False) -> str:
        return f"/topic/{self._name(name)}" if topic else f"/queue/{self._name(name)}"

    def _dead_place(self, queue: str) -> str:
        return f"/queue/{DEAD}.{self._name(queue)}"

    # -- receiving ---------------------------------------------------------------------------------

    def subscribe(self, queue: str, prefetch: int = 1) -> None:
        self._read(self._place(queue), queue, "queue", prefetch)

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        self._read(self._dead_place(queue), queue, "dead", prefetch)

    def subscribe_topic(self, topic: str) -> None:
        self._read(self._place(topic, topic=True), topic, "topic", None)

    def _read(
        self, place: str, name: str, kind: str, prefetch: int | None, selector: str | None = None
    ) -> Subscription:
        headers = {"destination": place, "ack": "auto" if kind == "topic" else "client-individual"}
        if prefetch is not None:
            headers["activemq.prefetchSize"] = str(prefetch)
        if selector is not None:
            headers["selector"] = selector
        subscription = Subscription(self._connection.serial(), headers, self._received(name, kind))
        self._connection.subscribe(subscription, ANSWER_WAIT_S)
        return subscription

    def _received(self, name: str, kind: str) -> Callable[[Link, Frame], None]:
        def received(link: Link, came: Frame) -> None:
            body = came.body if isinstance(came.body, bytes) else str(came.body or "").encode()
            message = _Received(link, came.headers, body, name, kind, time.monotonic())
            self._arrived.put(message)

        return received

    def _delivery(self, message: _Received) -> Delivery | None:
        topic = message.kind == "topic"
        if message.expired if topic else message.link is not self._connection.link:
            return None  # or it died with its connection, and comes again
        if message.kind == "queue" and message.redelivered:
            copy = self._copy(message, self._place(message.queue), _delivery_count(message) + 1)
            self._submit([copy], [message], ACK)  # counted, it comes again
            return None
        headers = {k: v for k, v in message.own_headers.items() if k != ATTEMPTS_HEADER}
        try:
            body = decode(message.body)
        except MessageError as error:
            if topic:
                return None
            if message.kind == "queue":
                log.error("A message of queue %r: %s", message.queue, error)
                self._submit([], [message], Settlement(Verb.DEAD_LETTER, str(error)))
                return None
            body = message.body.decode("utf-8", "replace")
            headers[UNDECODABLE_HEADER] = "True"
        delivery = Delivery(
            self,
            Message(body, headers, _identity(message, body)),
            message.queue,
            delivery_count=_delivery_count(message),
            topic=topic,
            reason=_reason(message),
            sent_at=_sent_at(message),
        )
        if not topic:
            self._held[delivery] = message
        return delivery

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """The server itself counts what it hands out, and lets one select by that.

        Queue by queue: measured with 5.17, a selector on a wildcard misses messages.
        """
        ours = ", ".join(f"'{number}'" for number in range(limit + 1, limit + 100))  # text only
        selector = f"JMSXDeliveryCount > {limit} OR {ATTEMPTS_HEADER} IN ({ours})"
        subscriptions = [
            self._read(self._place(queue), queue, "overdelivered", 1, selector)
            for queue, size in self.queues().items()
            if size
        ]
        try:
            while (delivery := self.receive(QUIET_S)) is not None:
                yield delivery
        finally:
            for subscription in subscriptions:
                self._connection.unsubscribe(subscription)

    # -- sending and settling ----------------------------------------------------------------------

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        frames = [self._frame(message) for message in messages]
        received = [self._held.pop(delivery) for delivery in deliveries]
        if received:
            self._submit(frames, received, settlement)
            return
        work = Frames(self._transaction(frames))
        self._connection.submit(work)
        self._wait_for(work)
        if work.failure:
            raise TransportError(
                f"{self._connection.where}: a message cannot be sent: {work.failure}."
            )

    def _submit(
        self, frames: list[Frame], received: list[_Received], settlement: Settlement
    ) -> None:
        """Hand over messages and settlements as one transaction of the server."""
        copies = [] if settlement.verb is Verb.ACK else self._copies(received, settlement)
        settled = [
            frame(
                "ACK",
                {key: message.headers[key] for key in ("message-id", "subscription")},
            )
            for message in received
        ]
        link = received[0].link

        def after(failure: str | None) -> None:
            self._unfinished.discard(work)
            if failure is None:
                return
            if link is self._connection.link:
                # Only another connection gets what was in a transaction that failed.
                log.warning("%s: %s; messages come again", self._connection.where, failure)
                link.cut()
            else:
                log.info("%d message(s) are no longer ours and will come again", len(received))

        work = Frames(
            self._transaction([*frames, *copies, *settled]),
            valid=lambda: link is self._connection.link,
            after=after,
        )
        self._unfinished.add(work)
        if work.valid():
            self._connection.submit(work)
        else:
            work.finish("the connection was lost")

    def _transaction(self, frames: list[Frame]) -> list[Frame]:
        """The frames so that all of them take effect, or none."""
        if len(frames) == 1:
            return frames
        number = {"transaction": self._connection.serial()}
        for each in frames:
            each.headers.update(number)
        return [frame("BEGIN", number), *frames, frame("COMMIT", number)]

    def _copies(self, received: list[_Received], settlement: Settlement) -> list[Frame]:
        """Copies that a retry or a dead letter is made of."""
        copies = []
        for message in received:
            if message.kind == "dead":
                copy = self._copy(message, self._dead_place(message.queue))  # back where it was
                copy.headers |= frame("", _history(message)).headers
            elif settlement.verb is Verb.DEAD_LETTER:
                copy = self._copy(message, self._dead_place(message.queue))
                told = {
                    REASON_HEADER: settlement.reason,
                    "original-destination": self._place(message.queue),
                    "originalExpiration": message.headers.get("expires", "0"),
                }
                copy.headers |= frame("", told).headers
            else:
                attempt = _delivery_count(message) + settlement.counted
                copy = self._copy(message, self._place(message.queue), attempt)
                self._delay(copy, message.queue, settlement.delay_s)
            copies.append(copy)
        return copies

    def _copy(self, message: _Received, place: str, attempts: int | None = None) -> Frame:
        """The same message once more."""
        headers = {key: str(value) for key, value in message.own_headers.items()}
        headers.pop(ATTEMPTS_HEADER, None)
        headers |= {"destination": place, "persistent": "true", ID_HEADER: _identity(message)}
        if attempts is not None:
            headers[ATTEMPTS_HEADER] = str(attempts)
        headers["content-length"] = str(len(message.body))
        return frame("SEND", headers, message.body)

    def _frame(self, message: Outgoing) -> Frame:
        """A message as it goes over the wire."""
        body = encoded(message, message.message)
        headers = {key: _text(value) for key, value in message.headers.items() if value is not None}
        headers["destination"] = self._place(message.destination, topic=message.topic)
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
        if delay_s:
            made.headers["AMQ_SCHEDULED_DELAY"] = str(max(1, int(delay_s * 1000)))
            self._delayed.append((queue, time.monotonic() + delay_s))

    def _owned(self, delivery: Delivery) -> bool:
        held = self._held.get(delivery)
        return held is not None and not self._closed and held.link is self._connection.link

    # -- looking -----------------------------------------------------------------------------------

    def waiting(self, queue: str) -> int:
        """Messages that wait; delayed ones are counted if this connection has sent them."""
        self.flush()
        now = time.monotonic()
        self._delayed = [entry for entry in self._delayed if entry[1] > now]
        sizes = jolokia_from(self._configuration).sizes(self._name(queue))
        return sum(sizes.values()) + sum(name == queue for name, _ in self._delayed)

    def consumers(self, queue: str) -> int:
        return jolokia_from(self._configuration).consumers(self._name(queue))

    def queues(self) -> dict[str, int]:
        self.flush()
        begin = self._name("")
        return {
            name.removeprefix(begin): size
            for name, size in sorted(jolokia_from(self._configuration).sizes().items())
            if name.startswith(begin) and not name.startswith(f"{DEAD}.")
        }

    def dead_letters(self) -> dict[str, int]:
        self.flush()
        begin = f"{DEAD}.{self._name('')}"
        return {
            name.removeprefix(begin): size
            for name, size in sorted(jolokia_from(self._configuration).sizes(f"{begin}*").items())
            if size
        }


def _text(value: JSON) -> str:
    """A header's value: STOMP knows text only. `True` is how python-workflows writes it."""
    return value if isinstance(value, str) else (
        encode(value).decode() if isinstance(value, (dict, list)) else str(value)
    )  # fmt: skip


def _delivery_count(message: _Received) -> int:
    """Which hand-out this is, as the copies of it say."""
    given = message.headers.get(ATTEMPTS_HEADER, "")
    return int(given) if given.isdecimal() else 1


def _identity(message: _Received, body: Any = None) -> str:
    del body
    return identify(None, message.own_headers, message.headers.get("message-id"))


def _history(message: _Received) -> dict[str, str]:
    """What the server, or we, have told of a dead letter."""
    names = ("original-destination", "originalExpiration", "dlqDeliveryFailureCause", REASON_HEADER)
    return {name: message.headers[name] for name in names if name in message.headers}


def _reason(message: _Received) -> str:
    if message.kind != "dead":
        return ""
    cause = message.headers.get("dlqDeliveryFailureCause")
    return message.headers.get(REASON_HEADER) or (f"{BY_BROKER}{cause}" if cause else "")


def _sent_at(message: _Received) -> float | None:
    stamp = message.headers.get("timestamp", "")
    return int(stamp) / 1000 if stamp.isdecimal() else None


__all__ = ["Server", "StompTransport"]
