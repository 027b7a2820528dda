"""Rate limit of warnings: each is logged once, and again only after a while."""

from __future__ import annotations

from zwrap.host.clock import Clock, elapsed

AGAIN_S = 600.0
"""Shortest time between two warnings about the same thing, in seconds."""

REMEMBERED = 1000
"""Largest number of things that are remembered."""


class Seldom:
    """The things that were told, each with the time at which it was told last."""

    def __init__(self, clock: Clock = elapsed) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def due(self, what: str) -> bool:
        """Return whether a thing is to be told now, and note that it is."""
        now = self._clock()
        if now - self._told.get(what, float("-inf")) < AGAIN_S:
            return False
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[what] = now
        return True

    def over(self, what: str) -> bool:
        """Note that a thing is over; return whether it had been told."""
        return self._told.pop(what, None) is not None
