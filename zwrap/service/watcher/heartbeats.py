"""Heartbeats that the Watcher receives: last time, memory and progress of each wrapper."""

from __future__ import annotations

from zwrap.host.clock import Clock, elapsed
from zwrap.units import LARGEST_MIB

DEAF_S = 20.0
"""Time without any status message after which the receiver itself counts as cut off, in seconds.
Services, this one included, send their status far more often. While the receiver is cut off, no
wrapper counts as silent."""

LISTENED_S = 600.0
"""Time for which the receiver must have listened to say that a wrapper was never heard, in seconds:
one whose transport was away beats again within half a minute."""

KEPT_S = 86400.0
"""Time for which a heartbeat is kept, in seconds."""

LARGEST = 2.0**53
"""Number from which on numbers in a heartbeat are no measurements."""

LONGEST_TOKEN = 80
"""Length of the longest token, in characters."""

MILESTONES = (10, 25, 50, 75, 90)
"""Progress of a program that the ledger keeps, in percent."""

MOST_TOKENS = 200_000
"""Largest number of wrappers whose heartbeats are kept; those heard longest ago are dropped."""


class Heartbeats:
    """Heartbeats of wrappers, by the token of the attempt.

    Anybody may send a status message: a field that is not valid is ignored.
    """

    def __init__(self, clock: Clock = elapsed) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        """Token to the time of the wrapper's last heartbeat."""
        self._peaks: dict[str, float] = {}
        """Token to the largest resident memory, in MiB."""
        self._milestones: dict[str, tuple[float, int]] = {}
        """Token to number of things, and milestone that was reached, in percent."""
        self._told: dict[str, tuple[float, int]] = {}
        """The same, of those that `milestone` has returned."""
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
        token = _token(status)
        if token is None:
            return
        self._heard.pop(token, None)  # the order of the entries is that of the last heartbeats
        self._heard[token] = now
        if len(self._heard) > MOST_TOKENS:
            self.forget(next(iter(self._heard)))
        memory_mib = _memory_mib(status)
        if memory_mib is not None:
            self._peaks[token] = max(memory_mib, self._peaks.get(token, 0.0))
        if reached := _milestone(status):
            self._milestones[token] = reached

    def _prune(self, now: float) -> None:
        """Remove old entries now and then, of which there would be many after months."""
        if now - self._pruned > KEPT_S:
            self._heard = {token: at for token, at in self._heard.items() if now - at < KEPT_S}
            self._peaks = {token: mib for token, mib in self._peaks.items() if token in self._heard}
            for token in (self._milestones.keys() | self._told.keys()) - self._heard.keys():
                self.forget(token)
            self._pruned = now

    def silent_s(self, token: str) -> float | None:
        """Return the time since a wrapper's last heartbeat, in seconds.

        None: there was none, or the receiver is cut off, so that it is not known.
        """
        heard, now = self._heard.get(token), self._clock()
        if heard is None or now - self._last > DEAF_S:
            return None
        return now - max(heard, self._since)

    def was_silent(self, token: str, wait_s: float, listened_s: float = LISTENED_S) -> bool:
        """Return True if nothing was heard of a wrapper for `wait_s` seconds.

        False as well if the receiver has not listened for `listened_s` seconds without being cut
        off.
        """
        heard, now = self._heard.get(token), self._clock()
        if now - self._last > DEAF_S or now - self._since < listened_s:
            return False
        return heard is None or now - heard >= wait_s

    def peak_memory_mib(self, token: str) -> float | None:
        """Return the largest resident memory of a program, in MiB; None: none was reported."""
        return self._peaks.get(token)

    def milestone(self, token: str) -> int | None:
        """Return the milestone that a program has reached, in percent; None: no further one."""
        reached, told = self._milestones.get(token), self._told.get(token)
        if reached is None or (told and reached[0] == told[0] and reached[1] <= told[1]):
            return None
        self._told[token] = reached
        return reached[1]

    def forget(self, token: str) -> None:
        """Remove the entries of a wrapper that has ended."""
        self._heard.pop(token, None)
        self._peaks.pop(token, None)
        self._milestones.pop(token, None)
        self._told.pop(token, None)


def _token(status: object) -> str | None:
    """Return the token in a status message; None if it holds none."""
    token = status.get("token") if isinstance(status, dict) else None
    return token if isinstance(token, str) and 0 < len(token) <= LONGEST_TOKEN else None


def _milestone(status: object) -> tuple[float, int] | None:
    """Return the number of things in a status message, and the milestone reached, in percent.

    None: it holds none, or none is reached.
    """
    if not isinstance(status, dict):
        return None
    done, total = _number(status, "progress_done"), _number(status, "progress_total")
    if done is None or total is None or not 0 < done <= total:
        return None
    reached = [each for each in MILESTONES if 100 * done >= each * total]
    return (total, reached[-1]) if reached else None


def _memory_mib(status: object) -> float | None:
    """Return the resident memory in a status message, in MiB; None if it holds none."""
    given = _number(status, "memory_mib") if isinstance(status, dict) else None
    return given if given is not None and 0 <= given <= LARGEST_MIB else None


def _number(status: dict[object, object], name: str) -> float | None:
    """Return a number in a status message; None if it holds none, or one that is too large."""
    given = status.get(name)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    return float(given) if abs(given) < LARGEST else None
