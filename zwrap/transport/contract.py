"""Station "transport": long polling, thread-safe; four implementations of one contract.

The contract: every delivery from a queue is settled exactly once; a unit sends its messages
first and settles its deliveries then; the promise is at-least-once, and a repeat carries the
same message ids. `tests/contract/test_transport.py` is the contract in executable form.

What a person or a monitor asks of a transport is the other half: `zwrap.transport.inspector`.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import SettledError
from zwrap.message import Message, Outgoing, child_id, encode, new_id
from zwrap.renamed import Former, Moved, tell
from zwrap.transport.failures import EncodingError
from zwrap.transport.options import BrokerOptions

if TYPE_CHECKING:  # a job needs no inspector
    from zwrap.transport.inspector import Inspector

log = logging.getLogger(__name__)


class Verb(enum.Enum):
    """The three ways to settle a delivery."""

    ACK = "ack"
    RETRY = "retry"
    DEAD_LETTER = "dead letter"


class Settlement(msgspec.Struct, frozen=True):
    """The end of a delivery."""

    verb: Verb
    reason: str = ""
    """Reason of a dead letter."""
    delay_s: float = 0.0
    """Seconds until a message that is given back may be delivered again."""
    counted: bool = True
    """False if this delivery of a message that is given back must not count."""


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
        """Name of the queue or topic that the message came from."""
        self.delivery_count = delivery_count
        """Number of deliveries of this message so far, this one included."""
        self.topic = topic
        """True for a broadcast, which needs no settlement."""
        self.reason = reason
        """Reason of a dead letter."""
        self.sent_at = sent_at
        """Time of sending, in seconds since the epoch; None where the transport does not know."""
        self.settled = topic
        self._transport = transport

    attempt = Former("delivery_count")

    def ack(self) -> None:
        """Acknowledge the message: it was handled and is forgotten."""
        self._transport.commit([], [self], ACK)

    def retry(self, delay_s: float = 0.0, *, counted: bool = True) -> None:
        """Give the message back; it is delivered again after `delay_s` seconds.

        With `counted` false this delivery does not count: the message was not at fault.
        """
        self._transport.commit([], [self], Settlement(Verb.RETRY, delay_s=delay_s, counted=counted))

    def dead_letter(self, reason: str) -> None:
        """Put the message among the dead letters, with the reason, for a person to look at."""
        self._transport.commit([], [self], Settlement(Verb.DEAD_LETTER, reason))


class Unit:
    """Messages that are sent when the unit ends without an exception."""

    def __init__(self, parent: str | None) -> None:
        self.outgoing: list[Outgoing] = []
        self._parent = parent or new_id()

    def send(self, *messages: Outgoing) -> None:
        """Add messages; one without an id gets an id derived from the delivery and position."""
        for message in messages:
            identity = child_id(self._parent, len(self.outgoing))
            self.outgoing.append(message.with_id(identity))


class Transport(ABC):
    """A connection to queues and topics. All methods may be called from any thread.

    Methods raise TransportError if the other side cannot be reached at present, MessageError (see
    `zwrap.transport.failures`) if a message can never be sent.
    """

    batch_wait_s: ClassVar[float] = 0.0
    """Longest pause, in seconds, between messages that already wait and are handed out."""

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
        """Take what is broadcast on `topic` from now on."""

    @abstractmethod
    def receive(self, timeout_s: float) -> Delivery | None:
        """Return the next message of any subscription; None after `timeout_s` seconds."""

    @abstractmethod
    def inspector(self) -> Inspector:
        """Return the other half of the contract, on this connection."""

    queues = Moved("inspector")
    waiting = Moved("inspector")
    consumers = Moved("inspector")
    dead_letters = Moved("inspector")
    subscribe_dead_letters = Moved("inspector")
    audit = Moved("inspector")

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Take what `Overdelivered.overdelivered`, the new home of this, takes; or nothing."""
        tell("zwrap.transport.Transport", "overdelivered", "inspector().overdelivered")
        offered = getattr(self.inspector(), "overdelivered", None)
        yield from offered(limit) if offered else ()

    @abstractmethod
    def close(self) -> None:
        """Give unsettled deliveries back and end the connection; closing again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        """Encode all `messages`, send them, then settle `deliveries`.

        Messages without deliveries are confirmed when this returns. With deliveries a transport
        that pipelines returns before, and turns the settlement into a retry or a dead letter if a
        message is refused.
        """

    @abstractmethod
    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery is still ours: a lease may have lapsed, a connection died."""

    def flush(self, timeout_s: float = 30.0) -> None:  # noqa: B027  (nothing to do is a fine default)
        """Wait until everything handed over so far is confirmed.

        Raises TransportError if that takes longer than `timeout_s` seconds.
        """

    def send(
        self,
        queue: str,
        body: object,
        headers: Mapping[str, object] | None = None,
        *,
        delay_s: float = 0.0,
        expires_s: float | None = None,
    ) -> None:
        """Send one message; return when the other side has taken responsibility for it.

        Receivers get the message after `delay_s` seconds at the earliest, and `expires_s` seconds
        from now at the latest. Raises NoRouteError where the transport knows that there is no such
        queue.
        """
        self.commit(
            [Outgoing(queue, body, dict(headers or {}), delay_s=delay_s, expires_s=expires_s)]
        )

    def broadcast(
        self,
        topic: str,
        body: object,
        headers: Mapping[str, object] | None = None,
        *,
        expires_s: float | None = None,
        replaces: str | None = None,
    ) -> None:
        """Send one message to each present subscriber of `topic`; having none is no error.

        Of the messages with the same `replaces` only the latest one matters.
        """
        self.commit(
            [
                Outgoing(
                    topic,
                    body,
                    dict(headers or {}),
                    topic=True,
                    expires_s=expires_s,
                    replaces=replaces,
                )
            ]
        )

    @contextlib.contextmanager
    def unit(self, *deliveries: Delivery, dead_letter: str | None = None) -> Iterator[Unit]:
        """Send messages and settle `deliveries` as one: all of it, or nothing.

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
        """Send `messages`, then settle `deliveries`; the one door that everything leaves by.

        If a delivery is no longer ours nothing is sent, and the others are given back. Raises
        SettledError if a delivery was settled before.
        """
        with self._lock:
            queued = [delivery for delivery in deliveries if not delivery.topic]
            for delivery in queued:
                if delivery.settled:
                    raise SettledError(
                        f"Message {delivery.message.id} of {delivery.source!r} was settled before."
                    )
            lost = [delivery for delivery in queued if not self._owned(delivery)]
            if lost:
                self._give_back(queued, lost)
                return
            self._carry_out([message.with_id(new_id()) for message in messages], queued, settlement)
            for delivery in queued:
                delivery.settled = True

    def _give_back(self, deliveries: Sequence[Delivery], lost: Sequence[Delivery]) -> None:
        """End a unit of which some deliveries are lost: the others are delivered again."""
        for delivery in deliveries:
            delivery.settled = True
            if delivery in lost:
                log.warning(
                    "Message %s from %r is no longer ours; another receiver will handle it",
                    delivery.message.id,
                    delivery.source,
                )
            else:
                self._carry_out([], [delivery], Settlement(Verb.RETRY, counted=False))


def encoded(message: Outgoing, content: object) -> bytes:
    """Return the JSON text of `content`; EncodingError names the destination of `message`."""
    try:
        return encode(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodingError(
            f"A message to {message.destination!r} cannot be written as JSON: {error}."
        ) from None
