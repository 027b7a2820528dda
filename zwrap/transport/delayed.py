"""Messages that one connection has sent with a delay, for counts of what waits."""

from __future__ import annotations

import heapq
import threading
import time


class Delayed:
    """The messages of one connection that are not due; those that are due are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: list[tuple[float, str]] = []
        """Due time, by the monotonic clock, and queue of each message, as a heap."""

    def add(self, queue: str, delay_s: float) -> None:
        """Note a message to `queue` that is due in `delay_s` seconds."""
        with self._lock:
            self._forget()
            heapq.heappush(self._due, (time.monotonic() + delay_s, queue))

    def count(self, queue: str) -> int:
        """Return the number of messages to `queue` that are not due."""
        with self._lock:
            self._forget()
            return sum(name == queue for _, name in self._due)

    def _forget(self) -> None:
        """Forget what is due."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)
