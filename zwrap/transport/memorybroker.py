"""Queues, topics and dead letters in memory, which connections of one process share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from zwrap.host.clock import Clock, elapsed
from zwrap.message.content import Message


class Waiting(NamedTuple):
    """A message that waits in a queue; times are those of the broker's clock."""

    order: int
    not_before: float
    expires: float
    delivery_count: int
    message: Message
    lifetime_s: float | None = None
    properties: Mapping[str, object] = {}


class DeadLetter(NamedTuple):
    """A message that was put aside."""

    message: Message
    reason: str
    lifetime_s: float | None = None
    properties: Mapping[str, object] = {}


class Connected(Protocol):
    """The part of a connection that its broker uses."""

    topics: dict[str, list[tuple[float, Message]]]
    """Topic to the broadcasts that were not received yet, and when they expire."""
    prefetch: dict[str, int]
    """Subscribed queue to its largest number of unsettled messages."""


class MemoryBroker:
    """Queues, topics and dead letters that the connections of one process share.

    Delays and expiry go by `clock`; how long `receive` waits does not.
    """

    def __init__(self, clock: Clock = elapsed) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        self.queues: dict[str, list[Waiting]] = {}
        self.dead_letters: dict[str, list[DeadLetter]] = {}
        self.listeners: list[Connected] = []
        self.readers: dict[str, Connected] = {}
        """Queue to the connection that has it alone."""
        self.largest_bytes: int | None = None
        """Size above which the body of a message is refused, in bytes; None: no limit."""
        self._order = 0

    def put(
        self,
        queue: str,
        message: Message,
        *,
        delivery_count: int,
        delay_s: float,
        expires_s: float | None,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        """Add a message to a queue; the caller holds `changed`."""
        now = self.clock()
        self._order += 1
        until = now + expires_s if expires_s is not None else float("inf")
        entry = Waiting(
            self._order, now + delay_s, until, delivery_count, message, expires_s, properties or {}
        )
        self.queues.setdefault(queue, []).append(entry)
        self.changed.notify_all()

    def take(self, queue: str) -> Waiting | None:
        """Remove and return the first message that is due; the caller holds `changed`."""
        now = self.clock()
        waiting = self.queues.get(queue, [])
        waiting[:] = [entry for entry in waiting if entry.expires > now]
        due = min((entry for entry in waiting if entry.not_before <= now), default=None)
        if due:
            waiting.remove(due)
        return due

    def put_back(self, queue: str, entry: Waiting) -> None:
        """Give an entry back to its place in a queue; the caller holds `changed`."""
        self.queues.setdefault(queue, []).append(entry)  # `take` goes by the order of the entries
        self.changed.notify_all()

    def take_overdelivered(self, queue: str, limit: int) -> Waiting | None:
        """Remove and return a message delivered more than `limit` times; `changed` is held."""
        waiting = self.queues[queue]
        found = next((entry for entry in waiting if entry.delivery_count > limit), None)
        if found:
            waiting.remove(found)
        return found
