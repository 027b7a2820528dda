"""Station "transport", on a filesystem: queues and topics as directories, without a server.

``<root>/<queue>/`` is a `SpoolQueue`, ``<root>/.topics/<topic>/`` a `SpoolTopic`. A message file
holds ``{"headers": {...}, "message": ...}``, the form of a Zocalo drop file.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TransportError
from zwrap.host.backoff import Backoff
from zwrap.host.paths import default_spool, made_private
from zwrap.message.content import Message, Outgoing
from zwrap.transport.contract import Delivery, Original, Settlement, Transport, Verb
from zwrap.transport.options import BrokerOptions
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.content import lifetime_s, read_message, read_whatever
from zwrap.transport.spool.directory import LARGE_BYTES, MESSAGE_BYTES, RELAYED_BYTES
from zwrap.transport.spool.files import checked_name, make_root, named, topic_only, usable
from zwrap.transport.spool.publishing import Publishing
from zwrap.transport.spool.queue import ASIDE_S, SpoolQueue
from zwrap.transport.spool.subscriptions import Subscription, Subscriptions
from zwrap.transport.spool.topic import SpoolTopic
from zwrap.transport.spool.views import DeadLetters

if TYPE_CHECKING:  # a job needs no inspector
    from zwrap.transport.inspector import Inspector

log = logging.getLogger(__name__)

POLL_FIRST_S, POLL_LAST_S = 0.002, 0.1
"""Shortest and longest poll interval of the queues, in seconds."""

RECOVER_EVERY_S = 5.0
"""Interval at which a reader looks for dead owners, in seconds."""


class SpoolTransport(Transport):
    """Queues and topics below one directory that every process of the site can see.

    The directory is created at the first use, or by `open`.
    """

    gives_alone: ClassVar[bool] = True

    def __init__(
        self,
        root: Path | str,
        *,
        durable: bool = True,
        limit: int = 10_000,
        limit_wait_s: float = 10.0,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        super().__init__()
        self._place = Path(root)
        self._new_queue = functools.partial(SpoolQueue, durable=durable, limit=limit)
        self._publishing = Publishing(self._place, self.queue, self._topic, limit_wait_s)
        self._message_bytes = message_bytes
        self._queues: dict[str, SpoolQueue] = {}
        self._topics: dict[str, SpoolTopic] = {}
        self._subscriptions = Subscriptions(self._lock, self.where)
        self._listening: list[str] = []
        self._broadcasts: list[Delivery] = []
        """Broadcasts that were read and not delivered yet."""
        self._held: dict[Delivery, tuple[SpoolQueue, Claimed]] = {}
        self._poll = Backoff(POLL_FIRST_S, POLL_LAST_S, factor=1.5)
        """Poll intervals, which grow while nothing comes, across calls of `receive`, too."""
        self._closed = threading.Event()

    def open(self) -> Self:
        """Create and check the directory now, as `make_root` does; return the transport."""
        _ = self.root
        return self

    @functools.cached_property
    def root(self) -> Path:
        """Directory of the spool, which is created if it is missing, and checked."""
        make_root(self._place)
        return self._place

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> SpoolTransport:
        """Open the spool that plugin `spool` names, else ZWRAP_SPOOL, else this user's."""
        del options  # a directory has no broker
        settings = configuration.site.spool
        if settings is None:
            return cls(made_private(default_spool())).open()
        return cls(
            settings.path,
            durable=settings.durable,
            limit=settings.out_limit,
            limit_wait_s=settings.out_wait,
        ).open()

    def wait_for_room(self, wait_s: float) -> None:
        """Wait from now on up to `wait_s` seconds, in all, for room in full queues."""
        self._publishing.wait_s = wait_s

    def relay(self) -> None:
        """Read larger messages from now on, to pass them on and not to handle them."""
        with self._lock:
            self._message_bytes = RELAYED_BYTES
            for queue in self._queues.values():
                queue.message_bytes = RELAYED_BYTES

    def queue(self, name: str) -> SpoolQueue:
        """Return the directory of a queue, which is created if it is missing.

        Raises NoRouteError if there can be no such queue.
        """
        with self._lock:
            if name not in self._queues:
                path = self.root / checked_name(name)
                with named(self.root):
                    queue = self._new_queue(path, message_bytes=self._message_bytes)
                    self._queues[name] = queue.open()
            return self._queues[name]

    def _topic(self, name: str) -> SpoolTopic:
        """Return the directory of a topic, which is created if it is missing."""
        if name not in self._topics:
            path = self.root / ".topics" / checked_name(name)
            with named(self.root):
                self._topics[name] = SpoolTopic(path, self._message_bytes).open()
        return self._topics[name]

    def inspector(self) -> Inspector:
        """Return the inspector of this spool."""
        from zwrap.transport.spool.inspector import SpoolInspector

        return SpoolInspector(self, self._lock)

    def subscribe(self, queue: str, prefetch: int = 1, *, exclusive: bool = False) -> None:
        """Begin to receive messages of `queue`, which is created if it is missing."""
        self.read(queue, self.queue(queue), prefetch, exclusive=exclusive)

    def read(self, name: str, queue: SpoolQueue, prefetch: int, *, exclusive: bool = False) -> None:
        """Begin to receive messages of a directory; used by the inspector, too.

        `name`: source of the deliveries.
        """
        with self._lock, self.used():
            self._subscriptions.add(Subscription(name, queue, prefetch, exclusive))

    def unsubscribe(self, queue: str) -> None:
        """Give the unsettled deliveries of `queue` back, which does not count, and receive none."""
        with self._lock, self.used():
            for delivery, (held, claimed) in list(self._held.items()):
                if delivery.source == queue and not isinstance(held, DeadLetters):
                    del self._held[delivery]
                    held.give_back(claimed)
            self._subscriptions.end(queue)  # now others may have it

    def subscribe_topic(self, topic: str) -> None:
        """Begin to receive broadcasts on `topic`, if there can be any, and each sender's status."""
        with self._lock, topic_only(topic):
            self._topic(topic).listen()
            self._listening.append(topic)

    def receive(self, timeout_s: float) -> Delivery | None:
        """Return the next message of any subscription; None after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._closed.is_set():
                    raise TransportError(f"The connection to spool {self.root} is closed.")
                with self.used():
                    delivery = self._next_broadcast() or self._next_message()
            left_s = deadline - time.monotonic()
            if delivery:
                self._poll.reset()
                return delivery
            if left_s <= 0:
                return None
            time.sleep(min(self._poll.next_s(), left_s))

    def used(self) -> usable:
        """Return the context in which the spool is used; the inspector needs it, too."""
        return usable(self._place)

    def _next_broadcast(self) -> Delivery | None:
        """Return the next broadcast of any topic."""
        if not self._broadcasts:
            for topic in self._listening:
                for content in self._topics[topic].hear():
                    with contextlib.suppress(MessageError):
                        message = read_message(content, foreign=False, name="")
                        self._broadcasts.append(
                            Delivery(self, message, topic, delivery_count=1, topic=True)
                        )
        return self._broadcasts.pop(0) if self._broadcasts else None

    def _next_message(self) -> Delivery | None:
        """Return the next message of a subscription with room for another unsettled one."""
        for subscription in self._subscriptions.in_turn():
            queue = subscription.queue
            if len(self._held) >= subscription.prefetch and self._is_full(subscription):
                continue
            import random  # 1 ms of the start of a job, which only sends

            recovered = queue.recover(RECOVER_EVERY_S * random.uniform(0.8, 1.2))
            if recovered:
                log.warning("%s taken back from dead owners of %s", recovered, queue.path)
            delivery = self._claim(subscription)
            if delivery:
                self._subscriptions.had_its_turn(subscription)
                return delivery
        return None

    def _is_full(self, subscription: Subscription) -> bool:
        """Return True if a subscription has as many unsettled messages as it may have."""
        held = sum(queue is subscription.queue for queue, _ in self._held.values())
        return held >= subscription.prefetch

    def _claim(self, subscription: Subscription) -> Delivery | None:
        """Claim the next readable message; others become dead letters."""
        queue, name = subscription.queue, subscription.name
        until = time.monotonic() + ASIDE_S
        while (left_s := until - time.monotonic()) > 0 and (claimed := queue.claim(left_s)):
            if isinstance(queue, DeadLetters):
                message = read_whatever(claimed, name)
                return self.hand_out(name, queue, claimed, message, queue.reason(claimed))
            try:
                message = read_message(
                    claimed.content, claimed.is_foreign, f"{name}/{claimed.base}", self.largest_body
                )
            except MessageError as error:
                queue.unfit(claimed, str(error))
                continue
            except MemoryError:
                # Of a large message it may be the fault, of a small one it cannot be.
                large = len(claimed.content) > LARGE_BYTES
                queue.release(claimed, counted=large, delay_s=1.0)
                raise TransportError(
                    f"There is not enough memory to read message {claimed.name} of {queue.path}."
                ) from None
            queue.was_read(claimed)
            return self.hand_out(name, queue, claimed, message)
        return None

    def hand_out(
        self, name: str, queue: SpoolQueue, claimed: Claimed, message: Message, reason: str = ""
    ) -> Delivery:
        """Return a claimed message as a delivery of queue `name`; used by the inspector, too."""
        delivery = Delivery(
            self,
            message,
            name,
            delivery_count=claimed.delivery_count,
            topic=False,
            reason=reason,
            sent_at=claimed.sent_at,
            size=len(claimed.content),
        )
        self._held[delivery] = (queue, claimed)
        return delivery

    @property
    def where(self) -> str:
        """Name of the spool."""
        return f"spool {self._place}"

    def original(self, delivery: Delivery) -> Original:
        """Return a message with the time until it expires; a dead letter's begins anew."""
        queue, claimed = self._held[delivery]
        expires_s = None
        if isinstance(queue, DeadLetters):
            expires_s = lifetime_s(claimed.content)
        elif claimed.parts.expires_ms:
            expires_s = queue.seconds_until(claimed.parts.expires_ms)
        return Original(delivery.message.body, expires_s=expires_s)

    def close(self) -> None:
        """Give unsettled deliveries back, which counts, and remove this owner's directories."""
        with self._lock:
            self._closed.set()
            for held, claimed in self._held.values():
                with contextlib.suppress(OSError):  # it comes back when this process has ended
                    held.release(claimed)
            self._held.clear()
            for queue in {*self._subscriptions.close(), *self._queues.values()}:
                queue.close()

    def _carry_out(
        self,
        messages: Sequence[Outgoing],
        deliveries: Sequence[Delivery],
        settlement: Settlement,
    ) -> None:
        """Write the messages, then settle the deliveries one by one."""
        with self.used():
            if messages:
                self._publishing.publish(messages, unit=bool(deliveries))
            for delivery in deliveries:
                self._settle(delivery, settlement)
                delivery.settled = True

    def _owned(self, delivery: Delivery) -> bool:
        """Tell whether the delivery's file is still ours."""
        held = self._held.get(delivery)
        return held is not None and held[0].owned(held[1])

    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        """Settle one delivery."""
        queue, claimed = self._held[delivery]
        if settlement.verb is Verb.ACK:
            queue.ack(claimed)
        elif settlement.verb is Verb.RETRY:
            queue.release(claimed, counted=settlement.counted, delay_s=settlement.delay_s)
        else:
            queue.dead_letter(claimed, settlement.reason)
        del self._held[delivery]
