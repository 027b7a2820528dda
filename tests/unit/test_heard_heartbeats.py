"""Heartbeats that are heard: a silent wrapper, and a Watcher that hears none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zwrap.service.watcher import heartbeats as module
from zwrap.service.watcher.heartbeats import DEAF_S, KEPT_S, Heartbeats
from zwrap.units import LARGEST_MIB


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


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([10**400, -(10**400), 2**63, 1e308, float("inf"), float("nan")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.fixed_dictionaries({}, optional={"token": anything, "memory_mib": anything}) | anything)
def test_what_is_not_valid_in_a_heartbeat_is_ignored(status: Any) -> None:
    heartbeats = Heartbeats(Clock())
    heartbeats.hear({"token": "a", "memory_mib": 5.0})
    heartbeats.hear(status)
    if isinstance(status, dict):
        heartbeats.hear({**status, "token": "a"})
    peak_mib = heartbeats.peak_memory_mib("a")
    assert isinstance(peak_mib, float)
    assert 5.0 <= peak_mib <= LARGEST_MIB
    json.dumps(peak_mib, allow_nan=False)


def test_only_so_many_wrappers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may send heartbeats with ever new tokens."""
    monkeypatch.setattr(module, "MOST_TOKENS", 3)
    heartbeats = Heartbeats(Clock())
    for token in ("a", "b", "a", "c", "d", "x" * 81):
        heartbeats.hear({"token": token, "memory_mib": 1})
    assert [heartbeats.silent_s(token) for token in "abcd"] == [0, None, 0, 0]
    assert heartbeats.silent_s("x" * 81) is None
    assert heartbeats.peak_memory_mib("b") is None
