"""When each wrapper was last heard of, and what it said: heartbeats, as the Watcher hears them."""

from __future__ import annotations

import time
from collections.abc import Callable

from zwrap.message import JSON

DEAF_S = 20.0
"""Services, the listener too, tell their status far more often: who hears nothing of anybody for so
long is deaf, and has to wait before it calls others silent."""

KEPT_S = 86400.0
"""So long it is remembered when a wrapper was last heard."""


class Heartbeats:
    """What was heard on the topic of heartbeats."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._peaks: dict[str, float] = {}
        self._since = self._last = self._pruned = clock()
        """Nothing was missed since then; anybody was last heard; what is old was forgotten."""

    def hear(self, status: JSON) -> None:
        """Take a status message of anybody."""
        now = self._clock()
        if now - self._last > DEAF_S:
            self._since = now
        if now - self._pruned > KEPT_S:  # they are many after months
            self._heard = {token: at for token, at in self._heard.items() if now - at < KEPT_S}
            self._peaks = {
                token: peak for token, peak in self._peaks.items() if token in self._heard
            }
            self._pruned = now
        self._last = now
        token = status.get("token") if isinstance(status, dict) else None
        if isinstance(status, dict) and token:
            self._heard[str(token)] = now
            memory = status.get("memory_mib")
            if isinstance(memory, (int, float)):
                self._peaks[str(token)] = max(memory, self._peaks.get(str(token), 0.0))

    def silent_s(self, token: str) -> float | None:
        """So long nothing was heard of a wrapper that was heard before; None: nobody can say."""
        heard, now = self._heard.get(token), self._clock()
        if heard is None or now - self._last > DEAF_S:
            return None
        return now - max(heard, self._since)

    def peak_memory_mib(self, token: str) -> float | None:
        """The most resident memory that its program was heard to have."""
        return self._peaks.get(token)

    def forget(self, token: str) -> None:
        """It has ended."""
        self._heard.pop(token, None)
        self._peaks.pop(token, None)
