"""Queues and dead letters of a spool, read from its directories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from zwrap.transport.contract import Delivery
from zwrap.transport.inspector import Inspector, Overdelivered
from zwrap.transport.spool.content import read_whatever
from zwrap.transport.spool.files import checked_name
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.views import DeadLetters

if TYPE_CHECKING:
    from zwrap.transport.spool.transport import SpoolTransport


class SpoolInspector(Inspector, Overdelivered):
    """The inspector of a spool."""

    def __init__(self, transport: SpoolTransport, lock: AbstractContextManager[object]) -> None:
        self._transport = transport
        self._lock = lock
        """Lock of the transport, under which its queues may be used."""

    def queues(self) -> dict[str, int]:
        """Return the number of waiting messages of all queues, by name."""
        with self._lock:
            return {
                place.name: self._transport.queue(place.name).waiting() for place in self._places()
            }

    def waiting(self, queue: str) -> int:
        """Return the number of waiting messages of `queue`, which is created if it is missing."""
        with self._lock:
            return self._transport.queue(queue).waiting()

    def consumers(self, queue: str) -> int:
        """Return the number of live processes that receive messages of `queue`."""
        with self._lock:
            return self._transport.queue(queue).owners()

    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each queue that has any, by the queue's name."""
        counts = {
            place.name: sum(1 for _ in SpoolQueue.dead_letters_in(place))
            for place in self._places()
        }
        return {name: count for name, count in sorted(counts.items()) if count}

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive the dead letters of `queue`."""
        place = self._transport.root / checked_name(queue)
        self._transport.read(queue, DeadLetters(place, limit=0), prefetch)

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Receive each waiting message whose file name counts more than `limit` deliveries."""
        for place in self._places():
            queue = self._transport.queue(place.name)
            queue.recover()
            while True:
                with self._lock:
                    claimed = queue.claim_where(lambda name: name.delivery_count > limit)
                    if claimed is None:
                        break
                    message = read_whatever(claimed, place.name)
                    delivery = self._transport.hand_out(place.name, queue, claimed, message)
                yield delivery

    def _places(self) -> list[Path]:
        """Return the directories of all queues."""
        places = [
            place for place in self._transport.root.iterdir() if not place.name.startswith(".")
        ]
        return sorted(place for place in places if (place / "incoming").is_dir())
