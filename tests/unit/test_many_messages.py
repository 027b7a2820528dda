"""Thousands of messages of one attempt are sent in portions, and hold up no other attempt."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.finals import FinalSender, OutboxError
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError, QueueFullError, TransportError
from zwrap.host.processes import this_process
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode
from zwrap.service.watcher.conclusion import LARGE_BYTES
from zwrap.service.watcher.rows import MORE_S
from zwrap.transport import mover
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.source import PORTION
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.transport import SpoolTransport

from .test_watcher_rows import (
    House,
    house as house,  # a fixture
)

COMMIT_S = 0.01
"""Time that a commit takes by the clock of these tests, in seconds."""


class Counting(MemoryTransport):
    """Counts what is sent, and how often it was asked to; each commit takes time."""

    def __init__(self, clock: Any = None, refusals: dict[str, Exception] | None = None) -> None:
        super().__init__(MemoryBroker())
        self.clock = clock
        self.refusals = refusals or {}
        self.commits = 0

    def commit(self, messages: Sequence[Outgoing], *more: Any, **others: Any) -> None:
        self.commits += 1
        if self.clock:
            self.clock.now += COMMIT_S
        if error := next(
            (self.refusals[each.destination] for each in messages
             if each.destination in self.refusals), None,
        ):  # fmt: skip
            raise error
        super().commit(messages, *more, **others)

    def sent(self, queue: str) -> list[Any]:
        return [entry.message.body for entry in self.broker.queues.get(queue, ())]


def many(count: int, queue: str = "many", first: int = 0) -> list[Outgoing]:
    return [
        Outgoing(queue, number, {"zwrap-id": f"{queue}{number}"})
        for number in range(first, first + count)
    ]


def end(path: Path, token: str, final: list[Outgoing]) -> None:
    verdict = Verdict(token=token, outcome=Outcome.SUCCESS, witness="wrapper", cause="finished",
                      job_id="7", exit_status=0, final=final)  # fmt: skip
    JobDirectory(path).put_verdict(verdict)


@pytest.fixture
def counted(house: House) -> Counting:
    transport = Counting(house.clock)
    house.transport = transport
    house.watched = house.watcher()
    return transport


def token_of(path: Path) -> str:
    return path.name


def turn(house: House) -> None:
    """Do one turn of the Watcher, half a second after the last one."""
    house.clock.now += 0.5
    house.turn()


def test_a_verdict_with_thousands_of_destinations_holds_up_no_other_job(
    house: House, counted: Counting
) -> None:
    (bad,) = house.jobs(1)
    end(bad, token_of(bad), [Outgoing(f"q{n}", n, {"zwrap-id": f"i{n}"}) for n in range(3000)])
    house.jobs(20)
    before = house.clock.now
    turn(house)
    assert house.outcomes() == [None] + ["failure"] * 20, "in the same turn"
    assert house.clock.now - before < 5
    for _ in range(1000):
        if house.outcomes()[0]:
            break
        before = house.clock.now
        house.jobs(1)
        turn(house)
        assert house.clock.now - before < 0.5 + MORE_S + PORTION * COMMIT_S + 0.5
        assert house.outcomes()[-1] == "failure", "those that end meanwhile, too"
    assert house.outcomes()[0] == "success"
    sent = [len(counted.sent(f"q{n}")) for n in range(3000)]
    assert sent == [1] * 3000, "once each"
    assert not (bad / "sent.json").exists()


def test_an_outbox_with_thousands_of_files_holds_up_no_other_job(
    house: House, counted: Counting
) -> None:
    (bad,) = house.jobs(1)
    outbox = JobDirectory(bad).outbox()
    outbox.durable = False
    mover.store(outbox, many(8000))
    outbox.close()
    end(bad, token_of(bad), many(1, "done"))
    house.jobs(5)
    turn(house)
    assert house.outcomes()[1:] == ["failure"] * 5
    turns = 0
    while house.outcomes()[0] is None:
        turn(house)
        turns += 1
        assert turns < 50
    assert counted.sent("many") == list(range(8000)), "in order, once"
    assert counted.sent("done") == [0]
    assert counted.commits < 8000 / PORTION + 100, "one commit for many messages"


def test_a_step_with_thousands_of_recipients_of_its_failure_holds_up_no_other(
    house: House, counted: Counting
) -> None:
    house.output = {"failure": [2] * 2000}
    house.jobs(1)
    house.output = {"failure": 2}
    house.jobs(5)
    turn(house)
    assert house.outcomes()[1:] == ["failure"] * 5
    while house.outcomes()[0] is None:
        turn(house)
    ids = [entry.message.id for entry in counted.broker.queues["failed"]]
    assert len(ids) == len(set(ids)) == 2005


def test_a_watcher_that_comes_after_another_one_goes_on_where_that_was(
    house: House, counted: Counting
) -> None:
    """Cron starts one for each turn."""
    (bad,) = house.jobs(1)
    end(bad, token_of(bad), many(1000, "a") + many(1000, "b"))
    for _ in range(50):
        house.clock.now += 60
        house.watched = house.watcher()
        turn(house)
        house.watched.close()
    assert house.outcomes() == ["success"]
    assert counted.sent("a") == counted.sent("b") == list(range(1000))


def test_what_was_sent_is_not_sent_again_while_another_queue_is_full(
    house: House, counted: Counting
) -> None:
    counted.refusals["full"] = QueueFullError("it is full")
    (bad,) = house.jobs(1)
    end(bad, token_of(bad), [*many(1, "full"), *many(150, "open"), *many(300, "full", 1)])
    for _ in range(100):
        turn(house)
    assert house.outcomes() == [None]
    assert counted.sent("open") == list(range(150)), "once"
    counted.refusals.clear()
    house.turns(120.0)
    assert house.outcomes() == ["success"]
    assert counted.sent("full") == list(range(301)), "in order"
    assert counted.sent("open") == list(range(150))


def test_many_messages_of_many_attempts_are_sent_in_turn(house: House, counted: Counting) -> None:
    for path in house.jobs(30):
        end(path, token_of(path), many(500, token_of(path)))
    turn(house)
    assert {len(counted.sent(f"t{n}-1")) // PORTION for n in range(30)} <= {1, 2, 3, 4, 5}
    for _ in range(100):
        turn(house)
    assert house.outcomes() == ["success"] * 30
    assert [counted.sent(f"t{n}-1") for n in range(30)] == [list(range(500))] * 30


def test_final_messages_under_one_id_are_one_message(house: House, counted: Counting) -> None:
    """Any process of the user's may have written the verdict."""
    (bad,) = house.jobs(1)
    end(bad, token_of(bad), [Outgoing("many", n, {"zwrap-id": "one"}) for n in range(250)])
    for _ in range(5):
        turn(house)
    assert house.outcomes() == ["success"]
    assert counted.sent("many") == [0]


def test_of_many_final_messages_each_is_sent_though_the_first_portion_is_held_up(
    house: House, counted: Counting
) -> None:
    """One has the token as its id, which is a mark in the file of progress."""
    counted.refusals["full"] = QueueFullError("it is full")
    (bad,) = house.jobs(1)
    outbox = JobDirectory(bad).outbox()
    mover.store(outbox, many(1, "full", 1000))  # a result that waits
    outbox.close()
    marked = Outgoing("open", 150, {"zwrap-id": token_of(bad)})
    end(bad, token_of(bad), [*many(PORTION + 50, "full"), *many(150, "open"), marked])
    (bad / "sent.json").write_bytes(encode([token_of(bad)]))
    for _ in range(5):  # each turn is of another Watcher
        house.clock.now += 60
        house.watched = house.watcher()
        house.turn()
        house.watched.close()
        assert house.outcomes() == [None]
        assert set(counted.sent("open")) == set(range(151))
    counted.refusals.clear()
    house.clock.now += 60
    for _ in range(10):
        turn(house)
    assert house.outcomes() == ["success"]
    assert counted.sent("full") == [1000, *range(PORTION + 50)]
    assert counted.sent("open")[:150] == list(range(150)), "once"


@pytest.mark.parametrize("killed", ["before", "within", "never"])
def test_success_was_perhaps_told_by_who_was_killed_within_the_first_portion_not_held_up(
    house: House, counted: Counting, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """Otherwise a result that is refused later makes it a failure; it is told one end only."""
    counted.refusals = {"full": QueueFullError("full"), "slow": QueueFullError("full")}
    (bad,) = house.jobs(1)
    outbox = JobDirectory(bad).outbox()
    mover.store(outbox, many(1, "slow"))
    outbox.close()
    end(bad, token_of(bad), [*many(PORTION, "full"), *many(1, "success")])
    file, left = bad / "sent.json", {}
    usual_commit, usual_portion = Counting.commit, FinalSender.send_portion

    def commit(self: Counting, messages: Sequence[Outgoing], *more: Any, **others: Any) -> None:
        if any(each.destination == "success" for each in messages):
            left["within"] = file.read_bytes()
            if killed != "within":
                raise QueueFullError("full")
        usual_commit(self, messages, *more, **others)

    def send_portion(self: FinalSender, transport: Any) -> bool:
        if more := usual_portion(self, transport):
            left["before"] = file.read_bytes() if file.exists() else b""
        return more

    with monkeypatch.context() as patched:
        patched.setattr(Counting, "commit", commit)
        patched.setattr(FinalSender, "send_portion", send_portion)
        turn(house)
    house.watched.close()
    assert file.exists() == (killed == "within"), "it is known that none was sent"
    if killed in left:
        file.write_bytes(left[killed])
    house.watched = house.watcher()
    counted.refusals = {"slow": MessageError("never")}
    house.turns(120.0)
    assert house.outcomes() == ["success" if killed == "within" else "failure"]
    assert len(counted.sent("failed")) == (0 if killed == "within" else 1)


def test_what_is_written_about_messages_that_were_sent_grows_as_their_number(
    house: House, counted: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bad,) = house.jobs(1)
    end(bad, token_of(bad), many(5000))
    written = 0
    usual = os.write

    def write(descriptor: int, data: Any) -> int:
        nonlocal written
        written += len(data)
        return usual(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    while house.outcomes()[0] is None:
        turn(house)
    assert counted.sent("many") == list(range(5000))
    assert 5000 * len("many0") < written < 5000 * len('"many1234",') * 3


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (b'["many0","many1"]', 2),  # as earlier versions wrote it
        (b'["many0"]\n["many1"]', 2),
        (b'["many0"]\n["many1","ma', 1),  # cut
        (b'["many0","many1"]\n["ma\n["many2"]', 3),
        (b"\xff\x00", 0),
    ],
)
def test_what_an_earlier_process_has_sent_is_not_sent_again(
    house: House, counted: Counting, content: bytes, first: int
) -> None:
    (bad,) = house.jobs(1)
    end(bad, token_of(bad), many(150))
    other = bad / "other"
    other.write_bytes(content)
    os.link(other, bad / "sent.json")
    for _ in range(5):
        turn(house)
    assert house.outcomes() == ["success"]
    assert counted.sent("many") == list(range(first, 150))
    assert other.read_bytes() == content, "the file was replaced"


def test_large_verdicts_are_read_one_in_a_turn_after_all_other_jobs_were_concluded(
    house: House, counted: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = house.jobs(3)
    for path in large:
        end(path, token_of(path), [Outgoing("many", "x" * LARGE_BYTES, {"zwrap-id": path.name})])
    house.jobs(5)
    seen: list[list[str | None]] = []
    usual = JobDirectory.verdict

    def verdict(self: JobDirectory, token: str | None = None) -> Verdict | None:
        if self.path in large:
            house.clock.now += 3.0  # it takes long
            seen.append(house.outcomes()[3:])
        return usual(self, token)

    monkeypatch.setattr(JobDirectory, "verdict", verdict)
    for number in range(1, 4):
        turn(house)
        assert len(seen) == number, "one in a turn"
    assert seen == [["failure"] * 5] * 3
    assert house.outcomes()[:3] == ["success"] * 3


LEAVE = """
import os, signal, sys
from pathlib import Path
from zwrap.host.files import create_once, write_atomically
os.replace = os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
{call}(Path(sys.argv[1]), b"half")
"""


@pytest.mark.parametrize("call", ["write_atomically", "create_once"])
def test_what_a_killed_process_has_left_half_written_is_removed_in_the_end(
    house: House, counted: Counting, call: str
) -> None:
    (bad,) = house.jobs(1)
    for name in ("sent.json", "verdict.json", "claim.json"):
        program = [sys.executable, "-P", "-c", LEAVE.format(call=call), str(bad / name)]
        assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
    end(bad, token_of(bad), many(1))
    other = "org.site.elsewhere-7-0badc0de.4026531836.77"
    old, new = bad / f".sent.json.{other}.0.tmp", bad / f".sent.json.{other}.1.tmp"
    living = bad / f".sent.json.{this_process()}.2.tmp"
    mine = bad / ".notes.tmp"
    for file in (old, new, living, mine):
        file.touch()
    os.utime(old, (1e9, 1e9))
    assert len([*bad.glob(".*.tmp")]) == 7
    turn(house)
    assert house.outcomes() == ["success"]
    assert {*bad.glob(".*.tmp")} == {new, living, mine}, "of those that perhaps write just now"


# -- the sender ------------------------------------------------------------------------------------


def test_many_files_are_one_commit_for_each_queue(tmp_path: Path) -> None:
    outbox = JobDirectory(tmp_path / "job").outbox()
    mover.store(outbox, [*many(40, "a"), *many(40, "b")])
    transport = Counting()
    FinalSender(outbox).send(transport)
    assert transport.commits == 2
    assert outbox.waiting() == 0


def test_a_queue_of_the_spool_is_synced_once_for_a_portion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = SpoolTransport(tmp_path / "spool")
    puts: list[int] = []
    usual = SpoolQueue.write

    def put(self: SpoolQueue, contents: Sequence[bytes], **more: Any) -> None:
        puts.append(len(contents))
        usual(self, contents, **more)

    monkeypatch.setattr(SpoolQueue, "write", put)
    assert transport.send_each(many(PORTION)) == [None] * PORTION
    assert puts == [PORTION]
    transport.close()


kinds = st.sampled_from(["good", "full", "refused", "away"])


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(order=st.lists(kinds, max_size=25), inside=st.booleans())
def test_whatever_stands_beside_a_message_it_is_sent_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    order: list[str],
    inside: bool,
) -> None:
    """Others may be refused, or held up, or meet the end of the connection."""
    place = tmp_path_factory.mktemp("job")
    monkeypatch.setenv("ZWRAP_STATE", str(place))
    refusals: dict[str, Exception] = {
        "full": QueueFullError("full"), "refused": MessageError("never"),
        "away": TransportError("away"),
    }  # fmt: skip
    transport = Counting(refusals=refusals)
    outbox = JobDirectory(place / "t").outbox()
    outbox.durable = False
    messages = [Outgoing(kind, n, {"zwrap-id": f"{n}"}) for n, kind in enumerate(order)]
    sender = FinalSender(outbox)
    if inside:
        mover.store(outbox, messages)
    else:
        sender.add(messages)
    for _ in range(2):
        try:
            sender.send(transport)
        except (OutboxError, TransportError):
            assert {"full", "away"} & set(order)
    del refusals["full"], refusals["away"]
    sender.send(transport)
    for kind in ("good", "full", "away"):
        assert transport.sent(kind) == [n for n, each in enumerate(order) if each == kind]
    assert len(sender.refused) == order.count("refused")
    assert outbox.waiting() == 0


@pytest.mark.parametrize("call", ["os.rename", "os.unlink"])
def test_what_was_held_up_is_sent_from_a_disk_that_can_no_longer_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    outbox = JobDirectory(tmp_path / "t").outbox()
    outbox.durable = False
    both = zip(many(125, "full"), many(125, "open"), strict=True)
    mover.store(outbox, [message for pair in both for message in pair])
    transport = Counting(refusals={"full": QueueFullError("no room")})
    sender = FinalSender(outbox)
    assert sender.send_portion(transport)

    def read_only(path: Any, *more: Any, **others: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(call, read_only)
        transport.refusals.clear()
        with contextlib.suppress(OutboxError):  # the queue was known to be full
            sender.send(transport)
        sender.send(transport)
    for queue in ("open", "full"):  # each under the same id, if it is sent again
        assert set(transport.sent(queue)) == set(range(125))


def test_messages_that_are_held_up_are_told_once_for_each_change(
    house: House, counted: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counted.refusals["full"] = QueueFullError("it is full")
    for path in house.jobs(3):
        end(path, token_of(path), many(1, "full"))
    for _ in range(300):
        turn(house)
    assert caplog.text.count("it is full") == 1
    counted.refusals.clear()
    house.turns(120.0)
    assert house.outcomes() == ["success"] * 3
    assert caplog.text.count("No job waits any more") == 1
