"""A step that goes to another cluster than at its earlier try is one job all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import INTENDED, NOT_FOUND, REJECTED, SUBMITTED, UNANSWERED, Attempt
from zwrap.configuration.site import Configuration
from zwrap.errors import RejectedError, UnknownNameError, UnknownOutcomeError
from zwrap.job import JobRequest, JobStatus, State
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import (
    Accepted,
    Busy,
    Command,
    Options,
    Question,
    Rejected,
    Submission,
)
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission.outcomes import Outcome, cluster_of
from zwrap.submission.pending import PendingJob
from zwrap.submission.submit import submit_all
from zwrap.transport.memory import MemoryBroker, MemoryTransport

from .clock import ManualClock


class System:
    """A batch system that gives one answer, and knows the jobs that it took."""

    settle_s = 0.2
    arrays = None
    concurrency = 1
    options = Options(timeout_s=30)

    def __init__(self, answer: Submission, jobs: list[str] | None = None) -> None:
        self.answer = answer
        self.jobs = jobs or []

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        def read(reply: object) -> Submission:
            if isinstance(self.answer, Accepted):
                self.jobs.append(request.full_name)
            return self.answer

        return Question(Command(argv=["true"]), read)

    def find(self, name: str) -> Question[list[JobStatus]]:
        found = [JobStatus(job_id="7", name=name, state=State.RUNNING)] * (name in self.jobs)
        return Question(Command(argv=["true"]), lambda reply: found)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    opened = Ledger.in_file(tmp_path / "ledger.sqlite")
    monkeypatch.setattr(opened, "now", clock)
    yield opened
    opened.close()


def submitted(ledger: Ledger, cluster: str, **systems: System) -> Outcome:
    """Let a step become a job of a cluster; return the outcome."""
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster=cluster, job_name=f"on_{cluster}",
        job_directory=f"/{cluster}/.zwrap/t-1", asked=f"for={cluster}",
    )  # fmt: skip
    request = JobRequest(
        cluster=cluster, job_name=f"on_{cluster}", token="t-1", working_directory=Path("/"),
        job_directory=Path(f"/{cluster}/.zwrap/t-1"), commands="", standard_output=Path("/o"),
        standard_error=Path("/e"),
    )  # fmt: skip

    def scheduler_of(name: str) -> Any:
        if name not in systems:
            raise UnknownNameError("scheduler", name, list(systems))
        return systems[name]

    outcomes: list[tuple[str, Outcome]] = []
    job = PendingJob(request, Path("/script"), attempt)
    system: Any = systems[cluster]
    submit_all(ledger, system, [job], outcomes.extend, scheduler_of=scheduler_of)
    [(_, outcome)] = outcomes
    return outcome


def row(ledger: Ledger) -> Attempt:
    [only] = ledger.queries.newest(10_000)
    return only


@pytest.mark.parametrize("answer", [Busy("full"), Rejected("no such queue")])
def test_the_row_of_a_job_says_where_it_was_submitted_last(
    ledger: Ledger, answer: Submission
) -> None:
    first, second = System(answer), System(Accepted("2"))
    submitted(ledger, "a", a=first, b=second)
    assert row(ledger).cluster == "a"
    assert submitted(ledger, "b", a=first, b=second) == "2"
    found = row(ledger)
    assert (found.state, found.job_id, found.cluster) == (SUBMITTED, "2", "b")
    assert found.full_name == second.jobs[0]
    assert (found.job_directory, found.asked) == ("/b/.zwrap/t-1", "for=b")


def test_a_wait_on_another_cluster_begins_anew(ledger: Ledger, clock: ManualClock) -> None:
    first, second = System(Busy("full")), System(Busy("full"))
    submitted(ledger, "a", a=first)
    clock.now += 1000
    submitted(ledger, "b", a=first, b=second)
    found = row(ledger)
    assert (found.cluster, found.held) == ("b", clock.now)


def test_a_refusal_names_the_cluster_that_refused(ledger: Ledger) -> None:
    first, second = System(Busy("full")), System(Rejected("no"))
    submitted(ledger, "a", a=first)
    outcome = submitted(ledger, "b", a=first, b=second)
    assert isinstance(outcome, RejectedError)
    assert "Cluster 'b' refused" in str(outcome)
    assert (row(ledger).state, row(ledger).cluster) == (REJECTED, "b")


def in_doubt(ledger: Ledger, clock: ManualClock, state: str) -> None:
    """Leave a row of a job for cluster a as after a kill before the conclusion."""
    submitted(ledger, "a", a=System(Busy("full")))
    ledger.record({"t-1": {"state": state, "tried": clock.now}})
    clock.now += 1000


@pytest.mark.parametrize("state", [INTENDED, UNANSWERED, NOT_FOUND])
def test_a_job_that_may_exist_is_looked_up_where_it_was_submitted(
    ledger: Ledger, clock: ManualClock, state: str
) -> None:
    in_doubt(ledger, clock, state)
    first, second = System(Accepted("1"), ["on_a.t-1"]), System(Accepted("2"))
    for _ in range(2):  # then its row says that it is submitted
        outcome = submitted(ledger, "b", a=first, b=second)
        assert isinstance(outcome, str)
        assert outcome == "7"
        assert cluster_of(outcome, "b") == "a"
        assert second.jobs == []
        found = row(ledger)
        assert (found.state, found.cluster, found.full_name) == (SUBMITTED, "a", "on_a.t-1")


def test_a_job_that_is_missing_twice_on_the_former_cluster_goes_to_the_other(
    ledger: Ledger, clock: ManualClock
) -> None:
    in_doubt(ledger, clock, UNANSWERED)
    first, second = System(Accepted("1")), System(Accepted("2"))
    assert isinstance(submitted(ledger, "b", a=first, b=second), UnknownOutcomeError)
    assert row(ledger).state == NOT_FOUND
    assert second.jobs == []
    clock.now += 1000
    assert submitted(ledger, "b", a=first, b=second) == "2"
    assert (row(ledger).cluster, first.jobs) == ("b", [])


def test_a_job_on_a_cluster_that_is_described_no_more_is_not_submitted_again(
    ledger: Ledger, clock: ManualClock
) -> None:
    in_doubt(ledger, clock, UNANSWERED)
    second = System(Accepted("2"))
    for _ in range(3):
        clock.now += 1000
        outcome = submitted(ledger, "b", b=second)
        assert isinstance(outcome, UnknownOutcomeError)
        assert outcome.retry_after_s
        assert "to cluster 'a' may have become a job" in str(outcome)
        assert "Describe the cluster again" in str(outcome)
    assert second.jobs == []
    assert row(ledger).cluster == "a"


def test_a_changed_default_makes_no_second_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill left the row before its conclusion; then the site has another default."""
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    clock, kinds = ManualClock(), {name: {"kind": "local"} for name in ("a", "b")}
    transport = MemoryTransport(MemoryBroker(clock))

    def work(default: str) -> tuple[Ledger, list[Attempt]]:
        text: dict[str, Any] = {"version": 1, "c": {"plugin": "clusters", **kinds}}
        text |= {"s": {"plugin": "storage", "scheduler": default}}
        text["environments"] = {"default": ["c", "s"]}
        configuration = Configuration.from_string(json.dumps(text)).activate()
        Loop(Submitter(configuration, transport), transport, once=True).run()
        ledger = Ledger.of(configuration)
        return ledger, ledger.queries.newest(10_000)

    monkeypatch.setattr(
        "zwrap.submission.lookup.ask",
        lambda found: [JobStatus(job_id="7", name="n", state=State.RUNNING)],
    )
    step = {"queue": "cluster.submission", "parameters": {
        "workingdir": str(tmp_path / "w"), "cluster": {"commands": "true"},
    }, "output": {"job_submitted": 2}}  # fmt: skip
    recipe = Recipe({"start": [[1, []]], "1": step, "2": {"queue": "heard"}})
    transport.commit(Envelope(recipe, 1, environment={"ID": "r"}).start())
    [entry] = transport.broker.queues["cluster.submission"]
    ledger, [first] = work("a")
    ledger.record({first.token: {"state": INTENDED, "job_id": None, "tried": clock.now}})
    transport.broker.queues["cluster.submission"].append(entry)
    _, [second] = work("b")
    assert (second.state, second.cluster, second.job_id) == (SUBMITTED, "a", "7")
    bodies: list[Any] = [each.message.body for each in transport.broker.queues["heard"]]
    assert [body["payload"]["scheduler"] for body in bodies] == ["a", "a"]
