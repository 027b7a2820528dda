"""Exponential back-off: pauses between tries that grow with each failure."""

from __future__ import annotations


class Backoff:
    """Pauses between tries, in seconds; each is `factor` times the last one, up to `last_s`.

    With `jitter` each pause is a random part between half and all of it, so that clients that
    failed at the same moment do not come back at the same moment.
    """

    def __init__(
        self, first_s: float, last_s: float, *, factor: float = 2.0, jitter: bool = False
    ) -> None:
        self._first_s = first_s
        self._factor = factor
        self._jitter = jitter
        self._next_s = first_s
        self.last_s = last_s
        """Longest pause; may be changed at any time."""

    def next_s(self) -> float:
        """Return the next pause in seconds, and lengthen the one after it."""
        pause_s = min(self._next_s, self.last_s)
        self._next_s = min(pause_s * self._factor, self.last_s)
        if not self._jitter:
            return pause_s
        import random  # 1 ms of the start of every job, of which few ever need it

        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin with the first pause again, after a success."""
        self._next_s = self._first_s


def pause_after(failures: int, first_s: float, last_s: float, factor: float = 2.0) -> float:
    """Return the pause, in seconds, after a number of failures in a row; 0.0 after none.

    For failures that the caller counts: `first_s` after the first one, then each pause is `factor`
    times the one before, up to `last_s`.
    """
    pauses = Backoff(first_s, last_s, factor=factor)
    pause_s = 0.0
    for _ in range(failures):
        pause_s = pauses.next_s()
    return pause_s
