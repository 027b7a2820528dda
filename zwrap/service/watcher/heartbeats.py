"""Heartbeats as the Watcher hears them: when each wrapper was last heard, and its memory."""

from __future__ import annotations

from zwrap.host.clock import Clock, elapsed

DEAF_S = 20.0
"""Silence of everybody after which the listener itself counts as deaf, in seconds. Services, the
listener included, tell their status far more often; a deaf one calls nobody silent."""

KEPT_S = 86400.0
"""Time for which a heartbeat is remembered, in seconds."""


class Heartbeats:
    """What was heard on the topic of heartbeats."""

    def __init__(self, clock: Clock = elapsed) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        """When each wrapper was last heard, by token."""
        self._peaks: dict[str, float] = {}
        """Largest resident memory in MiB, by token."""
        self._since = clock()
        """Time since which nothing was missed."""
        self._last = self._since
        """When anybody was last heard."""
        self._pruned = self._since
        """When old entries were last removed."""

    def hear(self, status: object) -> None:
        """Take a status message of any sender."""
        now = self._clock()
        if now - self._last > DEAF_S:
            self._since = now
        self._last = now
        self._prune(now)
        token = status.get("token") if isinstance(status, dict) else None
        if isinstance(status, dict) and token:
            self._heard[str(token)] = now
            memory = status.get("memory_mib")
            if isinstance(memory, (int, float)):
                self._peaks[str(token)] = max(memory, self._peaks.get(str(token), 0.0))

    def _prune(self, now: float) -> None:
        """Forget old entries now and then: after months there would be many."""
        if now - self._pruned > KEPT_S:
            self._heard = {token: at for token, at in self._heard.items() if now - at < KEPT_S}
            self._peaks = {token: mib for token, mib in self._peaks.items() if token in self._heard}
            self._pruned = now

    def silent_s(self, token: str) -> float | None:
        """Return the seconds since a wrapper was last heard.

        None: it was never heard, or the listener is deaf, so that nobody can say.
        """
        heard, now = self._heard.get(token), self._clock()
        if heard is None or now - self._last > DEAF_S:
            return None
        return now - max(heard, self._since)

    def peak_memory_mib(self, token: str) -> float | None:
        """Return the largest resident memory that a wrapper told of its program, in MiB."""
        return self._peaks.get(token)

    def forget(self, token: str) -> None:
        """Forget a wrapper that has ended."""
        self._heard.pop(token, None)
        self._peaks.pop(token, None)
