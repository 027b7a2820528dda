"""Who is silent, and who does not hear."""

from __future__ import annotations

from zwrap.service.watcher.heartbeats import DEAF_S, KEPT_S, Heartbeats


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def hears(heartbeats: Heartbeats, clock: Clock, seconds: float, *tokens: str) -> None:
    """For so long heartbeats of these, and the listener's own status, every 5 seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 5
        for token in tokens:
            heartbeats.hear({"token": token})
        heartbeats.hear({"service": "Watcher"})


def test_a_wrapper_that_stops_talking_is_silent_since_then() -> None:
    clock = Clock()
    heartbeats = Heartbeats(clock)
    hears(heartbeats, clock, 10, "a", "b")
    hears(heartbeats, clock, 60, "b")
    assert (heartbeats.silent_s("a"), heartbeats.silent_s("b")) == (60, 0)
    hears(heartbeats, clock, 5, "a")
    assert heartbeats.silent_s("a") == 0


def test_of_one_that_was_never_heard_nobody_can_say() -> None:
    heartbeats = Heartbeats(Clock())
    heartbeats.hear("no status")
    assert heartbeats.silent_s("a") is None


def test_who_hears_nobody_calls_nobody_silent() -> None:
    """The broker was away: when it is back everybody has time to be heard."""
    clock = Clock()
    heartbeats = Heartbeats(clock)
    hears(heartbeats, clock, 10, "a")
    clock.now += DEAF_S + 100
    assert heartbeats.silent_s("a") is None
    heartbeats.hear({"service": "Watcher"})
    assert heartbeats.silent_s("a") == 0
    hears(heartbeats, clock, 60)
    assert heartbeats.silent_s("a") == 60


def test_what_was_heard_long_ago_is_forgotten() -> None:
    clock = Clock()
    heartbeats = Heartbeats(clock)
    heartbeats.hear({"token": "a"})
    hears(heartbeats, clock, KEPT_S + 10)
    assert heartbeats.silent_s("a") is None
    heartbeats.hear({"token": "b"})
    heartbeats.forget("b")
    assert heartbeats.silent_s("b") is None


def test_the_most_memory_that_was_heard_is_remembered_until_the_end() -> None:
    heartbeats = Heartbeats(Clock())
    for memory_mib in (10.0, 300.0, 20.0, "much"):
        heartbeats.hear({"token": "a", "memory_mib": memory_mib})
    heartbeats.hear({"token": "b"})
    assert (heartbeats.peak_memory_mib("a"), heartbeats.peak_memory_mib("b")) == (300.0, None)
    heartbeats.forget("a")
    assert heartbeats.peak_memory_mib("a") is None
