"""Heartbeats that the Watcher receives: the last time and the memory of each wrapper."""

from __future__ import annotations

from zwrap.host.clock import Clock, elapsed

DEAF_S = 20.0
"""Time without any status message after which the receiver itself counts as cut off, in seconds.
Services, this one included, send their status far more often. While the receiver is cut off, no
wrapper counts as silent."""

KEPT_S = 86400.0
"""Time for which a heartbeat is kept, in seconds."""


class Heartbeats:
    """Heartbeats of wrappers, by the token of the attempt."""

    def __init__(self, clock: Clock = elapsed) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        """Token to the time of the wrapper's last heartbeat."""
        self._peaks: dict[str, float] = {}
        """Token to the largest resident memory, in MiB."""
        self._since = clock()
        """Time since which no status message was missed."""
        self._last = self._since
        """Time of the last status message of any sender."""
        self._pruned = self._since
        """Time at which old entries were last removed."""

    def hear(self, status: object) -> None:
        """Note a status message of any sender."""
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
        """Remove old entries now and then, of which there would be many after months."""
        if now - self._pruned > KEPT_S:
            self._heard = {token: at for token, at in self._heard.items() if now - at < KEPT_S}
            self._peaks = {token: mib for token, mib in self._peaks.items() if token in self._heard}
            self._pruned = now

    def silent_s(self, token: str) -> float | None:
        """Return the time since a wrapper's last heartbeat, in seconds.

        None: there was none, or the receiver is cut off, so that it is not known.
        """
        heard, now = self._heard.get(token), self._clock()
        if heard is None or now - self._last > DEAF_S:
            return None
        return now - max(heard, self._since)

    def peak_memory_mib(self, token: str) -> float | None:
        """Return the largest resident memory of a program, in MiB; None: none was reported."""
        return self._peaks.get(token)

    def forget(self, token: str) -> None:
        """Remove the entries of a wrapper that has ended."""
        self._heard.pop(token, None)
        self._peaks.pop(token, None)
