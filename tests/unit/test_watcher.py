"""Rules of watching, with a batch system that says what it is told to say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.attempt.verdict import Verdict
from zwrap.calls import ask as calls
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.site import Configuration
from zwrap.errors import QueueFullError, TemporaryError
from zwrap.job import Outcome, State
from zwrap.service.watcher import cluster as watch_module, conclusion
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.service.watcher.events import CLUSTER_TOPIC, JOB_TOPIC
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.watcher import Watcher
from zwrap.submission.clusters import Cluster
from zwrap.transport.memory import MemoryTransport

from .watched import Clock, Told, status, told, turn


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock)
    for number in ("1", "2"):
        opened.reserve([Attempt(
            token=f"t{number}-1", recipe_id="r", step=1, cluster="c", job_name="n",
            job_directory="/d",
        )])  # fmt: skip
        opened.record({f"t{number}-1": {"state": SUBMITTED, "job_id": number}})
    yield opened
    opened.close()


@pytest.fixture
def system() -> Told:
    return Told()


@pytest.fixture
def heard() -> Iterator[MemoryTransport]:
    transport = MemoryTransport()
    for topic in (JOB_TOPIC, CLUSTER_TOPIC):
        transport.subscribe_topic(topic)
    yield transport
    transport.close()


@pytest.fixture
def heartbeats(clock: Clock) -> Heartbeats:
    return Heartbeats(clock)


@pytest.fixture
def watch(
    system: Told, ledger: Ledger, heard: MemoryTransport, heartbeats: Heartbeats, clock: Clock
) -> WatchedCluster:
    settings = ClusterSettings(kind="told", watch_s=1.0, give_up_s=0, stalled_s=5.0, lost_s=25.0)
    cluster = Cluster("c", settings, system)  # type: ignore[arg-type]
    return WatchedCluster(cluster, ledger, heard, heartbeats, clock)


def test_only_what_changed_is_told(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    system.live = {
        "1": status("1", State.PENDING, reason="Resources"),
        "2": status("2", State.RUNNING, node="n1"),
        "99": status("99", State.RUNNING),
    }
    turn(watch, ledger)
    assert [(each["job_id"], each["state"]) for each in told(heard, JOB_TOPIC)] == [
        ("1", "pending"), ("2", "running"),
    ]  # fmt: skip
    turn(watch, ledger)
    assert told(heard, JOB_TOPIC) == []
    assert system.questions == ["states", "states"], "nobody left, so no accounting"
    system.live["1"] = status("1", State.PENDING, reason="Priority")
    turn(watch, ledger)
    assert [each["reason"] for each in told(heard, JOB_TOPIC)] == ["Priority"]


def test_who_left_is_looked_up_and_then_left_alone(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    system.live = {"2": status("2", State.RUNNING)}
    system.ended = {"1": status("1", State.OUT_OF_MEMORY, signal=9, node="n7")}
    turn(watch, ledger)
    [first, _] = told(heard, JOB_TOPIC)
    assert (first["state"], first["signal"], first["node"]) == ("out_of_memory", 9, "n7")
    row = ledger.get("t1-1")
    assert row
    assert (row.seen_state, row.signal) == ("out_of_memory", 9)
    assert [each.token for each in ledger.unconcluded("c") if each.ended is None] == ["t2-1"]
    turn(watch, ledger)
    assert system.questions == ["states", "accounting", "states"]


def test_who_is_nowhere_is_gone_and_only_later_lost(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport, clock: Clock,
    heartbeats: Heartbeats,
) -> None:  # fmt: skip
    system.live = {"2": status("2", State.RUNNING)}
    turn(watch, ledger)
    assert told(heard, JOB_TOPIC)[0]["state"] == "gone"
    turn(watch, ledger)
    assert told(heard, JOB_TOPIC) == []
    assert len(ledger.unconcluded("c")) == 2, "a record of it may still come"
    clock.now += 30
    heartbeats.hear({})
    clock.now += 6
    heartbeats.hear({})
    turn(watch, ledger)
    assert system.cancelled == [["1"]]
    assert told(heard, JOB_TOPIC)[0]["state"] == "gone", "it has an interval to end in"
    clock.now += 1
    turn(watch, ledger)
    assert told(heard, JOB_TOPIC)[0]["state"] == "lost"
    assert [each.token for each in ledger.unconcluded("c") if each.ended is None] == ["t2-1"]


def test_a_number_that_was_given_again_is_another_job(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    """A controller that was killed may forget a job, and begin to count from an earlier state."""
    system.live = {"2": status("2", State.RUNNING)}
    system.ended = {"1": status("1", State.COMPLETED, name="n.another-1")}
    turn(watch, ledger)
    assert told(heard, JOB_TOPIC)[0]["state"] == "gone"
    row = ledger.get("t1-1")
    assert row
    assert (row.seen_state, row.outcome, row.ended) == ("gone", None, None)


def test_who_is_gone_and_has_spoken_is_believed_at_once(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport, tmp_path: Path
) -> None:
    """The accounting will never have a record of the job."""
    ledger.record({"t1-1": {"job_directory": str(tmp_path)}})
    (tmp_path / "verdict.json").write_text("{}")
    system.live = {"2": status("2", State.RUNNING)}
    turn(watch, ledger)
    turn(watch, ledger)
    row = ledger.get("t1-1")
    assert row
    assert row.ended


def test_who_runs_for_ever_and_has_spoken_long_ago_has_ended(
    watch: WatchedCluster, system: Told, ledger: Ledger, clock: Clock, heartbeats: Heartbeats,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Daemons that were killed as a job ended never hear of it."""
    ledger.record({"t1-1": {"job_directory": str(tmp_path)}})
    system.live = {"1": status("1", State.RUNNING), "2": status("2", State.RUNNING)}
    turn(watch, ledger)
    (tmp_path / "verdict.json").write_text("{}")

    def ended_within(seconds: float, *, heard: bool) -> list[str]:
        until = clock.now + seconds
        while clock.now < until:
            clock.now += 1
            heartbeats.hear({"token": "t1-1"} if heard else {})
            turn(watch, ledger)
        return [each.token for each in ledger.queries.newest(10_000) if each.ended]

    assert ended_within(60, heard=True) == [], "its commands after the wrapper may run"
    assert ended_within(20, heard=False) == []
    assert ended_within(40, heard=False) == ["t1-1"], "the other has said nothing"


def test_a_cluster_that_cannot_be_asked_changes_no_job(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    system.live = {"1": status("1", State.RUNNING), "2": status("2", State.RUNNING)}
    turn(watch, ledger)
    told(heard, JOB_TOPIC)
    before = ledger.queries.newest(10_000)
    system.reachable = False
    turn(watch, ledger)
    [body] = told(heard, CLUSTER_TOPIC)
    assert body == {"cluster": "c", "state": "away", "reason": "It could not be asked."}
    assert ledger.queries.newest(10_000) == before
    system.reachable = True
    turn(watch, ledger)
    assert [each["state"] for each in told(heard, CLUSTER_TOPIC)] == ["up"]


def test_a_ledger_that_is_away_is_waited_for(
    heard: MemoryTransport, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = Watcher(Configuration(), heard)

    def away(*_: object) -> list[str]:
        raise TemporaryError("The ledger cannot be used.")

    with monkeypatch.context() as outage:
        outage.setattr(Ledger, "open_clusters", away)
        service.idle()
        service.idle()
    assert caplog.text.count("Jobs are not followed for 10 s: The ledger cannot be used.") == 1
    service.close()


def test_the_interval_grows_while_no_job_changes(
    watch: WatchedCluster, system: Told, ledger: Ledger, clock: Clock
) -> None:
    system.live = {"1": status("1", State.RUNNING), "2": status("2", State.RUNNING)}

    def pause() -> float:
        """Wait for the next question; return the seconds until it was asked."""
        began, asked = clock.now, len(system.questions)
        while len(system.questions) == asked:
            clock.now += 0.05
            watch.turn()
        return clock.now - began

    watch.turn()
    assert pause() == pytest.approx(1.0, abs=0.06), "after a change"
    assert [round(pause(), 1) for _ in range(6)][-1] == pytest.approx(1.8, abs=0.1)
    system.reachable = False
    assert [round(pause(), 1) for _ in range(7)][-1] == pytest.approx(10.0, abs=0.1)
    system.reachable = True
    pause()
    assert pause() <= 1.6, "it is up again"


@pytest.mark.usefixtures("at_once")
def test_a_job_whose_end_was_seen_is_concluded_before_the_next_question(
    watch: WatchedCluster, system: Told, ledger: Ledger, clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(conclusion.InDirectory, "settle_s", lambda *_: 0.5)
    monkeypatch.setattr(conclusion.InDirectory, "find", lambda *_: VERDICT)
    system.ended = {each: status(each, State.CANCELLED) for each in ("1", "2")}
    watch.turn()
    clock.now += 0.4
    watch.turn()
    assert len(ledger.unconcluded("c")) == 2
    clock.now += 0.2
    watch.turn()
    assert ledger.unconcluded("c") == []
    assert system.questions == ["states", "accounting"]


VERDICT = Verdict(
    token="t1-1", outcome=Outcome.FAILURE, witness="cluster c", cause="it was cancelled",
    job_id="1", exit_status=1,
)  # fmt: skip


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "SETTLE_S", 0.0)
    monkeypatch.setattr(conclusion, "SETTLE_NETWORK_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_the_end_of_a_job_is_told_once_it_is_concluded(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport, clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[str | None] = []

    def find(_: object, attempt: Attempt) -> Verdict | None:
        asked.append(attempt.job_id)
        if len(asked) == 1:
            raise QueueFullError("full")
        return None if len(asked) == 2 else VERDICT

    monkeypatch.setattr(conclusion.InDirectory, "find", find)
    system.live = {"2": status("2", State.RUNNING)}
    system.ended = {"1": status("1", State.CANCELLED)}
    for number in range(5):
        assert asked == ["1"] * max(0, min(number - 1, 3))
        turn(watch, ledger)
        clock.now += 2
    row = ledger.get("t1-1")
    assert row
    assert (row.outcome, row.cause, row.witness) == ("failure", "it was cancelled", "cluster c")
    told_last = told(heard, JOB_TOPIC)[-1]
    assert (told_last["job_id"], told_last["outcome"]) == ("1", "failure")


@pytest.mark.usefixtures("at_once")
def test_where_nobody_can_be_told_the_ledger_says_so(
    watch: WatchedCluster, system: Told, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    system.live = {"2": status("2", State.RUNNING)}
    system.ended = {"1": status("1", State.FAILED)}
    for _ in range(3):
        turn(watch, ledger)
    row = ledger.get("t1-1")
    assert row
    assert (row.outcome, row.witness) == ("unknown", "none")
    assert caplog.text.count("Its directory /d is gone") == 1


@pytest.fixture
def acts(system: Told, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of what is done about stuck jobs: states they are concluded in, jobs ended."""
    done: list[Any] = []

    def find(_: object, attempt: Attempt) -> Verdict:
        done.append(attempt.seen_state)
        return VERDICT

    monkeypatch.setattr(conclusion.InDirectory, "find", find)
    monkeypatch.setattr(system, "cancel", done.append, raising=False)
    monkeypatch.setattr(watch_module, "ask", lambda question: question and calls.ask(question))
    return done


@pytest.mark.usefixtures("at_once")
def test_a_job_that_waits_for_what_will_never_come_is_given_up(
    watch: WatchedCluster, system: Told, ledger: Ledger, acts: list[Any]
) -> None:
    for job_id in "12":
        reason = "InvalidAccount" if job_id == "1" else "Resources"
        system.live[job_id] = status(
            job_id, State.PENDING, reason=reason, stuck=reason == "InvalidAccount"
        )
    turn(watch, ledger)
    assert acts == [], "a person may be about to change that"
    turn(watch, ledger)
    assert acts == ["hopeless", ["1"]], "first the verdict, then the end"
    row = ledger.get("t1-1")
    assert row
    assert (row.seen_state, row.seen_reason) == ("hopeless", "InvalidAccount")
    assert row.ended


@pytest.mark.usefixtures("at_once")
def test_a_job_on_a_host_that_does_not_answer_is_given_up_unless_its_wrapper_is_heard(
    watch: WatchedCluster, system: Told, ledger: Ledger, heartbeats: Heartbeats, acts: list[Any],
    clock: Clock,
) -> None:  # fmt: skip
    system.live = {"1": status("1", State.RUNNING, reason="host n1 is silent", stuck=True)}
    heartbeats.hear({"token": "t1-1"})
    for _ in range(3):
        turn(watch, ledger)
    assert acts == []
    clock.now += 6  # stalled_s
    turn(watch, ledger)
    assert acts == ["node_fail", ["1"]]


def test_an_expected_start_is_told_when_it_moves(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    now = 1_000_000.0
    system.live = {"2": status("2", State.RUNNING)}
    expected = []
    for starts in (now + 1000, now + 1300, now + 5000, None):
        system.live["1"] = status("1", State.PENDING, reason="Priority", starts=starts)
        turn(watch, ledger)
        expected.append([
            each["expected_start"] for each in told(heard, JOB_TOPIC) if each["job_id"] == "1"
        ])  # fmt: skip
    assert expected == [[now + 1000], [], [now + 5000], []]


def test_a_job_that_runs_and_is_not_heard_of_is_stalled(
    watch: WatchedCluster,
    system: Told,
    ledger: Ledger,
    heard: MemoryTransport,
    heartbeats: Heartbeats,
    clock: Clock,
) -> None:
    """A heartbeat ends that state. A job that was never heard, or does not run, is not stalled."""

    def stalled() -> list[tuple[str, str]]:
        turn(watch, ledger)
        return [(each["job_id"], each["state"]) for each in told(heard, JOB_TOPIC)]

    system.live = {"1": status("1", State.RUNNING), "2": status("2", State.RUNNING)}
    heartbeats.hear({"token": "t1-1"})
    assert stalled() == [("1", "running"), ("2", "running")]
    clock.now += 6
    assert stalled() == [("1", "stalled")]
    assert stalled() == []
    row = ledger.get("t1-1")
    assert row
    assert row.stalled
    assert row.stalled == clock.now - 6
    heartbeats.hear({"token": "t1-1"})
    assert stalled() == [("1", "running")]
    clock.now += 6
    system.live["1"] = status("1", State.SUSPENDED)
    assert stalled() == [("1", "suspended")]
    row = ledger.get("t1-1")
    assert row
    assert row.stalled is None


@pytest.mark.usefixtures("at_once")
def test_an_odd_status_of_a_live_job_keeps_no_other_from_being_concluded(
    watch: WatchedCluster, system: Told, ledger: Ledger, clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The batch system is not asked more often because of it."""
    monkeypatch.setattr(conclusion.InDirectory, "find", lambda *_: VERDICT)
    ledger.record({"t1-1": {"seen_state": "failed", "ended": clock.now}})
    system.live = {"2": status("2", "of another kind")}  # type: ignore[arg-type]
    for _ in range(10):
        with contextlib.suppress(AttributeError):
            watch.turn()
        clock.now += 0.1
    assert [each.token for each in ledger.unconcluded("c")] == ["t2-1"]
    assert system.questions == ["states"]


def test_an_answer_that_a_site_s_own_class_cannot_read_changes_no_job(
    watch: WatchedCluster, system: Told, ledger: Ledger, heard: MemoryTransport,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def states() -> Any:
        raise KeyError("JB_name")

    monkeypatch.setattr(system, "states", states)
    before = ledger.queries.newest(10_000)
    for _ in range(3):
        turn(watch, ledger)
    assert ledger.queries.newest(10_000) == before
    assert {each["state"] for each in told(heard, CLUSTER_TOPIC)} == {"away"}
    assert caplog.text.count("Traceback") == 1
