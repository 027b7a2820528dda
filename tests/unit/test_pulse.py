"""Who is silent, and who does not hear."""

from __future__ import annotations

from zwrap.service.watcher.heartbeats import DEAF_S, KEPT_S, Pulse


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def hears(pulse: Pulse, clock: Clock, seconds: float, *tokens: str) -> None:
    """For so long heartbeats of these, and the listener's own status, every 5 seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 5
        for token in tokens:
            pulse.hear({"token": token})
        pulse.hear({"service": "Watcher"})


def test_a_wrapper_that_stops_talking_is_silent_since_then() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    hears(pulse, clock, 10, "a", "b")
    hears(pulse, clock, 60, "b")
    assert (pulse.silent_s("a"), pulse.silent_s("b")) == (60, 0)
    hears(pulse, clock, 5, "a")
    assert pulse.silent_s("a") == 0


def test_of_one_that_was_never_heard_nobody_can_say() -> None:
    pulse = Pulse(Clock())
    pulse.hear("no status")
    assert pulse.silent_s("a") is None


def test_who_hears_nobody_calls_nobody_silent() -> None:
    """The broker was away: when it is back everybody has time to be heard."""
    clock = Clock()
    pulse = Pulse(clock)
    hears(pulse, clock, 10, "a")
    clock.now += DEAF_S + 100
    assert pulse.silent_s("a") is None
    pulse.hear({"service": "Watcher"})
    assert pulse.silent_s("a") == 0
    hears(pulse, clock, 60)
    assert pulse.silent_s("a") == 60


def test_what_was_heard_long_ago_is_forgotten() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.hear({"token": "a"})
    hears(pulse, clock, KEPT_S + 10)
    assert pulse.silent_s("a") is None
    pulse.hear({"token": "b"})
    pulse.forget("b")
    assert pulse.silent_s("b") is None


def test_the_most_memory_that_was_heard_is_remembered_until_the_end() -> None:
    pulse = Pulse(Clock())
    for memory_mib in (10.0, 300.0, 20.0, "much"):
        pulse.hear({"token": "a", "memory_mib": memory_mib})
    pulse.hear({"token": "b"})
    assert (pulse.peak_memory_mib("a"), pulse.peak_memory_mib("b")) == (300.0, None)
    pulse.forget("a")
    assert pulse.peak_memory_mib("a") is None
