"""The subscriptions of one connection to a spool, whose leases a thread renews."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec

from zwrap.errors import TransportError
from zwrap.transport.failures import ReadElsewhereError
from zwrap.transport.spool.owner import RENEW_S
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.views import DeadLetters


class Subscription(msgspec.Struct):
    """A subscription to a queue, or to its dead letters."""

    name: str
    queue: SpoolQueue
    prefetch: int
    exclusive: bool = False


class Subscriptions:
    """The subscriptions, in the order in which they have their turn; users hold `lock`."""

    def __init__(self, lock: AbstractContextManager[object], where: str) -> None:
        self._lock = lock
        self._where = where
        self._all: dict[tuple[str, bool], Subscription] = {}
        self._closed = threading.Event()
        self._renewer: threading.Thread | None = None

    def add(self, new: Subscription) -> None:
        """Add a subscription, or give the one that is there the prefetch of the new one.

        Raises ReadElsewhereError if it is to be exclusive, and another owner has the queue.
        """
        if new.exclusive:
            if not new.queue.alone.take():
                raise ReadElsewhereError(new.name, self._where)
            new.queue.recover()  # what the reader before held comes first
        key = new.name, isinstance(new.queue, DeadLetters)
        there = self._all.setdefault(key, new)
        there.prefetch = new.prefetch
        there.exclusive |= new.exclusive
        if self._renewer is None:
            self._renewer = threading.Thread(target=self._renew, name="spool leases", daemon=True)
            self._renewer.start()

    def in_turn(self) -> Iterator[Subscription]:
        """Yield the subscriptions, the one first that had no delivery for the longest time.

        Raises ReadElsewhereError once if another owner has taken an exclusive one, which is over.
        """
        for subscription in list(self._all.values()):
            if subscription.exclusive and not subscription.queue.alone.holds():
                self.end(subscription.name)
                raise ReadElsewhereError(subscription.name, self._where)
            yield subscription

    def had_its_turn(self, subscription: Subscription) -> None:
        """Let other subscriptions come first the next time."""
        key = subscription.name, isinstance(subscription.queue, DeadLetters)
        self._all[key] = self._all.pop(key)

    def end(self, name: str) -> SpoolQueue | None:
        """End the subscription to a queue, which others may read now; return the queue, if any."""
        ended = self._all.pop((name, False), None)
        if ended is None:
            return None
        ended.queue.alone.leave()
        return ended.queue

    def close(self) -> list[SpoolQueue]:
        """End the thread; return all queues."""
        self._closed.set()
        return [subscription.queue for subscription in self._all.values()]

    def _renew(self) -> None:
        """Renew the leases of all subscriptions until the connection is closed."""
        while not self._closed.wait(RENEW_S):
            with self._lock:
                for subscription in self._all.values():
                    with contextlib.suppress(OSError, TransportError):
                        subscription.queue.keep_lease()
