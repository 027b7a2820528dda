"""Station "transport": the contract of queues and topics, which has four implementations.

Every delivery from a queue is settled exactly once. A unit sends its messages first and then
settles its deliveries. Messages are delivered at least once, and a repeat carries the same message
ids. ``tests/contract/test_transport.py`` is the contract in executable form, its second half is
`zwrap.transport.inspector`. "The other side" is a broker, a directory, or a part of this process.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, SettledError
from zwrap.message.content import Outgoing, trace_of
from zwrap.message.identity import new_id
from zwrap.plugins.former import Moved, tell
from zwrap.transport.delivery import (
    ACK as ACK,
    Delivery as Delivery,
    Original as Original,
    Settlement as Settlement,
    Verb as Verb,
)
from zwrap.transport.options import BrokerOptions
from zwrap.transport.sending import send_by_place
from zwrap.transport.unit import Unit as Unit

if TYPE_CHECKING:  # a job needs no inspector
    from zwrap.transport.inspector import Inspector
    from zwrap.transport.signing import Signer

log = logging.getLogger(__name__)


class Transport(ABC):
    """A connection to queues and topics. All methods may be called from any thread.

    Methods raise TransportError if the other side cannot be reached at present, MessageError if a
    message can never be sent, and TemporaryError if messages to its queue or topic cannot be sent
    at present (see `zwrap.transport.failures`).
    """

    batch_wait_s: ClassVar[float] = 0.0
    """Longest pause between deliveries of messages that already wait, in seconds."""

    gives_alone: ClassVar[bool] = False
    """True if `subscribe` has `exclusive`, and `unsubscribe` works, which a plug-in need not."""

    largest_body: int | None = None
    """Size above which messages are refused undecoded, in bytes; None, as for relays: no limit."""

    signer: Signer | None = None
    """Signer of what units send; None, as in jobs and commands: nothing is signed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @classmethod
    @abstractmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> Transport:
        """Open the connection that a site configuration describes.

        Args:
            configuration: The site configuration.
            options: Settings of a command line, which take precedence over the configuration.

        Raises:
            ConfigurationError: A setting is wrong.
            TransportError: The other side cannot be reached at present.
        """

    @abstractmethod
    def subscribe(self, queue: str, prefetch: int = 1, *, exclusive: bool = False) -> None:
        """Begin to receive messages of a queue.

        An exclusive reader gets all messages, in the order of the queue. What one held that ended,
        unsettled, comes to the next one first and in the old order, with a delivery count above 1:
        it keeps its place. Where the other side makes exclusive readers wait silently (ActiveMQ),
        nothing is raised, and messages come when the one before has ended.

        Args:
            queue: Name of the queue.
            prefetch: Largest number of messages that are delivered and not settled. After further
                subscriptions to the same queue the sum of their numbers may be the limit.
            exclusive: True if no other exclusive reader may have the queue meanwhile. A further
                exclusive subscription of the same connection changes nothing.

        Raises:
            ReadElsewhereError: Another connection has the queue; subscribe again later.
        """

    def unsubscribe(self, queue: str) -> None:
        """Give the unsettled deliveries of a queue back to their places, and receive no more of it.

        What is submitted already is settled first. To settle one of those that were given back does
        nothing. Where the other side marks messages that it delivered before, they come again with
        a delivery count above 1, which one such subscription after the other does not raise; but a
        quorum queue of RabbitMQ counts each.

        Raises:
            ConfigurationError: This transport, of somebody else, cannot do that.
            TransportError: The other side did not answer.
        """
        raise ConfigurationError(
            f"{self.where} cannot stop to read queue {queue!r}: the transport "
            f"{type(self).__name__} has no method 'unsubscribe'."
        )

    @abstractmethod
    def subscribe_topic(self, topic: str) -> None:
        """Begin to receive messages that are broadcast on `topic` from now on."""

    @abstractmethod
    def receive(self, timeout_s: float) -> Delivery | None:
        """Return the next message of any subscription.

        Args:
            timeout_s: Longest wait, in seconds; None is returned after it.

        Raises:
            ReadElsewhereError: Another connection has taken over a queue that this one had alone,
                which is over with this; subscribe again to wait for it.
        """

    @abstractmethod
    def inspector(self) -> Inspector:
        """Return the inspector of the queues and dead letters behind this connection."""

    queues = Moved("inspector")
    waiting = Moved("inspector")
    consumers = Moved("inspector")
    dead_letters = Moved("inspector")
    subscribe_dead_letters = Moved("inspector")
    audit = Moved("inspector")

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Yield the deliveries of the inspector's `overdelivered`, if it has that method."""
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

        Messages without deliveries are confirmed when this returns. With deliveries a pipelined
        transport returns earlier, and turns the settlement into a retry or a dead letter if a
        message is refused.
        """

    @abstractmethod
    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery is still ours; a lease may have lapsed, a connection died."""

    @property
    def where(self) -> str:
        """Name of the other side, for people."""
        return type(self).__name__

    @property
    def prefix(self) -> str:
        """Beginning of all names of queues and topics on the other side; a site leaves it out."""
        return ""

    def original(self, delivery: Delivery) -> Original:
        """Return a message that is not settled yet as it came, so that it can be passed on."""
        return Original(delivery.message.body)

    def flush(self, timeout_s: float = 30.0) -> None:  # noqa: B027  (nothing to do is a fine default)
        """Wait until all messages and settlements so far are confirmed.

        Args:
            timeout_s: Longest wait, in seconds.

        Raises:
            TransportError: Not everything was confirmed in that time.
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

        Args:
            queue: Name of the queue.
            body: JSON value.
            headers: Headers of the message, JSON values by name.
            delay_s: Time until the message may be received, in seconds.
            expires_s: Time after which the message is no longer delivered, in seconds; None: never.

        Raises:
            NoRouteError: There is no such queue, as far as the transport can know.
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
        """Send one message to each present subscriber of a topic; it is no error if there is none.

        Args:
            topic: Name of the topic.
            body: JSON value.
            headers: Headers of the message, JSON values by name.
            expires_s: Time after which the message is no longer delivered, in seconds; None: never.
            replaces: Identity of the sender, of whose messages only the latest one matters.
        """
        message = Outgoing(
            topic, body, dict(headers or {}), topic=True, expires_s=expires_s, replaces=replaces
        )
        self.commit([message])

    def wait_for_room(self, wait_s: float) -> None:  # noqa: B027  (most never wait)
        """Wait from now on up to `wait_s` seconds, in all, for room in full queues; services: 0."""

    def relay(self) -> None:  # noqa: B027  (most take any message)
        """Hand out from now on what services do not take, because here it is not handled.

        That are messages that are too large for them, and those that cannot be decoded, which have
        their text as the body, and the header `zwrap-undecodable`.
        """

    def send_each(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """Send messages that do not depend on each other, those to one queue in order.

        Returns why each was not sent; None: the other side has taken responsibility for it.
        """
        return send_by_place(self, messages)

    @contextlib.contextmanager
    def unit(self, *deliveries: Delivery, dead_letter: str | None = None) -> Iterator[Unit]:
        """Send messages and settle `deliveries` as one unit: all of it, or nothing.

        An exception inside the context sends nothing and leaves the deliveries unsettled. With
        `dead_letter`, a reason, the deliveries become dead letters instead of being acknowledged.
        """
        first = deliveries[0] if deliveries else None
        sign = self.signer.after(first.message, first.source) if first and self.signer else None
        trace = trace_of(first.message.headers) if first else None
        unit = Unit(first.message.id if first else None, sign, trace)
        yield unit
        end = ACK if dead_letter is None else Settlement(Verb.DEAD_LETTER, dead_letter)
        self.commit(unit.outgoing, deliveries, end)

    def commit(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery] = (),
        settlement: Settlement = ACK,
    ) -> None:
        """Send `messages`, then settle `deliveries`; all methods that send or settle use this one.

        If a delivery is no longer ours nothing is sent, and the others are given back.

        Raises:
            SettledError: A delivery was settled before.
            MessageError: A message can never be sent.
            TransportError: The other side cannot be reached at present.
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
        """End a unit that has lost some of its deliveries; the others are delivered again."""
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
