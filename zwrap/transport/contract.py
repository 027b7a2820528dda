"""Station "transport": long polling, thread-safe; four implementations of one contract.

The contract: every delivery from a queue is settled exactly once; a unit sends its messages
first and settles its deliveries then; the promise is at-least-once, and a repeat carries the
same message ids. `tests/contract/test_transport.py` is the contract in executable form.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, SettledError
from zwrap.message import JSON, Message, Outgoing, child_id, encode, new_id
from zwrap.transport.options import BrokerOptions

log = logging.getLogger(__name__)


class Verb(enum.Enum):
    """What a settlement does with a delivery."""

    ACK = "ack"
    RETRY = "retry"
    DEAD_LETTER = "dead letter"


class Settlement(msgspec.Struct, frozen=True):
    """How a delivery ends."""

    verb: Verb
    reason: str = ""
    delay_s: float = 0.0
    counted: bool = True
    """False: giving the message back was not its fault, so the attempt does not count."""


ACK = Settlement(Verb.ACK)


class Delivery:
    """One received message and, if it came from a queue, the duty to settle it exactly once."""

    def __init__(
        self,
        transport: Transport,
        message: Message,
        source: str,
        *,
        delivery_count: int,
        topic: bool,
        reason: str = "",
        sent_at: float | None = None,
    ) -> None:
        self.message = message
        self.source = source
        """Name of the queue or topic that it came from."""
        self.delivery_count = delivery_count
        """How often this message was handed out, this time included."""
        self.topic = topic
        self.reason = reason
        """Of a dead letter: why it is one."""
        self.sent_at = sent_at
        """When it was sent, in seconds since the epoch, where the transport knows."""
        self.settled = topic
        self._transport = transport

    def ack(self) -> None:
        """Done: the message is forgotten."""
        self._transport.commit([], [self], ACK)

    def retry(self, delay_s: float = 0.0, *, counted: bool = True) -> None:
        """Give the message back; it comes again after `delay_s` seconds."""
        self._transport.commit([], [self], Settlement(Verb.RETRY, delay_s=delay_s, counted=counted))

    def dead_letter(self, reason: str) -> None:
        """Put the message aside, with the reason, for a person to look at."""
        self._transport.commit([], [self], Settlement(Verb.DEAD_LETTER, reason))


class Unit:
    """Messages that are sent together, when the unit ends without an exception."""

    def __init__(self, parent: str | None) -> None:
        self.outgoing: list[Outgoing] = []
        self._parent = parent or new_id()

    def send(self, *messages: Outgoing) -> None:
        """Add messages; those without an id get one derived from the delivery and position."""
        for message in messages:
            identity = child_id(self._parent, len(self.outgoing))
            self.outgoing.append(message.with_id(identity))


class Transport(ABC):
    """A connection to queues and topics. All methods may be called from any thread."""

    batch_wait_s: ClassVar[float] = 0.0
    """Messages that wait together are handed out so long after each other at most."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @classmethod
    @abstractmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> Transport:
        """Open the connection that a site configuration describes; `options` go before it."""

    @abstractmethod
    def subscribe(self, queue: str, prefetch: int = 1) -> None:
        """Take messages from `queue`, at most `prefetch` unsettled at a time.

        Subscribing again lets more be held: up to the sum of both, as brokers count.
        """

    @abstractmethod
    def subscribe_topic(self, topic: str) -> None:
        """Hear what is broadcast on `topic` from now on."""

    @abstractmethod
    def receive(self, timeout_s: float) -> Delivery | None:
        """Wait up to `timeout_s` seconds for a message of any subscription."""

    @abstractmethod
    def waiting(self, queue: str) -> int:
        """Number of messages that wait in `queue`, delayed ones included."""

    @abstractmethod
    def consumers(self, queue: str) -> int:
        """Number of receivers that are subscribed to `queue`, those of this connection included."""

    @abstractmethod
    def queues(self) -> dict[str, int]:
        """All queues, and how many messages wait in each, delayed ones included."""

    @abstractmethod
    def dead_letters(self) -> dict[str, int]:
        """Queues that have dead letters, and how many."""

    @abstractmethod
    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Take the dead letters of `queue`. `ack` forgets one, `retry` leaves it where it is.

        One that cannot be decoded comes with its text as the body.
        """

    @abstractmethod
    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Take what was handed out more than `limit` times and waits again, from any queue.

        Nothing is decoded in a way that could fail: whoever died of it may have died of that.
        """

    def audit(self) -> list[str]:
        """How the other side could lose a message, or hand it out for ever; a sentence each."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Give unsettled deliveries back and end the connection."""

    @abstractmethod
    def _publish(self, messages: Sequence[Outgoing]) -> None:
        """Return when the other side has taken responsibility for all messages.

        Everything is encoded before the first is sent.
        """

    @abstractmethod
    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        """Carry out the settlement of one delivery."""

    @abstractmethod
    def _owned(self, delivery: Delivery) -> bool:
        """Whether the delivery is still ours (a lease may have lapsed, a connection died)."""

    def flush(self, timeout_s: float = 30.0) -> None:  # noqa: B027  (nothing to do is a fine default)
        """Wait until everything handed over so far is confirmed."""

    def send(
        self,
        queue: str,
        body: JSON,
        headers: dict[str, JSON] | None = None,
        *,
        delay_s: float = 0.0,
        expires_s: float | None = None,
    ) -> None:
        """Send one message; returns when the other side has taken responsibility for it."""
        self.commit([Outgoing(queue, body, headers or {}, delay_s=delay_s, expires_s=expires_s)])

    def broadcast(
        self,
        topic: str,
        body: JSON,
        headers: dict[str, JSON] | None = None,
        *,
        expires_s: float | None = None,
        replaces: str | None = None,
    ) -> None:
        """Tell everybody who listens to `topic` now; nobody listening is no error."""
        self.commit(
            [
                Outgoing(
                    topic, body, headers or {}, topic=True, expires_s=expires_s, replaces=replaces
                )
            ]
        )

    @contextlib.contextmanager
    def unit(self, *deliveries: Delivery, dead_letter: str | None = None) -> Iterator[Unit]:
        """Send messages and settle `deliveries` together: all of it, or nothing.

        An exception inside sends nothing and leaves the deliveries unsettled. With
        `dead_letter` they are put aside for that reason instead of acknowledged.
        """
        unit = Unit(deliveries[0].message.id if deliveries else None)
        yield unit
        end = ACK if dead_letter is None else Settlement(Verb.DEAD_LETTER, dead_letter)
        self.commit(unit.outgoing, deliveries, end)

    def commit(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery] = (),
        settlement: Settlement = ACK,
    ) -> None:
        """Send `messages`, then settle `deliveries`; the one door that everything leaves by."""
        with self._lock:
            queued = [delivery for delivery in deliveries if not delivery.topic]
            for delivery in queued:
                if delivery.settled:
                    raise SettledError(
                        f"Message {delivery.message.id} of {delivery.source!r} was settled before."
                    )
            lost = [delivery for delivery in queued if not self._owned(delivery)]
            if lost:
                for delivery in lost:
                    log.warning(
                        "Message %s from %r is no longer ours; another receiver will handle it",
                        delivery.message.id,
                        delivery.source,
                    )
                for delivery in queued:
                    delivery.settled = True
                    if delivery not in lost:
                        self._settle(delivery, Settlement(Verb.RETRY, counted=False))
                return
            self._carry_out([message.with_id(new_id()) for message in messages], queued, settlement)
            for delivery in queued:
                delivery.settled = True

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        """Send, then settle; a transport that pipelines returns before that is done."""
        if messages:
            self._publish(messages)
        for delivery in deliveries:
            delivery.settled = True
            self._settle(delivery, settlement)


def encoded(message: Outgoing, content: JSON) -> bytes:
    """JSON text of `content`, or MessageError that names the destination of `message`."""
    try:
        return encode(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(
            f"A message to {message.destination!r} cannot be written as JSON: {error}."
        ) from None
