"""Calls that are under way: those of a held lane come one after the other, and hold up no other."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from zwrap.attempt.record import Attempt
from zwrap.job import JobRequest, Resources
from zwrap.scheduler import Accepted
from zwrap.submission.outcomes import Answer
from zwrap.submission.pending import PendingJob
from zwrap.submission.underway import UnderWay


class Calls:
    """Calls that are answered when the test says so."""

    def __init__(self) -> None:
        self.under_way = UnderWay()
        self.begun: dict[str, Future[Answer | None]] = {}

    def add(self, name: str, partition: str, held: float | None) -> None:
        request = JobRequest(
            cluster="c", job_name=name, token=name, commands="true",
            working_directory=Path("/w"), job_directory=Path("/w"),
            standard_output=Path("/w/o"), standard_error=Path("/w/e"),
            resources=Resources(partition=partition),
        )  # fmt: skip
        attempt = Attempt(
            token=name, recipe_id="r", step=1, cluster="c", job_name=name, job_directory="/w",
            held=held,
        )  # fmt: skip

        def call() -> Future[Answer | None]:
            self.begun[name] = Future()
            return self.begun[name]

        self.under_way.add(PendingJob(request, Path("/w/script"), attempt), call)

    def answer(self, name: str) -> None:
        self.begun[name].set_result(Accepted(name))


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_held_jobs_of_a_lane_come_one_after_the_other(calls: Calls) -> None:
    for number in range(3):
        calls.add(f"held{number}", "p", held=1.0)
    calls.add("new", "p", held=None)
    assert [*calls.begun] == ["held0", "new"]
    for number in range(3):
        calls.answer(f"held{number}")
        [(job, answer)] = calls.under_way.answers(most=32)
        assert (job.attempt.token, answer) == (f"held{number}", Accepted(f"held{number}"))
    calls.add("held3", "p", held=1.0)
    assert [*calls.begun][-1] == "held3"


def test_many_held_jobs_of_a_lane_hold_up_no_other(calls: Calls) -> None:
    for number in range(100):
        calls.add(f"held{number}", "p", held=1.0)
    assert calls.under_way.answers(most=32) == []
    calls.add("other", "q", held=2.0)
    calls.add("new", "r", held=None)
    assert [*calls.begun] == ["held0", "other", "new"]


def test_at_the_end_each_job_has_its_answer(calls: Calls) -> None:
    for number in range(50):
        calls.add(f"held{number}", "p", held=1.0)
    answered = []
    for number in range(50):
        calls.answer(f"held{number}")
        answered += calls.under_way.answers(most=1)
    assert [job.attempt.token for job, _ in answered] == [f"held{number}" for number in range(50)]
    assert calls.under_way.answers(most=0) == []
