"""Reasons to stop a program: once, and not after its end."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

import pytest

from zwrap.program.definition import Checkpoint
from zwrap.scheduler import Meaning
from zwrap.wrapper import stopping
from zwrap.wrapper.ending import NEAR_LIMIT
from zwrap.wrapper.stopping import StoppedError, Stopping


class Program:
    saves = True

    def __init__(self) -> None:
        self.stops: list[tuple[str, float | None]] = []

    def stop(self, because: str, grace_s: float | None = None) -> None:
        self.stops.append((because, grace_s))


class Timer:
    """A timer whose time comes when a test says so."""

    made: list[Timer] = []  # noqa: RUF012

    def __init__(self, interval_s: float, function: Any) -> None:
        self.interval_s, self.function = interval_s, function
        self.cancelled = False
        Timer.made.append(self)

    def start(self) -> None: ...

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture(autouse=True)
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Timer]:
    Timer.made = []
    monkeypatch.setattr(stopping.threading, "Timer", Timer)
    return Timer.made


def made(limit_s: float | None = 600.0, now: Any = lambda: 0.0) -> Stopping:
    found = Stopping(limit_s, lambda: None, now)
    found.checkpoint = Checkpoint(command=["save"], before_s=120)
    return found


def test_a_program_may_save_before_the_job_s_limit(timers: list[Timer]) -> None:
    times = iter([100.0, 130.0])
    step = made(now=lambda: next(times))
    program: Any = Program()
    step.started(program)
    [timer] = timers
    assert timer.interval_s == 600 - 120 - 30
    timer.function()
    assert program.stops == [(NEAR_LIMIT, pytest.approx(108))]
    assert step.by == NEAR_LIMIT


def test_the_timer_does_not_act_once_the_program_has_ended(timers: list[Timer]) -> None:
    step = made()
    step.started(Program())  # type: ignore[arg-type]
    step.ended()
    [timer] = timers
    assert timer.cancelled
    timer.function()  # it came at the same moment
    assert not step.is_stopped()


@pytest.mark.parametrize("limit_s", [None, 120.0, 60.0])
def test_there_is_no_timer_where_there_is_no_time_to_save(
    limit_s: float | None, timers: list[Timer]
) -> None:
    step = made(limit_s)
    step.started(Program())  # type: ignore[arg-type]
    assert timers == []


def test_what_comes_while_a_program_that_has_ended_is_judged_stops_it_no_more(
    timers: list[Timer],
) -> None:
    step = made()
    program: Any = Program()
    with step.running(program):
        pass
    timers[0].function()
    assert (step.by, program.stops) == ("", [])


def test_each_signal_reaches_the_program_and_the_first_is_the_cause() -> None:
    asked: list[None] = []
    step = Stopping(None, lambda: asked.append(None))
    program: Any = Program()
    step.started(program)
    step.signalled(signal.SIGUSR1, Meaning.SUSPEND)
    assert not step.is_stopped()
    step.signalled(signal.SIGTERM, Meaning.STOP)
    step.signalled(signal.SIGINT, Meaning.STOP)
    assert (step.by, program.stops) == ("SIGTERM", [("SIGTERM", None), ("SIGINT", None)])
    assert len(asked) == 1


def test_a_signal_that_came_before_the_start_stops_the_program_at_its_start() -> None:
    step = Stopping(None, lambda: None)
    step.signalled(signal.SIGTERM, Meaning.STOP)
    program: Any = Program()
    step.started(program)
    assert program.stops == [("SIGTERM", None)]


def test_only_an_exception_stops_a_wrapper_in_python() -> None:
    step = Stopping(None, lambda: None)
    # Neither a wrapper nor `logging` can swallow it.
    with (
        pytest.raises(StoppedError, match="stopped by SIGTERM"),
        step.raising(),
        contextlib.suppress(Exception),
    ):
        step.signalled(signal.SIGTERM, Meaning.STOP)
    step.signalled(signal.SIGINT, Meaning.STOP)
    with pytest.raises(StoppedError, match="stopped by SIGTERM"), step.raising():
        pytest.fail("it began, although it was stopped before")


def test_a_signal_within_what_must_not_be_interrupted_is_raised_after_it() -> None:
    step = Stopping(None, lambda: None)
    done: list[str] = []

    def post(text: str) -> None:
        step.signalled(signal.SIGTERM, Meaning.STOP)
        done.append(text)

    with pytest.raises(StoppedError), step.raising():
        step.uninterrupted(post)("a message")
    assert done == ["a message"]
    with contextlib.suppress(StoppedError), step.raising():
        pytest.fail("it was stopped before")
    step.uninterrupted(post)("the last message of a wrapper that cleans up")
    assert len(done) == 2


def test_a_warning_lets_the_program_save(timers: list[Timer]) -> None:
    step = made()
    program: Any = Program()
    step.started(program)
    step.signalled(signal.SIGUSR1, Meaning.WARN)
    assert [because for because, _ in program.stops] == [NEAR_LIMIT]
    timers[0].function()
    assert len(program.stops) == 1, "once"


def test_the_approaching_limit_is_no_order_to_a_program_that_cannot_save(
    timers: list[Timer],
) -> None:
    """Of several commands the first had ended when it was asked to save; the others go on."""
    step = made()
    first: Any = Program()
    with step.running(first):
        timers[0].function()
    assert (step.by, step.ordered_by()) == (NEAR_LIMIT, "")
    further: Any = Program()
    further.saves = False
    with step.running(further):
        step.signalled(signal.SIGUSR1, Meaning.WARN)
        assert further.stops == []
        step.signalled(signal.SIGTERM, Meaning.STOP)
    assert [because for because, _ in further.stops] == ["SIGTERM"]


def test_no_timer_runs_for_a_program_that_cannot_save(timers: list[Timer]) -> None:
    step = made()
    further: Any = Program()
    further.saves = False
    step.started(further)
    step.signalled(signal.SIGUSR1, Meaning.WARN)
    assert (timers, step.by, further.stops) == ([], "", [])
    step.signalled(signal.SIGTERM, Meaning.STOP)
    assert step.ordered_by() == "SIGTERM"
