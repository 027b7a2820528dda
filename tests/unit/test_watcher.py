"""Rules of watching, with a batch system that says what it is told to say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.clusters import Cluster
from zwrap.configuration import Configuration
from zwrap.errors import TemporaryError, UnreachableError
from zwrap.job import JobStatus, State
from zwrap.ledger import SUBMITTED, Attempt, Ledger
from zwrap.scheduler import Command, Question
from zwrap.service import watcher
from zwrap.service.watcher import CLUSTER_TOPIC, JOB_TOPIC, Watch, Watcher
from zwrap.transport.memory import MemoryTransport


class Told:
    """A batch system that says what it is told to say."""

    def __init__(self) -> None:
        self.live: dict[str, JobStatus] = {}
        self.ended: dict[str, JobStatus] = {}
        self.reachable = True
        self.questions: list[str] = []

    def _answer(self, name: str, value: Any) -> Any:
        def read(reply: object) -> Any:
            self.questions.append(name)
            if not self.reachable:
                raise UnreachableError("It could not be asked.")
            return dict(value)

        return Question(Command(argv=["true"]), read)

    def states(self) -> Any:
        return self._answer("states", self.live)

    def accounting(self, job_ids: Any) -> Any:
        return self._answer("accounting", self.ended)


def status(job_id: str, state: State, **values: Any) -> JobStatus:
    return JobStatus(job_id=job_id, name="n", state=state, **values)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.in_file(tmp_path / "ledger.sqlite")
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
def watch(system: Told, ledger: Ledger, heard: MemoryTransport) -> Watch:
    cluster = Cluster("c", "told", system, "t", {}, watch_s=1.0)  # type: ignore[arg-type]
    return Watch(cluster, ledger, heard)


def told(transport: MemoryTransport, topic: str) -> list[Any]:
    bodies = []
    while delivery := transport.receive(0.01):
        if delivery.source == topic:
            bodies.append(delivery.message.body)
    return bodies


def test_only_what_changed_is_told(
    watch: Watch, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    system.live = {
        "1": status("1", State.PENDING, reason="Resources"),
        "2": status("2", State.RUNNING, node="n1"),
        "99": status("99", State.RUNNING),
    }
    watch.look(ledger.open("c"))
    assert [(each["job_id"], each["state"]) for each in told(heard, JOB_TOPIC)] == [
        ("1", "pending"), ("2", "running"),
    ]  # fmt: skip
    watch.look(ledger.open("c"))
    assert told(heard, JOB_TOPIC) == []
    assert system.questions == ["states", "states"], "nobody left, so no accounting"
    system.live["1"] = status("1", State.PENDING, reason="Priority")
    watch.look(ledger.open("c"))
    assert [each["reason"] for each in told(heard, JOB_TOPIC)] == ["Priority"]


def test_who_left_is_looked_up_and_then_left_alone(
    watch: Watch, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    system.live = {"2": status("2", State.RUNNING)}
    system.ended = {"1": status("1", State.OUT_OF_MEMORY, signal=9, node="n7")}
    watch.look(ledger.open("c"))
    [first, _] = told(heard, JOB_TOPIC)
    assert (first["state"], first["signal"], first["node"]) == ("out_of_memory", 9, "n7")
    row = ledger.get("t1-1")
    assert row
    assert (row.seen_state, row.signal) == ("out_of_memory", 9)
    assert [each.token for each in ledger.open("c")] == ["t2-1"]
    watch.look(ledger.open("c"))
    assert system.questions == ["states", "accounting", "states"]


def test_who_is_nowhere_is_gone_and_only_later_lost(
    watch: Watch, system: Told, ledger: Ledger, heard: MemoryTransport, monkeypatch: Any
) -> None:
    system.live = {"2": status("2", State.RUNNING)}
    watch.look(ledger.open("c"))
    assert told(heard, JOB_TOPIC)[0]["state"] == "gone"
    watch.look(ledger.open("c"))
    assert told(heard, JOB_TOPIC) == []
    assert len(ledger.open("c")) == 2, "a record of it may still come"
    monkeypatch.setattr(watcher, "LOST_S", -1.0)
    watch.look(ledger.open("c"))
    assert told(heard, JOB_TOPIC)[0]["state"] == "lost"
    assert [each.token for each in ledger.open("c")] == ["t2-1"]


def test_a_cluster_that_cannot_be_asked_changes_no_job(
    watch: Watch, system: Told, ledger: Ledger, heard: MemoryTransport
) -> None:
    system.live = {"1": status("1", State.RUNNING), "2": status("2", State.RUNNING)}
    watch.look(ledger.open("c"))
    told(heard, JOB_TOPIC)
    before = ledger.all()
    system.reachable = False
    watch.look(ledger.open("c"))
    [body] = told(heard, CLUSTER_TOPIC)
    assert body == {"cluster": "c", "state": "away", "reason": "It could not be asked."}
    assert ledger.all() == before
    system.reachable = True
    watch.look(ledger.open("c"))
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
    assert caplog.text.count("Nothing is watched for 10 s: The ledger cannot be used.") == 1
    service.close()


def test_the_interval_grows_while_nothing_changes(
    watch: Watch, system: Told, ledger: Ledger, monkeypatch: Any
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    system.live = {"1": status("1", State.RUNNING), "2": status("2", State.RUNNING)}

    def pause() -> float:
        """So long it waits after the next look."""
        watch.look(ledger.open("c"))
        began = now[0]
        while not watch.is_due:
            now[0] += 0.05
        return now[0] - began

    assert pause() == pytest.approx(1.0, abs=0.06), "after a change"
    assert [round(pause(), 1) for _ in range(6)][-1] == pytest.approx(4.0, abs=0.1)
    system.reachable = False
    assert [round(pause(), 1) for _ in range(6)][-1] == pytest.approx(10.0, abs=0.1)
    system.reachable = True
    assert pause() <= 1.6, "it is up again"
