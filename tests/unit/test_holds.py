"""Tests of held lanes: which jobs wait, how long, and in which order they are submitted."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, WAITING, Attempt
from zwrap.errors import ClusterFullError, RejectedError, UnreachableError, ZwrapError
from zwrap.job import JobRequest, Resources
from zwrap.scheduler import (
    Accepted,
    ArrayForm,
    Busy,
    Command,
    Options,
    Question,
    Rejected,
    Submission,
    Unknown,
)
from zwrap.submission.holds import ASK_S, FORGET_S, LONGEST_ASK_S, Holds, lane_of
from zwrap.submission.outcomes import Outcome
from zwrap.submission.pending import PendingJob
from zwrap.submission.submit import everything, submit_all

from .clock import ManualClock

DAY_S = 86_400.0
HEAD = "#!/bin/bash\n#SBATCH --partition={}\n\n"
NO_ARRAYS = 0


class Site:
    """A batch system of some partitions, a Submitter's ledger, and the time."""

    settle_s = 15.0
    concurrency = 4
    options = Options(timeout_s=30)
    arrays: ArrayForm | None = ArrayForm("_", "TASK", prefix="#SBATCH")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.ledger = Ledger.in_file(directory / "ledger.sqlite")
        self.holds = Holds("c", 14 * DAY_S, self.clock)
        self.says: dict[str | None, Submission | Exception] = {}
        """Partition, or token of a job, to the answer that is not a job id."""
        self.asked: list[str] = []
        self.largest = NO_ARRAYS

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        def read(reply: object) -> Submission:
            self.asked.append(request.token)
            said = self.says.get(request.token) or self.says.get(request.resources.partition)
            if isinstance(said, Exception):
                raise said
            return said or Accepted(str(len(self.asked)))

        return Question(Command(argv=["true"]), read)

    def job(self, token: str, partition: str | None = "p") -> PendingJob:
        place = self.directory / token
        place.mkdir(exist_ok=True)
        script = place / "script"
        script.write_text(HEAD.format(partition))
        request = JobRequest(
            cluster="c", job_name="n", token=token, working_directory=place, job_directory=place,
            commands="", standard_output=place / "o", standard_error=place / "e",
            resources=Resources(partition=partition),
        )  # fmt: skip
        attempt = Attempt(
            token=token, recipe_id="r", step=1, cluster="c", job_name="n", job_directory=str(place)
        )
        return PendingJob(request, script, attempt)

    def take(self, *jobs: PendingJob) -> list[Any]:
        """Submit jobs; return what was reported of each."""
        told: dict[str, Outcome] = {}
        submit_all(
            self.ledger, self, jobs, told.update, everything, self.largest, self.clock,  # type: ignore[arg-type]
            self.holds,
        )  # fmt: skip
        assert told.keys() == {job.attempt.token for job in jobs}
        return [told[job.attempt.token] for job in jobs]

    def row(self, token: str) -> Attempt:
        found = self.ledger.get(token)
        assert found
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path)
    monkeypatch.setattr(made.ledger, "now", made.clock)
    made.clock.now = 1_000_000.0
    yield made
    made.ledger.close()


def later(site: Site, seconds: float) -> None:
    site.clock.now += seconds


DRAINED = Busy("the partition is drained")


def test_jobs_beside_a_held_lane_do_not_notice(site: Site) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}", "pq"[number % 2]) for number in range(40)]
    told = site.take(*jobs)
    assert [isinstance(each, ClusterFullError) for each in told] == [True, False] * 20
    assert len([token for token in site.asked if int(token[1:]) % 2 == 0]) <= site.concurrency
    assert str(told[0]) == "Cluster 'c' takes no such job now: the partition is drained."


def test_one_of_a_lane_asks_again_and_not_before_it_is_time(site: Site) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(10)]
    site.take(*jobs)
    site.asked.clear()
    later(site, ASK_S - 1)
    site.take(*jobs)
    assert site.asked == []
    later(site, 1)
    assert {each.retry_after_s for each in site.take(*jobs)} == {ASK_S}
    assert site.asked == ["t0"]
    site.says.clear()
    later(site, ASK_S)
    assert all(isinstance(each, str) for each in site.take(*jobs))
    assert sorted(site.asked) == ["t0", *(job.attempt.token for job in jobs)]


def test_every_held_job_is_seen_as_held_since_the_first_time(site: Site) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(10)]
    site.take(*jobs)
    began = site.clock.now
    later(site, 100)
    site.take(*jobs)
    rows = [site.row(job.attempt.token) for job in jobs]
    assert {(row.state, row.reason, row.held) for row in rows} == {
        (WAITING, "the partition is drained", began)
    }
    site.says.clear()
    later(site, ASK_S)
    site.take(*jobs)
    assert {site.row(job.attempt.token).held for job in jobs} == {None}


def test_jobs_of_a_lane_keep_their_order(site: Site) -> None:
    """Jobs that arrive while the first ones are still given back come after them."""
    site.largest, site.concurrency = NO_ARRAYS, 1
    site.says["p"] = DRAINED
    first, second, third, fourth = (site.job(f"t{number}") for number in range(4))
    site.take(first)
    later(site, 20)
    site.take(second)
    site.says.clear()
    later(site, 10)
    site.asked.clear()
    [told] = site.take(first)
    assert told == "1"
    later(site, 5)
    [waits] = site.take(third)
    assert (
        str(waits) == "Cluster 'c' takes no such job now: jobs that have waited longer come first."
    )
    later(site, 15)
    site.take(fourth, second)
    later(site, 15)
    site.take(third)
    assert site.asked == ["t0", "t1", "t3", "t2"]


def test_the_oldest_of_a_lane_goes_first_in_whatever_order_they_come(site: Site) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(6)]
    for job in jobs:
        site.take(job)
        later(site, 1)
    site.says.clear()
    site.asked.clear()
    later(site, ASK_S)
    site.take(*reversed(jobs))
    assert site.asked == [job.attempt.token for job in jobs]


def test_a_job_that_waited_as_long_as_it_may_is_refused_in_the_batch_system_s_words(
    site: Site,
) -> None:
    site.says["p"] = DRAINED
    old, young = site.job("old"), site.job("young")
    site.take(old)
    later(site, 10 * DAY_S)
    site.take(old, young)
    later(site, 4 * DAY_S)
    refused, waits = site.take(old, young)
    assert isinstance(refused, RejectedError)
    assert str(refused) == (
        "Cluster 'c' has not taken the job for 14 days: the partition is drained"
    )
    assert isinstance(waits, ClusterFullError)
    row = site.row("old")
    assert (row.state, row.held) == (REJECTED, None), "a dead letter that is put back waits anew"


def test_held_jobs_are_refused_in_their_time_though_another_asks(site: Site) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(10)]
    site.take(*jobs)
    later(site, 14 * DAY_S)
    assert {type(each) for each in site.take(*jobs)} == {RejectedError}


def test_after_a_restart_the_wait_goes_on(site: Site) -> None:
    site.says["p"] = DRAINED
    job = site.job("t")
    site.take(job)
    later(site, 14 * DAY_S)
    site.holds = Holds("c", 14 * DAY_S, site.clock)
    assert {type(each) for each in site.take(job)} == {RejectedError}


def test_a_new_job_that_asks_first_after_a_restart_goes_after_those_that_were_held(
    site: Site,
) -> None:
    site.concurrency = 1
    site.says["p"] = DRAINED
    held = [site.job(f"t{number}") for number in range(3)]
    site.take(*held)
    later(site, 10)
    site.holds = Holds("c", 14 * DAY_S, site.clock)
    new = site.job("new")
    site.take(new)
    later(site, ASK_S - 10)
    site.asked.clear()
    site.take(*held)
    assert site.asked == ["t0"], "once, though it is not due"
    site.take(*held)
    site.says.clear()
    later(site, 10)
    assert {type(each) for each in site.take(new)} == {ClusterFullError}, "t0 asks for all"
    later(site, ASK_S - 10)
    site.take(*held)
    later(site, 10)
    site.take(new)
    assert site.asked == ["t0", "t0", "t1", "t2", "new"]


@pytest.mark.parametrize("answer", [Rejected("unknown project"), Busy("perhaps", wait_s=3600)])
def test_a_job_that_asks_in_vain_for_reasons_of_its_own_lets_the_next_one_ask(
    site: Site, answer: Submission
) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(5)]
    site.take(*jobs)
    site.says = {"t0": answer, "t1": answer}
    later(site, ASK_S)
    told = site.take(*jobs)
    assert [isinstance(each, str) for each in told] == [False, False, True, True, True]


@pytest.mark.parametrize("answer", [Unknown("no answer"), UnreachableError("down")])
def test_an_answer_that_says_little_opens_no_lane(
    site: Site, answer: Submission | Exception
) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(5)]
    site.take(*jobs)
    site.says["p"] = answer
    later(site, ASK_S)
    site.asked.clear()
    told = site.take(*jobs)
    assert site.asked == ["t0"]
    assert all(isinstance(each, ZwrapError) for each in told)
    assert {type(each) for each in told[1:]} == {ClusterFullError}


def test_words_that_may_be_about_the_job_hold_that_job_alone_and_not_for_long(site: Site) -> None:
    site.says["bad"] = Busy("a policy", wait_s=3600)
    bad = site.job("bad")
    told = site.take(bad, *(site.job(f"t{number}") for number in range(10)))
    assert [type(each) for each in told] == [ClusterFullError, *[str] * 10]
    waits: list[float] = []
    while isinstance(told[0], ClusterFullError):
        assert told[0].retry_after_s
        waits.append(told[0].retry_after_s)
        later(site, waits[-1])
        told = site.take(bad)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (ASK_S, LONGEST_ASK_S)
    assert 3600 <= sum(waits) <= 3600 + LONGEST_ASK_S
    assert isinstance(told[0], RejectedError)
    assert str(told[0]).endswith("a policy")


def test_the_hour_begins_with_the_words_that_may_be_about_the_job(site: Site) -> None:
    """A job that waited for a partition is not to blame for what a controller says at its start."""
    site.says["p"] = DRAINED
    job = site.job("t")
    site.take(job)
    later(site, DAY_S)
    site.says["p"] = Busy("job 7: Invalid account", wait_s=3600)
    assert {type(each) for each in site.take(job)} == {ClusterFullError}
    later(site, 3000)
    site.says["p"] = Busy("job 8: Invalid account", wait_s=3600)
    assert {type(each) for each in site.take(job)} == {ClusterFullError}
    later(site, 600)
    assert {type(each) for each in site.take(job)} == {RejectedError}


def test_a_job_that_waits_for_what_is_its_own_holds_no_other_and_waits_long(site: Site) -> None:
    site.says["booked"] = Busy("the reservation has not begun", wait_s=math.inf)
    booked = site.job("booked")
    told = site.take(booked, *(site.job(f"t{number}") for number in range(10)))
    assert [type(each) for each in told] == [ClusterFullError, *[str] * 10]
    later(site, 10 * DAY_S)
    site.says["booked"] = Busy("the reservation is in use", wait_s=math.inf)
    assert {type(each) for each in site.take(booked)} == {ClusterFullError}
    later(site, 4 * DAY_S)
    assert {type(each) for each in site.take(booked)} == {RejectedError}


def test_a_job_that_is_still_held_costs_the_ledger_no_write(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.says["p"] = DRAINED
    jobs = [site.job(f"t{number}") for number in range(20)]
    site.take(*jobs)
    written: list[int] = []
    reserve = site.ledger.reserve
    monkeypatch.setattr(
        site.ledger,
        "reserve",
        lambda rows, *others: (written.append(len(rows)), reserve(rows, *others))[1],
    )
    later(site, ASK_S)
    site.take(*jobs)
    assert sum(written) == 1, "the one that asks"


def test_an_array_is_asked_for_once_if_its_lane_is_closed_for_a_reason_of_its_jobs(
    site: Site,
) -> None:
    site.largest = 100
    site.says["p"] = Busy("a policy", wait_s=3600)
    told = site.take(*(site.job(f"t{number}") for number in range(20)))
    assert {type(each) for each in told} == {ClusterFullError}
    assert len(site.asked) == 2, "the array, and one of its jobs"


def test_a_hold_is_told_once_and_so_is_its_end(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The same holds where a limit on the number of jobs lets one in at a time."""
    caplog.set_level(logging.INFO)
    site.concurrency = 1
    jobs = [site.job(f"t{number}") for number in range(8)]
    for done in range(4):
        site.says = dict.fromkeys((job.attempt.token for job in jobs[done:]), DRAINED)
        site.take(*jobs[max(done - 1, 0) :])
        later(site, ASK_S)
    site.says.clear()
    site.take(*jobs)
    later(site, 2 * ASK_S)
    site.take(site.job("next"))
    held, opened = [record.getMessage() for record in caplog.records]
    assert held == (
        "Cluster c takes no jobs of partition 'p' now: the partition is drained. They wait, and "
        "one of them asks every 30 s."
    )
    assert opened == "Cluster c takes jobs of partition 'p' again."


def test_a_job_that_was_asked_for_before_its_lane_was_closed_does_not_open_it(site: Site) -> None:
    jobs = [site.job(f"t{number}") for number in range(3)]
    site.holds.answered(jobs[0], DRAINED)
    site.holds.answered(jobs[1], Accepted("7"))
    assert site.holds.reason(jobs[2]) == "the partition is drained"


def test_a_lane_is_what_limits_apply_to(site: Site) -> None:
    request = site.job("t", None).request
    wide = replace(request, resources=Resources(nodes=3))
    assert lane_of(request) == lane_of(wide)
    assert str(lane_of(wide)) == "jobs without partition and account"
    named = Resources(partition="p", account="mx", qos="high", nodes=3)
    told = str(lane_of(replace(request, resources=named)))
    assert told == "jobs of partition 'p', account 'mx', qos 'high'"


def test_lanes_of_which_no_job_asks_any_more_are_forgotten(site: Site) -> None:
    """Accounts, say, are whatever users write."""
    for number in range(50):
        site.says[f"p{number}"] = DRAINED
        site.take(site.job(f"t{number}", f"p{number}"))
    later(site, FORGET_S + ASK_S)
    site.take(site.job("other", "q"))
    assert len(site.holds._lanes) == 0
