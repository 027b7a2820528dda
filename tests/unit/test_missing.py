"""Rules for jobs that their batch system does not know any more, or never starts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import NOWHERE, SUBMITTED, Attempt, encode_submission
from zwrap.attempt.verdict import Claim
from zwrap.configuration.clusters import ClusterSettings
from zwrap.errors import UnreachableError
from zwrap.job import Resources, State
from zwrap.message.content import Message
from zwrap.message.jsontext import encode
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.service.watcher.events import JOB_TOPIC, STATISTICS_TOPIC
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.missing import UNLIMITED_S
from zwrap.submission.clusters import Cluster
from zwrap.transport.memory import MemoryTransport

from .watched import Clock, Told, status, told, turn

LOST_S, STALLED_S, OVERTIME_S = 25.0, 5.0, 100.0

RUNNING = {"1": status("1", State.RUNNING, node="n1")}


class Site:
    """One job on one cluster, and the Watcher that follows it."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.system = Told()
        self.settings = ClusterSettings(**{
            "kind": "told", "watch_s": 1.0, "give_up_s": 0, "stalled_s": STALLED_S,
            "lost_s": LOST_S, "overtime_s": OVERTIME_S, **settings,
        })  # fmt: skip
        self.directory = JobDirectory(directory / "job")
        self.directory.make()
        self.ledger = Ledger(f"sqlite:///{directory}/ledger.sqlite", self.clock)
        self.ledger.reserve([Attempt(
            token="t1-1", recipe_id="r", step=1, cluster="c", job_name="n",
            job_directory=str(self.directory.path),
        )])  # fmt: skip
        self.ledger.record({"t1-1": {"state": SUBMITTED, "job_id": "1"}})
        self.transport = MemoryTransport()
        self.transport.subscribe_topic(JOB_TOPIC)
        self.heartbeats = Heartbeats(self.clock)
        self.start()

    def start(self) -> None:
        """Start a Watcher; one that is there has been killed."""
        cluster = Cluster("c", self.settings, self.system)  # type: ignore[arg-type]
        self.watch = WatchedCluster(
            cluster, self.ledger, self.transport, self.heartbeats, self.clock
        )

    def look(self, seconds: float = 1.0, *, heard: bool = False) -> list[str]:
        """Let time pass with heartbeats every few seconds, then look; return the states told."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + 3.0, end)
            self.heartbeats.hear({"token": "t1-1"} if heard else {"service": "Watcher"})
        turn(self.watch, self.ledger)
        return [each["state"] for each in told(self.transport, JOB_TOPIC)]

    @property
    def row(self) -> Attempt:
        row = self.ledger.get("t1-1")
        assert row
        return row

    def claim(self, age_s: float) -> None:
        claim = Claim("t1-1", "1", "99 1 somewhere else")
        file = self.directory.path / "claim.json"
        file.write_bytes(encode(claim))
        os.utime(file, (0, time.time() - age_s))

    def submitted(self, time_limit_s: int | None) -> None:
        message = Message({"recipe": {}}, {}, "m")
        kept = encode_submission(message, "q", Resources(walltime_s=time_limit_s), None)
        (self.directory.path / "submission.json").write_bytes(kept)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def test_a_job_that_is_in_no_list_runs_as_long_as_its_wrapper_is_heard(site: Site) -> None:
    """Options of a site may keep Grid Engine from listing it."""
    assert site.look(heard=True) == ["running"]
    assert site.row.seen_reason == "the batch system does not list it, but its wrapper is heard"
    assert site.look(2 * LOST_S, heard=True) == []
    assert site.look(STALLED_S) == ["gone"]
    assert site.look(LOST_S - 1) == []
    assert site.look(2) == ["gone"]
    assert str(site.row.seen_reason).endswith("it was cancelled in case it runs")
    assert site.system.cancelled == [["1"]]
    assert site.look() == ["lost"]


def test_a_job_whose_wrapper_has_reported_the_end_is_not_kept_open(site: Site) -> None:
    site.system.live = RUNNING
    site.look(heard=True)
    (site.directory.path / "verdict.json").write_text("{}")
    site.system.live = {}
    assert site.look(heard=True) == ["gone"]
    site.look(heard=True)
    assert site.row.ended


def test_a_job_that_is_listed_under_another_id_lives(site: Site) -> None:
    """Slurm lists heterogeneous jobs under such ids."""
    name = "n.t1-1"
    site.system.live = {
        "1+0": status("1+0", State.PENDING, name=name, reason="Resources"),
        "1+1": status("1+1", State.PENDING, name=name),
    }
    assert site.look() == ["pending"]
    site.system.live["1+1"] = status("1+1", State.RUNNING, name=name, node="n7")
    assert site.look() == ["running"]
    assert site.look(10 * LOST_S) == []
    assert (site.row.seen_state, site.row.node, site.row.missing) == ("running", "n7", None)


def test_a_task_of_an_array_is_known_by_its_id_alone(site: Site) -> None:
    """All tasks have the name of the array."""
    site.ledger.record({"t1-1": {"array_token": "a-1", "task": 2, "job_id": "1_2"}})
    site.system.live = {"1_3": status("1_3", State.RUNNING, name="n.a-1")}
    assert site.look() == ["gone"]
    site.system.named = list(site.system.live.values())
    site.look(LOST_S + 1)
    assert site.look() == ["lost"]
    assert site.system.cancelled == [["1_2"]]


def test_a_job_is_looked_up_by_its_name_before_it_is_lost(site: Site) -> None:
    site.look()
    site.system.named = [
        status("1+0", State.NODE_FAIL, name="n.t1-1", node="n1"),
        status("1+1", State.CANCELLED, name="n.t1-1"),
    ]
    assert site.look(LOST_S + 1) == ["node_fail"]
    assert site.row.ended
    assert site.system.cancelled == []


def test_a_job_that_is_recorded_as_running_is_lost_only_after_its_time_limit(site: Site) -> None:
    """Slurm's accounting goes on saying so of a job that its controller forgot."""
    site.submitted(200)
    site.look()
    site.system.named = [status("1", State.RUNNING, name="n.t1-1")]
    assert site.look(LOST_S + 1) == []
    assert site.look(200) == []
    assert site.system.cancelled == []
    assert site.look(OVERTIME_S) == ["gone"]
    assert site.system.cancelled == [["1"]]
    assert site.look() == ["lost"]


def test_watchers_that_look_once_lose_a_job_after_its_time_limit(site: Site) -> None:
    """Each begins to listen anew, and hears nobody; the jobs of that name are cancelled, too."""
    site.submitted(200)
    site.look()
    site.system.named = [status("1+1", State.RUNNING, name="n.t1-1")]
    for passed_s in (LOST_S + 1, 200, OVERTIME_S, 1):
        assert site.row.ended is None
        site.heartbeats = Heartbeats(site.clock)
        site.start()
        site.clock.now += passed_s
        turn(site.watch, site.ledger)
    assert site.row.seen_state == "lost"
    assert site.system.cancelled == [["1", "1+1"]]


def test_a_job_whose_number_was_given_again_touches_no_other(site: Site, tmp_path: Path) -> None:
    """A controller that lost its state gives numbers again."""
    second = Attempt(
        token="t2-1", recipe_id="r", step=1, cluster="c", job_name="n",
        job_directory=str(tmp_path / "second"),
    )  # fmt: skip
    JobDirectory(tmp_path / "second").make()
    site.ledger.reserve([second])
    site.ledger.record({"t2-1": {"state": SUBMITTED, "job_id": "1"}})
    site.system.live = {"1": status("1", State.RUNNING, name="n.t2-1")}
    assert sorted(site.look()) == ["gone", "running"]
    site.system.named = [status("1", State.FAILED, name="n.t1-1")]
    assert site.look(LOST_S + 1) == ["failed"]
    site.look()
    found = site.ledger.get("t2-1")
    assert found
    assert (found.seen_state, found.ended) == ("running", None)
    assert site.system.cancelled == []


def test_a_record_under_a_number_that_was_given_again_ends_no_other_job(site: Site) -> None:
    """Slurm's accounting goes on saying that the job runs which its controller forgot."""
    site.submitted(10)
    site.system.live = {"1": status("1", State.RUNNING, name="n.other-1")}
    site.look()
    site.system.named = [status("1", State.RUNNING, name="n.t1-1")]
    site.look(LOST_S + OVERTIME_S + 11)
    site.look()
    assert site.row.seen_state == "lost"
    assert site.system.cancelled == []


def test_a_job_that_another_watcher_cancelled_has_time_to_end(tmp_path: Path) -> None:
    site = Site(tmp_path, watch_s=10.0)
    site.look()
    site.look(LOST_S + 11)
    assert site.system.cancelled == [["1"]]
    site.start()
    assert site.look(1) == []
    assert site.row.ended is None
    assert "it was cancelled" in str(site.row.seen_reason)
    assert site.look(11) == ["lost"]
    assert site.system.cancelled == [["1"]]
    site.ledger.close()


def test_a_claim_that_is_seen_after_the_cancellation_is_waited_for(site: Site) -> None:
    site.look()
    site.look(LOST_S + 1)
    assert site.system.cancelled == [["1"]]
    site.claim(age_s=10)
    site.look(5)
    assert site.row.ended is None
    assert "it was cancelled" in str(site.row.seen_reason)
    site.claim(age_s=1000)
    assert site.look(5) == ["lost"]
    assert site.system.cancelled == [["1"]]


def test_an_array_that_got_the_number_of_a_lost_job_is_not_cancelled(site: Site) -> None:
    tasks = [status(f"1_{task}", State.RUNNING, name="b") for task in (1, 2)]
    site.system.live = {each.job_id: each for each in tasks}
    site.look()
    site.look(LOST_S + 1)
    assert site.look() == ["lost"]
    assert site.system.cancelled == []


def test_a_job_that_came_back_is_looked_up_anew(site: Site) -> None:
    site.look()
    site.look(LOST_S + 1)
    assert site.system.cancelled == [["1"]]
    site.system.live = RUNNING
    assert site.look() == ["running"]
    site.system.live = {}
    assert site.look() == ["gone"]
    assert site.look(LOST_S + 1) == ["gone"]
    assert site.system.cancelled == [["1"], ["1"]]
    assert site.look() == ["lost"]


def test_a_job_on_a_silent_host_is_not_given_up_before_anybody_is_heard(site: Site) -> None:
    """The Watcher was restarted, or the broker is away."""
    stuck = status("1", State.RUNNING, node="n1", reason="host n1 does not answer", stuck=True)
    site.system.live = {"1": stuck}
    assert site.look(heard=True) == ["running"]
    site.look(200, heard=True)
    site.heartbeats = Heartbeats(site.clock)
    site.start()
    turn(site.watch, site.ledger)
    assert site.system.cancelled == []
    site.claim(age_s=10)
    site.look(LOST_S)
    assert site.system.cancelled == [], "its claim is touched"
    site.claim(age_s=1000)
    site.look(2 * STALLED_S)
    site.look()
    assert site.system.cancelled == [["1"]]


def test_a_job_on_a_silent_host_is_not_waited_for_as_one_that_is_missing(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_s=900, give_up_s=300)
    stuck = status("1", State.RUNNING, node="n1", reason="host n1 does not answer", stuck=True)
    site.system.live = {"1": stuck}
    site.look()
    site.claim(age_s=200)
    site.look(301)
    assert site.system.cancelled == []
    site.claim(age_s=400)
    site.look()
    assert site.system.cancelled == [["1"]]
    site.ledger.close()


def test_an_accounting_that_is_away_keeps_no_listed_job_from_being_followed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    JobDirectory(tmp_path / "second").make()
    site.ledger.reserve([Attempt(
        token="t2-1", recipe_id="r", step=1, cluster="c", job_name="n",
        job_directory=str(tmp_path / "second"),
    )])  # fmt: skip
    site.ledger.record({"t2-1": {"state": SUBMITTED, "job_id": "2"}})
    site.look()

    def away(_: object) -> None:
        raise UnreachableError("slurmdbd is down")

    monkeypatch.setattr(site.system, "accounting", away)
    site.system.live = {"2": status("2", State.RUNNING, name="n.t2-1")}
    assert site.look() == ["running"]
    assert site.row.seen_state == "gone", "nothing new is known of the other"


def test_a_run_that_was_only_heard_ends_the_time_of_waiting(tmp_path: Path) -> None:
    site = Site(tmp_path, pending_s=50)
    site.system.live = {"1": status("1", State.PENDING)}
    site.look()
    site.system.live = {}
    assert site.look(heard=True) == ["running"]
    site.look(100, heard=True)
    site.system.live = {"1": status("1", State.PENDING)}
    assert site.look() == ["pending"]
    assert site.system.cancelled == []
    site.ledger.close()


def test_the_number_of_another_job_is_not_cancelled(site: Site) -> None:
    """A controller that lost its state gives numbers again."""
    site.system.live = {"1": status("1", State.RUNNING, name="another")}
    site.look()
    site.look(LOST_S + 1)
    assert site.look() == ["lost"]
    assert site.system.cancelled == []


def test_a_job_that_cannot_be_cancelled_is_not_lost(site: Site) -> None:
    """It is lost only when its time limit must have ended it."""
    site.submitted(200)
    site.system.can_cancel = False
    assert site.look() == ["gone"]
    assert site.look(LOST_S + 1) == []
    assert site.look(200) == []
    assert site.look(OVERTIME_S) == ["gone"]
    assert str(site.row.seen_reason).endswith(
        "it could not be looked up or cancelled, and its time is over"
    )
    assert site.look() == ["lost"]


@pytest.mark.parametrize(("limit_s", "open_s"), [(500, 500), (None, UNLIMITED_S)])
def test_signs_of_life_keep_a_job_open_until_its_time_limit_is_over(
    site: Site, limit_s: int | None, open_s: float
) -> None:
    site.submitted(limit_s)
    site.look(heard=True)
    site.clock.now += open_s + OVERTIME_S - 10
    assert site.look(3, heard=True) == []
    assert site.look(20, heard=True) == ["gone"]
    assert site.look(heard=True) == ["gone"]
    assert site.system.cancelled == [["1"]]
    assert site.look(heard=True) == ["lost"]


def test_a_claim_that_was_touched_is_a_sign_of_life(site: Site) -> None:
    """Its wrapper touches it while no heartbeat can be sent."""
    site.claim(age_s=100)
    site.look()
    assert site.look(2 * LOST_S) == []
    assert site.system.cancelled == []
    site.claim(age_s=400)
    site.look()
    assert site.look() == ["lost"]


def test_a_watcher_that_hears_nobody_calls_no_job_lost(site: Site) -> None:
    site.look()
    site.clock.now += 2 * LOST_S
    assert site.look(0) == []
    assert site.system.cancelled == []
    site.look(2 * STALLED_S)
    assert site.system.cancelled == [["1"]], "once it has listened"


def test_a_job_that_was_heard_is_not_gone_while_nobody_can_be_heard(site: Site) -> None:
    """The Watcher was started anew, or is cut off."""
    site.look(heard=True)
    site.heartbeats = Heartbeats(site.clock)
    site.start()
    assert site.look(0) == []
    site.clock.now += 100
    assert site.look(0) == []
    assert site.look(2 * STALLED_S) == ["gone"]


def test_since_when_a_job_is_missing_outlives_the_watcher(site: Site) -> None:
    site.look(heard=True)
    since = site.row.missing
    site.look(60, heard=True)
    site.start()
    site.look(60, heard=True)
    assert site.row.missing == since
    assert site.row.gone_s(site.clock.now) == 120
    site.system.live = RUNNING
    site.look()
    assert (site.row.missing, site.row.gone_s(site.clock.now)) == (None, 0)


def test_a_job_that_an_earlier_release_saw_go_is_gone_since_then(site: Site) -> None:
    seen = {"seen_state": "gone", "seen_reason": NOWHERE, "seen": site.clock.now - 2 * LOST_S}
    site.ledger.record({"t1-1": seen})
    site.look(STALLED_S + 1)
    assert site.system.cancelled == [["1"]]
    assert site.look() == ["lost"]


# -- jobs that wait ------------------------------------------------------------------------------


def test_a_job_that_waits_for_too_long_is_told_and_cancelled(tmp_path: Path) -> None:
    site = Site(tmp_path, pending_s=7200)
    site.submitted(None)
    site.system.live = {"1": status("1", State.PENDING, reason="Resources")}
    assert site.look() == ["pending"]
    site.system.live = {"1": status("1", State.PENDING, reason="Priority")}
    site.look(7100)
    site.start()
    assert site.row.ended is None
    site.system.live = {"1": status("1", State.UNKNOWN, reason="its state is 'NEW'")}
    site.look()
    site.system.live = {"1": status("1", State.PENDING, reason="Priority")}
    site.look(200)
    site.look()
    assert site.system.cancelled == [["1"]]
    row = site.row
    assert row.seen_state == "not_started"
    assert row.seen_reason == "pending for 2 hours, at most 2 hours here; the reason is Priority"
    site.ledger.close()


def test_a_job_that_is_requeued_begins_to_wait_anew(tmp_path: Path) -> None:
    site = Site(tmp_path, pending_s=100)
    for _ in range(3):
        site.system.live = {"1": status("1", State.PENDING)}
        site.look(60)
        site.system.live = RUNNING
        site.look(60)
        assert site.row.pending is None
    assert site.row.ended is None
    assert site.system.cancelled == []
    site.ledger.close()


def test_without_a_limit_a_job_may_wait_for_ever(site: Site) -> None:
    site.system.live = {"1": status("1", State.PENDING)}
    site.look()
    site.clock.now += 400 * 86_400
    site.look()
    site.look()
    assert (site.row.ended, site.system.cancelled) == (None, [])


def test_a_state_that_is_not_known_is_told_as_such(site: Site) -> None:
    site.transport.subscribe_topic(STATISTICS_TOPIC)
    reason = "its state is 'POWER_UP_NODE', which is not known here"
    site.system.live = {"1": status("1", State.UNKNOWN, reason=reason)}
    turn(site.watch, site.ledger)
    bodies: dict[str, Any] = {}
    while delivery := site.transport.receive(0.01):
        bodies[delivery.source] = delivery.message.body
    told_of_job = bodies[JOB_TOPIC]
    assert (told_of_job["state"], told_of_job["reason"]) == ("unknown", reason)
    assert bodies[STATISTICS_TOPIC]["UNKNOWN"] == 1
    assert site.row.ended is None
