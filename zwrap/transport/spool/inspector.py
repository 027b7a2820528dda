"""Queues and dead letters of a spool, read from its directories."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from zwrap.errors import TransportError
from zwrap.transport.contract import Delivery
from zwrap.transport.failures import NoRouteError
from zwrap.transport.inspector import Inspector, Overdelivered
from zwrap.transport.spool.content import read_whatever
from zwrap.transport.spool.files import checked_name, is_name, named
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.views import DeadLetters

if TYPE_CHECKING:
    from zwrap.transport.spool.transport import SpoolTransport


log = logging.getLogger(__name__)


class SpoolInspector(Inspector, Overdelivered):
    """The inspector of a spool."""

    def __init__(self, transport: SpoolTransport, lock: AbstractContextManager[object]) -> None:
        self._transport = transport
        self._lock = lock
        """Lock of the transport, under which its queues may be used."""

    def queues(self) -> dict[str, int]:
        """Return the number of waiting messages of all queues, by name."""
        return {place.name: SpoolQueue.waiting_in(place) for place in self._places()}

    def waiting(self, queue: str) -> int:
        """Return the number of waiting messages of `queue`, which is created if it is missing."""
        with self._lock:
            return self._transport.queue(queue).waiting()

    def consumers(self, queue: str) -> int:
        """Return the number of live processes that receive messages of `queue`."""
        with self._lock, self._transport.used():
            return self._transport.queue(queue).owners()

    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each queue that has any, by the queue's name."""
        counts = {place.name: DeadLetters.count_in(place) for place in self._places()}
        return {name: count for name, count in sorted(counts.items()) if count}

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive the dead letters of `queue`."""
        place = self._transport.root / checked_name(queue)
        with named(self._transport.root):
            letters = DeadLetters(place, limit=0).open()
        self._transport.read(queue, letters, prefetch)

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Receive each waiting message whose file name counts more than `limit` deliveries."""
        for place in self._places():
            try:
                yield from self._overdelivered(place.name, limit)
            except (
                NoRouteError,
                TransportError,
            ) as error:  # what is wrong with one queue is not wrong with others
                log.warning("Queue %s is left out: %s", place.name, error)

    def _overdelivered(self, name: str, limit: int) -> Iterator[Delivery]:
        """Receive the messages of one queue that were delivered more than `limit` times."""
        queue = self._transport.queue(name)
        with self._lock, self._transport.used():
            queue.recover()
        while True:
            with self._lock, self._transport.used():
                claimed = queue.claim_where(lambda name: name.delivery_count > limit)
                if claimed is None:
                    break
                message = read_whatever(claimed, name)
                queue.was_read(claimed)
                delivery = self._transport.hand_out(name, queue, claimed, message)
            yield delivery

    def _places(self) -> list[Path]:
        """Return the directories of all queues."""
        root = self._transport.root
        with self._transport.used():
            names = sorted(filter(is_name, os.listdir(root)))
        return [root / name for name in names if os.path.isdir(f"{root}/{name}/incoming")]
