"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """A clock to hand in; `now` is its time in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds
