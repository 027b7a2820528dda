"""A fault of one row stays with it, and an outage that all rows share concludes none."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.site import Configuration
from zwrap.errors import OutageError, QueueFullError, TemporaryError, TransportError
from zwrap.host.processes import process_identity
from zwrap.job import Cause
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.faults import Faults
from zwrap.service.succession import LIMIT
from zwrap.service.watcher import conclusion, watcher
from zwrap.service.watcher.cluster import WatchedCluster
from zwrap.service.watcher.conclusion import InDirectory
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.rows import LAST_S, POSTPONED_S, TRIES
from zwrap.service.watcher.watcher import PAUSE_FIRST_S, Watcher
from zwrap.submission.clusters import Cluster
from zwrap.transport.memory import MemoryTransport


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Ended:
    """A batch system whose jobs have all ended."""

    error_patterns: ClassVar[dict[str, Cause]] = {}


class House:
    """A ledger with jobs that have ended, their directories, and who concludes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.transport = MemoryTransport()
        self.ledger = Ledger(f"sqlite:///{path}/ledger.sqlite", self.clock)
        self.faults = Faults()
        self.output: dict[str, Any] = {"failure": 2}
        self.heartbeats = Heartbeats(self.clock)
        self.watched = self.watcher()

    def watcher(self) -> WatchedCluster:
        settings = ClusterSettings(kind="told", watch_s=1.0)
        cluster = Cluster("c", settings, Ended())  # type: ignore[arg-type]
        return WatchedCluster(
            cluster, self.ledger, self.transport, self.heartbeats, self.clock,
            self.faults,
        )  # fmt: skip

    def jobs(self, count: int) -> list[Path]:
        """Add jobs that ended without a verdict of their wrappers; return their directories."""
        first = len(self.ledger.queries.newest(10_000))
        self.clock.now += 0.001  # the ledger lists attempts in the order of their times
        rows = [self._row(number) for number in range(first, first + count)]
        self.ledger.reserve(rows)
        ended = {"state": SUBMITTED, "seen_state": "failed", "ended": self.clock() - 1000.0}
        self.ledger.record({row.token: {**ended, "job_id": row.token} for row in rows})
        return [Path(row.job_directory) for row in rows]

    def _row(self, number: int) -> Attempt:
        token = f"t{number}-1"
        directory = JobDirectory(self.path / "work" / f"{number}" / ".zwrap" / token)
        directory.make()
        recipe: dict[str, Any] = {
            "start": [[1, []]],
            "1": {"queue": "cluster.submission", "output": self.output},
            "2": {"queue": "failed"},
        }
        body = Envelope(Recipe(recipe), 1, environment={"ID": "r"}).body()
        (directory.path / SUBMISSION).write_bytes(
            encode({"header": {"zwrap-id": f"id-{number}"}, "message": body})
        )
        return Attempt(token=token, recipe_id="r", step=1, cluster="c", job_name="n",
                       job_directory=str(directory.path))  # fmt: skip

    def turn(self) -> None:
        ended = [each for each in self.ledger.unconcluded("c") if each.ended is not None]
        self.watched.conclude(ended)

    def turns(self, seconds: float, every_s: float = 5.0) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += every_s
            self.turn()

    def outcomes(self) -> list[str | None]:
        return [row.outcome for row in self.ledger.queries.newest(10_000)]

    def told(self) -> int:
        return len(self.transport.broker.queues.get("failed", ()))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(conclusion, "filesystem_of", lambda _: "ext4")
    made = House(tmp_path)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN])
def test_a_filesystem_that_is_away_for_ten_minutes_concludes_none_of_200_jobs(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    caplog.set_level(logging.INFO)
    house.jobs(200)
    usual = os.lstat

    def away(path: Any, **others: Any) -> Any:
        if str(path).startswith(f"{house.path}/"):
            raise OSError(number, os.strerror(number), str(path))
        return usual(path, **others)

    with monkeypatch.context() as fault:
        fault.setattr(os, "lstat", away)
        house.turns(600.0, 20.0)
    assert house.outcomes() == [None] * 200
    said = os.strerror(number)
    assert caplog.text.count(said) == 1, "once, for all"
    house.turns(LAST_S + 60.0)
    assert house.outcomes() == ["failure"] * 200
    assert house.told() == 200
    assert caplog.text.count(f"No job waits any more because of: {said}") == 1


@pytest.mark.parametrize("error", [QueueFullError("full"), TemporaryError("later")])
def test_a_row_that_has_to_wait_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    house.jobs(3)
    usual = InDirectory.find

    def find(self: InDirectory, attempt: Attempt) -> Any:
        if attempt.token == "t0-1":
            raise error
        return usual(self, attempt)

    with monkeypatch.context() as fault:
        fault.setattr(InDirectory, "find", find)
        house.turn()
        assert house.outcomes() == [None, "failure", "failure"]
        house.turns(3 * 3600.0, 60.0)
        assert house.outcomes() == [None, "failure", "failure"], "without a limit in time"
    house.turns(LAST_S + 5)
    assert house.outcomes() == ["failure"] * 3


def test_an_unforeseen_fault_of_one_row_is_told_once_and_is_its_own(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory, *_ = house.jobs(3)
    usual, tries = InDirectory.find, []

    def find(self: InDirectory, attempt: Attempt) -> Any:
        if attempt.token == "t0-1":
            tries.append(attempt)
            raise KeyError(f"odd {len(tries)}")
        return usual(self, attempt)

    monkeypatch.setattr(InDirectory, "find", find)
    house.turn()
    assert house.outcomes() == [None, "failure", "failure"], "in the same turn"
    house.turns(300.0)
    assert len(tries) == TRIES
    assert caplog.text.count("Traceback") == 1
    assert f"token t0-1, message id-0, directory {directory}" in caplog.text
    assert house.outcomes() == ["failure"] * 3
    cause = house.ledger.queries.newest(10_000)[0].cause
    assert cause
    assert "KeyError: 'odd 5'" in cause
    assert house.told() == 3


def test_a_fault_of_five_rows_in_succession_is_none_of_theirs(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug, or a broken installation, may not conclude everything."""
    house.jobs(20)
    tried: set[str] = set()

    def find(_: InDirectory, attempt: Attempt) -> Any:
        tried.add(attempt.token)
        raise AttributeError("no such thing in this version")

    with monkeypatch.context() as fault:
        fault.setattr(InDirectory, "find", find)
        with pytest.raises(OutageError, match="AttributeError: no such thing"):
            house.turn()
        assert len(tried) == LIMIT
        for _ in range(100):
            house.clock.now += 60
            with pytest.raises(OutageError):  # as long as it lasts
                house.turn()
        assert house.outcomes() == [None] * 20
        assert house.faults.unforeseen == 20
        assert caplog.text.count("Traceback") == 20, "each row once"
    house.turns(LAST_S + 5)
    assert house.outcomes() == ["failure"] * 20


def test_hostile_rows_with_the_same_fault_hold_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They wait with back-off; the others are looked at in the next turn, half a second on."""
    caplog.set_level(logging.INFO)
    house.jobs(3 * LIMIT)
    usual = InDirectory.find
    hostile = {f"t{number}-1" for number in range(3 * LIMIT)}

    def find(self: InDirectory, attempt: Attempt) -> Any:
        if attempt.token in hostile:
            raise KeyError("of a kind that nobody foresaw")
        return usual(self, attempt)

    monkeypatch.setattr(InDirectory, "find", find)
    monkeypatch.setattr(watcher, "elapsed", house.clock)
    service = Watcher(Configuration(), house.transport)
    monkeypatch.setattr(Ledger, "open_clusters", lambda _: ["c"])
    monkeypatch.setattr(service, "_follow", lambda _: None)
    service._watched["c"] = house.watched
    monkeypatch.setattr(WatchedCluster, "turn", lambda _: house.turn())

    def half_a_second() -> None:
        house.clock.now += 0.5
        service.idle()

    house.jobs(1)
    for _ in range(5):
        half_a_second()
    assert house.outcomes()[3 * LIMIT :] == ["failure"]
    for number in range(200):
        house.jobs(1)
        half_a_second()
        half_a_second()
        assert house.outcomes()[3 * LIMIT :] == ["failure"] * (number + 2)
    assert house.outcomes() == ["failure"] * (3 * LIMIT + 201), "the hostile ones, too, in the end"
    assert caplog.text.count("Jobs wait that meet this") == 1
    assert caplog.text.count("Jobs are followed again") == 1
    assert "Jobs are not followed" not in caplog.text
    service.close()


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), MemoryError(), OutageError("away")]
)
def test_what_this_process_lacks_is_no_fault_of_a_row(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    house.jobs(3)

    def find(*_: object) -> Any:
        raise error

    with monkeypatch.context() as fault:
        fault.setattr(InDirectory, "find", find)
        for _ in range(20):
            house.clock.now += 60
            with pytest.raises(OutageError):
                house.turn()
    assert house.outcomes() == [None] * 3
    house.turns(POSTPONED_S + 5)
    assert house.outcomes() == ["failure"] * 3


def test_a_row_that_alone_meets_an_outage_holds_up_no_other_for_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message of it, say, that makes the server close the connection."""
    house.jobs(3)
    usual = InDirectory.find

    def find(self: InDirectory, attempt: Attempt) -> Any:
        if attempt.token == "t0-1":
            raise TransportError("the connection is lost")
        return usual(self, attempt)

    monkeypatch.setattr(InDirectory, "find", find)
    with pytest.raises(OutageError):
        house.turn()
    house.clock.now += PAUSE_FIRST_S
    house.turn()
    assert house.outcomes() == [None, "failure", "failure"]


def test_a_ledger_whose_disk_is_full_loses_no_end_and_sends_none_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.jobs(20)

    def full(*_: object) -> None:
        raise OutageError("The ledger cannot be used: database or disk is full.")

    with monkeypatch.context() as fault:
        fault.setattr(Ledger, "record", full)
        for _ in range(60):
            house.clock.now += 10
            with pytest.raises(OutageError):
                house.turn()
        assert house.outcomes() == [None] * 20
    house.turns(POSTPONED_S + 5)
    assert house.outcomes() == ["failure"] * 20
    assert house.told() == 20


def test_a_database_that_may_not_grow_loses_no_end_and_sends_none_twice(house: House) -> None:
    """SQLite itself says that the disk is full (PRAGMA max_page_count)."""
    house.jobs(60)
    full = [True]

    def limited(connection: Any, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages if full else 2**30}")

    engine = house.ledger.database.engine
    sa.event.listen(engine, "connect", limited)
    engine.dispose()
    refused: list[str] = []
    for _ in range(10):
        house.clock.now += 60
        try:
            house.turn()
        except OutageError as error:
            refused.append(str(error))
    assert refused
    assert all("database or disk is full" in said for said in refused)
    assert set(house.outcomes()) <= {None, "failure"}
    full.clear()
    engine.dispose()
    house.turns(POSTPONED_S + 60)
    assert house.outcomes() == ["failure"] * 60
    ids = [entry.message.id for entry in house.transport.broker.queues["failed"]]
    assert len(ids) == len(set(ids)) == 60


HOSTILE = {
    "verdict.json": [b"x", b"{}", b"[" * 5000],
    "claim.json": [b"", b'{"token": "t0-1", "job_id": "1", "process": "' + b"9" * 5000 + b'"}'],
    SUBMISSION: [b"", b'{"header": {}, "message": 5}',
                 b'{"header": {"original-destination": "/queue/q"}, "asked": {"time_limit": 1'
                 + b"0" * 400 + b'}, "message": {}, "retry": {"on": ["timeout"]}}'],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"), [(name, each) for name, some in HOSTILE.items() for each in some]
)
def test_what_lies_in_one_job_directory_holds_up_no_other_job(
    house: House, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    house.jobs(1)
    hostile, *_ = house.jobs(1)
    house.jobs(1)
    (hostile / name).write_bytes(content)
    house.turn()
    first, odd, last = house.outcomes()
    assert (first, last) == ("failure", "failure")
    assert odd in ("failure", "unknown")
    assert (odd == "unknown") == (name == SUBMISSION)
    assert "Traceback" not in caplog.text


def test_two_watchers_on_one_ledger_conclude_everything_once(house: House) -> None:
    """Both make the outboxes of jobs whose wrappers made none."""
    house.jobs(8)
    problems: list[BaseException] = []
    start = threading.Barrier(2)

    def conclude() -> None:
        mine = house.watcher()
        start.wait()
        try:
            while left := [each for each in house.ledger.unconcluded("c") if each.ended]:
                mine.conclude(left)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=conclude) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert house.outcomes() == ["failure"] * 8
    assert house.told() == 8


def test_a_watcher_pauses_and_tells_when_that_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    monkeypatch.setattr(watcher, "elapsed", clock)
    service = Watcher(Configuration(), MemoryTransport())
    asked: list[float] = []

    def away(_: Ledger) -> list[str]:
        asked.append(clock.now)
        raise OutageError("The ledger cannot be used.")

    with monkeypatch.context() as outage:
        outage.setattr(Ledger, "open_clusters", away)
        for _ in range(1200):
            service.idle()
            clock.now += 0.5
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(asked)]
    assert pauses[:4] == [10, 20, 40, 60]
    assert set(pauses[4:]) == {60}
    assert caplog.text.count("Jobs are not followed") == 1
    clock.now += 60
    service.idle()
    service.idle()
    assert caplog.text.count("Jobs are followed again") == 1
    service.close()


def test_a_run_whose_transport_was_away_to_its_end_is_none_that_went_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--once` from cron has no later turn."""
    service = Watcher(Configuration(), MemoryTransport())

    def away(_: Ledger) -> list[str]:
        raise TransportError("It is away.")

    monkeypatch.setattr(Ledger, "open_clusters", away)
    service.idle()
    with pytest.raises(TransportError, match="It is away"):
        service.close()


def test_a_watcher_that_starts_while_the_ledger_is_away_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A unit that is started again and again would be given up by systemd."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path))
    clock = Clock()
    monkeypatch.setattr(watcher, "elapsed", clock)

    def away(_: Configuration) -> Ledger:
        raise OutageError("The ledger cannot be used: connection refused.")

    with monkeypatch.context() as outage:
        outage.setattr(Ledger, "of", away)
        service = Watcher(Configuration(), MemoryTransport())
        for _ in range(600):
            service.idle()
            clock.now += 0.5
    assert caplog.text.count("connection refused") == 1
    clock.now += 60
    service.idle()
    assert caplog.text.count("Jobs are followed again") == 1
    service.close()


def test_a_run_in_which_the_ledger_was_never_there_is_none_that_went_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--once` from cron has no later turn."""

    def away(_: Configuration) -> Ledger:
        raise OutageError("The ledger cannot be used.")

    monkeypatch.setattr(Ledger, "of", away)
    service = Watcher(Configuration(), MemoryTransport())
    service.idle()
    with pytest.raises(OutageError, match="The ledger cannot be used"):
        service.close()


def test_a_cluster_that_cannot_be_followed_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(watcher, "elapsed", clock)
    service = Watcher(Configuration(), MemoryTransport())
    turned: list[str] = []

    class Odd:
        def __init__(self, cluster: Cluster, *_: object, **__: object) -> None:
            self.name = cluster.name

        def turn(self) -> None:
            turned.append(self.name)
            if self.name == "sge":
                raise TypeError("a fault of a site's own class")

        def close(self) -> None:
            pass

    monkeypatch.setattr(watcher, "WatchedCluster", Odd)
    monkeypatch.setattr(Ledger, "open_clusters", lambda _: ["nowhere", "sge", "slurm"])
    for _ in range(3):
        service.idle()
        clock.now += 1
    assert turned == ["sge", "slurm"] * 3
    assert caplog.text.count("Traceback") == 1
    assert "Jobs of cluster sge are not followed: a fault of a site's own class" in caplog.text
    assert caplog.text.count("Jobs of cluster nowhere are not followed") == 1
    service.close()


def test_a_row_is_forgotten_when_another_watcher_concluded_it(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    house.jobs(1)

    def find(*_: object) -> Any:
        raise TemporaryError("later")

    with monkeypatch.context() as fault:
        fault.setattr(InDirectory, "find", find)
        house.turn()
    house.watcher().conclude(house.ledger.unconcluded("c"))
    house.watched.turn()
    assert "No job waits any more" in caplog.text


def test_what_is_asked_of_a_row_is_contained_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.jobs(2)
    monkeypatch.setattr(
        InDirectory, "settle_s",
        lambda _, attempt: 0.0 if attempt.token == "t1-1" else 1 // 0,
    )  # fmt: skip
    house.turn()
    assert house.outcomes() == [None, "failure"]


def test_the_row_of_a_directory_that_cannot_be_a_path_is_unknown(house: House) -> None:
    house.jobs(1)
    house.ledger.record({"t0-1": {"job_directory": "/" + "x" * 300}})
    house.turn()
    assert house.outcomes() == ["unknown"]


@pytest.mark.parametrize("where", ["claim.json", "outbox"])
def test_a_forged_claim_of_a_process_that_lives_keeps_its_row_open_for_a_day(
    house: House, where: str
) -> None:
    """Its job has ended, as the batch system says, and no wrapper sends heartbeats."""
    (path,) = house.jobs(1)
    if where == "outbox":
        lease = path / "outbox" / "pending" / f"{process_identity(os.getppid())},0" / ".lease"
        JobDirectory(path).outbox()
        lease.parent.mkdir(parents=True)
        lease.touch()
        os.utime(lease, (1000, 1000))
    else:
        claim = {"token": "t0-1", "job_id": "1", "process": str(process_identity(os.getppid()))}
        (path / where).write_bytes(encode(claim))

    def hours(count: int) -> None:
        for _ in range(count * 240):
            house.clock.now += 15
            house.heartbeats.hear({"token": "another"})
        house.turn()

    hours(23)
    assert house.outcomes() == [None], "perhaps it lives"
    hours(2)
    assert house.outcomes() == ["failure"]
    if where == "claim.json":
        cause = house.ledger.queries.newest(10_000)[0].cause
        assert cause is not None
        assert "lives, but no heartbeat was heard for a day after the end of the job" in cause


@pytest.fixture
def stranger() -> Iterator[int]:
    """Return a process that lives, and belongs to another user."""
    if os.geteuid():
        yield 1
        return
    with subprocess.Popen(["sleep", "600"], user=65534) as process:
        yield process.pid
        process.kill()


def test_a_claim_of_another_user_s_process_keeps_no_row_open(house: House, stranger: int) -> None:
    (path,) = house.jobs(1)
    claim = {"token": "t0-1", "job_id": "1", "process": str(process_identity(stranger))}
    (path / "claim.json").write_bytes(encode(claim))
    owner = path / "outbox" / "pending" / f"{process_identity(stranger)},0"
    owner.mkdir(parents=True)
    house.turn()
    [row] = house.ledger.queries.newest(10_000)
    assert row.outcome == "failure"
    assert row.cause is not None
    assert "belongs to another user than the job" in row.cause


def test_forged_heartbeats_keep_a_row_open_for_two_weeks_at_most(house: House) -> None:
    (path,) = house.jobs(1)
    claim = {"token": "t0-1", "job_id": "1", "process": str(process_identity(os.getppid()))}
    (path / "claim.json").write_bytes(encode(claim))
    for days, outcome in ((13, None), (2, "failure")):
        for _ in range(days * 24):
            for _ in range(240):
                house.clock.now += 15
                house.heartbeats.hear({"token": "t0-1"})
            house.turn()
        assert house.outcomes() == [outcome]


def test_a_wrapper_that_is_heard_is_never_spoken_for(house: House) -> None:
    (path,) = house.jobs(1)
    JobDirectory(path).claim("t0-1", "1")
    for _ in range(50):
        for _ in range(240):
            house.clock.now += 15
            house.heartbeats.hear({"token": "t0-1"})
        house.turn()
    assert house.outcomes() == [None]


def test_a_watcher_that_has_just_begun_to_listen_speaks_for_nobody_who_lives(house: House) -> None:
    (path,) = house.jobs(1)
    JobDirectory(path).claim("t0-1", "1")
    house.clock.now += 10 * 86_400
    house.heartbeats = Heartbeats(house.clock)
    house.watched = house.watcher()
    house.turns(300.0)
    assert house.outcomes() == [None]
