"""Pauses between tries."""

from __future__ import annotations

from zwrap.host.backoff import Backoff, pause_after


def test_each_pause_is_longer_up_to_the_longest() -> None:
    backoff = Backoff(1.0, 5.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_the_longest_pause_may_be_lowered_while_it_lasts() -> None:
    backoff = Backoff(1.0, 60.0)
    assert [backoff.next_s() for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    backoff.last_s = 3.0
    assert backoff.next_s() == 3.0


def test_jitter_shortens_each_pause_by_half_at_most() -> None:
    backoff = Backoff(8.0, 8.0, jitter=True)
    pauses = [backoff.next_s() for _ in range(100)]
    assert 4.0 <= min(pauses) < max(pauses) <= 8.0


def test_the_pause_after_failures_that_somebody_else_counts() -> None:
    pauses = [pause_after(failures, first_s=1.0, last_s=5.0) for failures in range(6)]
    assert pauses == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pause_after(5000, first_s=1.0, last_s=60.0) == 60.0
