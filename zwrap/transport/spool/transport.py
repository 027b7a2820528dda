"""Station "transport", on a filesystem: queues and topics as directories, no server at all.

``<root>/<queue>/`` is a `SpoolQueue`, ``<root>/.topics/<topic>/`` a `SpoolTopic`. A message
file holds ``{"headers": {...}, "message": ...}``, the form of a Zocalo drop file.
"""

from __future__ import annotations

import contextlib
import logging
import random
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.host.paths import default_spool
from zwrap.message import Message, Outgoing
from zwrap.transport.contract import Delivery, Settlement, Transport, Verb, encoded
from zwrap.transport.options import BrokerOptions
from zwrap.transport.spool.content import read_message, read_whatever
from zwrap.transport.spool.files import make_spool_directory
from zwrap.transport.spool.owner import RENEW_S
from zwrap.transport.spool.queue import Claimed, SpoolQueue
from zwrap.transport.spool.topic import SpoolTopic
from zwrap.transport.spool.views import DeadLetters

log = logging.getLogger(__name__)

POLL_FIRST_S = 0.002
POLL_LAST_S = 0.1
RECOVER_EVERY_S = 5.0


class SpoolTransport(Transport):
    """Queues and topics below one directory that every process of the site can see."""

    def __init__(
        self,
        root: Path | str,
        *,
        durable: bool = True,
        limit: int = 10_000,
        limit_wait_s: float = 10.0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self._options: dict[str, Any] = {
            "durable": durable,
            "limit": limit,
            "limit_wait_s": limit_wait_s,
        }
        self._queues: dict[str, SpoolQueue] = {}
        self._topics: dict[str, SpoolTopic] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._listening: list[str] = []
        self._heard: list[Delivery] = []
        self._held: dict[Delivery, tuple[SpoolQueue, Claimed]] = {}
        self._pause_s = POLL_FIRST_S
        """Until the next look; grows while nothing comes, over calls of `receive`, too."""
        self._closed = threading.Event()
        self._renewer: threading.Thread | None = None
        make_spool_directory(self.root)
        mode = self.root.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"The spool {self.root} may be written by everybody, so anybody could start jobs. "
                f"Take that right away: chmod o-w {self.root}"
            )

    @classmethod
    def from_configuration(
        cls, configuration: Configuration, options: BrokerOptions | None = None
    ) -> SpoolTransport:
        """Open the spool that plugin `spool` names, else ZWRAP_SPOOL, else the one of this user."""
        del options  # a directory is no broker
        settings = configuration.site.spool
        if settings is None:
            return cls(default_spool())
        return cls(
            settings.path,
            durable=settings.durable,
            limit=settings.out_limit,
            limit_wait_s=settings.out_wait,
        )

    def queue(self, name: str) -> SpoolQueue:
        """The directory behind a queue, for those who look after it."""
        with self._lock:
            if name not in self._queues:
                self._queues[name] = SpoolQueue(self.root / checked_name(name), **self._options)
            return self._queues[name]

    def _topic(self, name: str) -> SpoolTopic:
        if name not in self._topics:
            self._topics[name] = SpoolTopic(self.root / ".topics" / checked_name(name))
        return self._topics[name]

    def subscribe(self, queue: str, prefetch: int = 1) -> None:
        self._subscribe(_Subscription(queue, self.queue(queue), prefetch))

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        place = self.root / checked_name(queue)
        self._subscribe(_Subscription(queue, DeadLetters(place, limit=0), prefetch, dead=True))

    def _subscribe(self, subscription: _Subscription) -> None:
        with self._lock:
            self._subscriptions[f"{subscription.name}/{subscription.dead}"] = subscription
            if self._renewer is None:
                self._renewer = threading.Thread(
                    target=self._renew_leases, name="spool leases", daemon=True
                )
                self._renewer.start()

    def _renew_leases(self) -> None:
        while not self._closed.wait(RENEW_S):
            with self._lock:
                for subscription in self._subscriptions.values():
                    with contextlib.suppress(OSError, TransportError):
                        subscription.queue.keep_lease()

    def subscribe_topic(self, topic: str) -> None:
        with self._lock:
            self._topic(topic).listen()
            self._listening.append(topic)

    def receive(self, timeout_s: float) -> Delivery | None:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._closed.is_set():
                    raise TransportError(f"The connection to spool {self.root} is closed.")
                delivery = self._next_broadcast() or self._next_message()
            left_s = deadline - time.monotonic()
            if delivery:
                self._pause_s = POLL_FIRST_S
                return delivery
            if left_s <= 0:
                return None
            time.sleep(min(self._pause_s, left_s))
            self._pause_s = min(self._pause_s * 1.5, POLL_LAST_S)

    def _next_broadcast(self) -> Delivery | None:
        if not self._heard:
            for topic in self._listening:
                for content in self._topics[topic].hear():
                    with contextlib.suppress(MessageError):
                        message = read_message(content, foreign=False, name="")
                        self._heard.append(
                            Delivery(self, message, topic, delivery_count=1, topic=True)
                        )
        return self._heard.pop(0) if self._heard else None

    def _next_message(self) -> Delivery | None:
        for key, subscription in self._subscriptions.items():
            queue = subscription.queue
            if len(self._held) >= subscription.prefetch and self._is_full(subscription):
                continue
            recovered = queue.recover(RECOVER_EVERY_S * random.uniform(0.8, 1.2))
            if recovered:
                log.warning("%s taken back from dead owners of %s", recovered, queue.path)
            delivery = self._claim(subscription)
            if delivery:  # the others come first next time
                self._subscriptions[key] = self._subscriptions.pop(key)
                return delivery
        return None

    def _is_full(self, subscription: _Subscription) -> bool:
        held = sum(queue is subscription.queue for queue, _ in self._held.values())
        return held >= subscription.prefetch

    def _claim(self, subscription: _Subscription) -> Delivery | None:
        queue = subscription.queue
        while claimed := queue.claim():
            if isinstance(queue, DeadLetters):
                return self._dead_letter(subscription.name, queue, claimed)
            try:
                message = read_message(
                    claimed.content, claimed.is_foreign, f"{subscription.name}/{claimed.base}"
                )
            except MessageError as error:
                log.error("Message %s of %s: %s", claimed.name, queue.path, error)
                queue.dead_letter(claimed, str(error))
                continue
            return self._handed_out(subscription.name, queue, claimed, message)
        return None

    def _handed_out(
        self, name: str, queue: SpoolQueue, claimed: Claimed, message: Message, reason: str = ""
    ) -> Delivery:
        delivery = Delivery(
            self,
            message,
            name,
            delivery_count=claimed.delivery_count,
            topic=False,
            reason=reason,
            sent_at=claimed.sent_at,
        )
        self._held[delivery] = (queue, claimed)
        return delivery

    def _dead_letter(self, name: str, queue: DeadLetters, claimed: Claimed) -> Delivery:
        message = read_whatever(claimed, name)
        return self._handed_out(name, queue, claimed, message, queue.reason(claimed))

    def queues(self) -> dict[str, int]:
        return {place.name: self.queue(place.name).waiting() for place in self._places()}

    def dead_letters(self) -> dict[str, int]:
        counts = {
            place.name: sum(1 for _ in SpoolQueue.dead_letters_in(place))
            for place in self._places()
        }
        return {name: count for name, count in sorted(counts.items()) if count}

    def _places(self) -> list[Path]:
        """Directories of all queues."""
        places = [place for place in self.root.iterdir() if not place.name.startswith(".")]
        return sorted(place for place in places if (place / "incoming").is_dir())

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        for place in self._places():
            queue = self.queue(place.name)
            queue.recover()
            while True:
                with self._lock:
                    claimed = queue.claim_where(lambda name: name.delivery_count > limit)
                    if claimed is None:
                        break
                    message = read_whatever(claimed, place.name)
                    delivery = self._handed_out(place.name, queue, claimed, message)
                yield delivery

    def consumers(self, queue: str) -> int:
        with self._lock:
            return self.queue(queue).owners()

    def waiting(self, queue: str) -> int:
        with self._lock:
            return self.queue(queue).waiting()

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            for held, claimed in self._held.values():
                held.release(claimed)
            self._held.clear()
            queues = [subscription.queue for subscription in self._subscriptions.values()]
            for queue in {*queues, *self._queues.values()}:
                queue.close()

    def _publish(self, messages: Sequence[Outgoing]) -> None:
        contents = [
            encoded(message, {"headers": message.headers, "message": message.message})
            for message in messages
        ]
        queues: dict[tuple[str, float, float], list[bytes]] = {}
        for message, content in zip(messages, contents, strict=True):
            if message.topic:
                self._topic(message.destination).publish(
                    content, message.expires_s, message.replaces
                )
            else:
                key = (message.destination, message.delay_s, message.expires_s or 0.0)
                queues.setdefault(key, []).append(content)
        for (name, delay_s, expires_s), batch in queues.items():
            self.queue(name).put(batch, delay_s=delay_s, expires_s=expires_s)

    def _owned(self, delivery: Delivery) -> bool:
        held = self._held.get(delivery)
        return held is not None and held[0].owned(held[1])

    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        queue, claimed = self._held.pop(delivery)
        if settlement.verb is Verb.ACK:
            queue.ack(claimed)
        elif settlement.verb is Verb.RETRY:
            queue.release(claimed, counted=settlement.counted, delay_s=settlement.delay_s)
        else:
            queue.dead_letter(claimed, settlement.reason)


class _Subscription(msgspec.Struct):
    """A queue, or its dead letters, that messages are taken from."""

    name: str
    queue: SpoolQueue
    prefetch: int
    dead: bool = False


def checked_name(name: str) -> str:
    """A queue or topic name that is safe as a directory name."""
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(name) > 200:
        raise MessageError(
            f"{name!r} cannot be a queue or topic: a name of 1 to 200 characters is expected, "
            "without '/' and not beginning with '.'."
        )
    return name
