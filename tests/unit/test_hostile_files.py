"""Whatever lies in a spool or job directory hurts nobody but who put it there."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.record import Attempt
from zwrap.attempt.verdict import Claim, Verdict
from zwrap.errors import MessageError, PermanentError, TransportError
from zwrap.host.files import (
    UnfitFileError,
    first_bytes,
    last_lines,
    overwrite_once,
    read_regular,
    tail,
    touch,
)
from zwrap.host.modes import make_shared
from zwrap.host.processes import ProcessIdentity
from zwrap.job import Outcome
from zwrap.message.identity import child_id
from zwrap.service.schlockmeister import quarantine
from zwrap.service.watcher.conclusion import InDirectory
from zwrap.transport import mover
from zwrap.transport.failures import NoRouteError
from zwrap.transport.inspector import Overdelivered
from zwrap.transport.memory import MemoryTransport
from zwrap.transport.spool.files import NAME_BYTES, Name, letters, make_spool_directory, shortened
from zwrap.transport.spool.queue import OFTEN, SpoolQueue
from zwrap.transport.spool.topic import SpoolTopic
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.transport.spool.views import DropFiles

from ..hostile_files import ILL, NAMES, SECRET, UNFIT

KINDS = {**UNFIT, **ILL}
DEAD_OWNER = "nowhere-1-noboot.0.1,0"
kinds = st.sampled_from(sorted(KINDS))
names = st.sampled_from(NAMES) | st.binary(min_size=1, max_size=255).map(os.fsdecode).filter(
    lambda name: "/" not in name and "\0" not in name and not name.startswith(".")
)

serial = iter(range(1 << 30))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Return the directory below which each example makes one of its own."""
    return tmp_path


def _new(base: Path) -> Path:
    place = base / str(next(serial))
    place.mkdir()
    return place


def _received(transport: SpoolTransport) -> list[object]:
    """Return the bodies of all messages, which are acknowledged.

    A transport that puts bad files aside gives others their turn before it has seen them all.
    """
    bodies = []
    for _ in range(100):
        if delivery := transport.receive(0):
            bodies.append(delivery.message.body)
            delivery.ack()
        elif not transport.inspector().waiting("q"):
            break
    return bodies


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(UNFIT))
def test_only_regular_files_are_read_and_none_is_waited_for(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    UNFIT[kind](file)
    for read in (
        lambda: read_regular(file, 1000),
        lambda: first_bytes(file, 10) if kind != "too large" else read_regular(file, 1000),
        lambda: tail(file, 10, follow=False) if kind != "too large" else read_regular(file, 10),
    ):
        with pytest.raises(UnfitFileError) as caught:
            read()
        assert SECRET not in str(caught.value)
        assert str(file) in str(caught.value)


def test_a_link_may_be_followed_to_a_regular_file_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a\nb")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert read_regular(tmp_path / "link", 10, follow=True) == b"a\nb"
    assert last_lines(tmp_path / "link", 2, 10) == ["a", "b"]
    assert last_lines(tmp_path / "link", 2, 10, follow=False) == []
    assert last_lines(tmp_path / "null", 2, 10) == last_lines(tmp_path / "zero", 2, 10) == []
    with pytest.raises(UnfitFileError, match="is a device"):
        read_regular(tmp_path / "zero", 10, follow=True)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
def test_the_limit_of_a_file_is_exact(size: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    assert read_regular(file, size) == read_regular(file, None) == b"x" * size
    if size:
        with pytest.raises(UnfitFileError, match=f"has {size} bytes; at most {size - 1} are read"):
            read_regular(file, size - 1)


def test_what_is_written_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "link").symlink_to("victim")
    (tmp_path / "hard").hardlink_to(victim)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="symbolic links"):
        touch(tmp_path / "link")
    for reserved in ("link", "hard", "fifo"):
        with pytest.raises(OSError):  # noqa: PT011  (each its own)
            overwrite_once(tmp_path / reserved, b"overwritten", tmp_path / "verdict")
    assert victim.read_text() == "kept"


def test_any_number_may_make_the_same_directories(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    for number in range(300):
        barrier = threading.Barrier(4)

        def make(number: int = number, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                for name in ("incoming", "pending", "tmp", "errors"):
                    make_spool_directory(tmp_path / str(number) / "outbox" / name)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        make_shared(Path("/proc/nothing/can/be/made"))


def base_of(text: str) -> str:
    """Return the base in a file name."""
    return Name.parse(text).base


# -- names -----------------------------------------------------------------------------------------


@given(names, st.integers(1, 999), st.sampled_from([0, 1763712350000]), st.booleans())
def test_a_name_survives_what_zwrap_adds_to_it(
    base: str, count: int, due_ms: int, being_read: bool
) -> None:
    name = Name.parse(base)
    name.delivery_count, name.not_before_ms, name.being_read = count, due_ms, being_read
    text = str(name)
    assert len(os.fsencode(text)) <= NAME_BYTES
    again = Name.parse(text)
    assert (again.delivery_count, again.not_before_ms) == (count, due_ms)
    assert again.is_own == name.is_own
    again.delivery_count += 1
    assert shortened(Name.parse(str(again)).base) == shortened(base_of(base)), "it stays the same"


@given(
    st.binary(min_size=1, max_size=200).map(os.fsdecode).filter(lambda base: "zwrap" not in base)
)
def test_all_of_a_foreign_name_is_its_own(base: str) -> None:
    for text in (base, f"{base}~a7", f"{base}~n1", f"{base}~e1", f"{base}~a7~n1~e1"):
        assert (Name.parse(text).base, Name.parse(text).delivery_count) == (text, 1)


def test_names_that_are_shortened_stay_apart() -> None:
    bases = [f"{'x' * 250}{number}" for number in range(5)]
    assert len({str(Name(base, 2)) for base in bases}) == len(bases)


@given(names)
def test_an_id_may_come_from_any_name(name: str) -> None:
    assert child_id("broker", name) == child_id("broker", name)


def test_the_letters_among_letters_and_reasons() -> None:
    assert letters(["a", "a.reason"]) == ["a"]
    assert letters(["x.reason", "x.reason.reason"]) == ["x.reason"]
    assert letters(["x", "x.reason", "y"]) == ["x", "y"]
    assert letters(["claimed.reason", ".pending"]) == []
    chain = ["x.reason.reason", "x.reason.reason.reason"]
    assert letters(chain) == ["x.reason.reason"]


# -- the spool -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(kinds, names), min_size=1, max_size=6, unique_by=lambda each: each[1]))
def test_bad_files_become_dead_letters_and_good_ones_are_handled(
    fresh: Path, bad: list[tuple[str, str]]
) -> None:
    root = _new(fresh)
    transport = SpoolTransport(root, durable=False)
    transport.subscribe("q")
    incoming = root / "q" / "incoming"
    for number, (kind, name) in enumerate(bad):
        KINDS[kind](incoming / name)
        transport.send("q", {"good": number})
    bodies = [body for body in _received(transport) if isinstance(body, dict)]
    assert bodies == [{"good": number} for number in range(len(bad))]
    expected = sum(_is_dead(kind, name) for kind, name in bad)
    assert transport.inspector().dead_letters().get("q", 0) == expected
    found = list(transport.queue("q").dead_letters())
    assert len(found) == expected
    for _, reason in found:
        assert reason.strip()
        assert "no reason was given" not in reason
        assert SECRET not in reason
    _purged(transport, expected)
    transport.close()


def _is_dead(kind: str, name: str) -> bool:
    """Return whether a file becomes a dead letter, and is not a message as good as any."""
    own = Name.parse(name).is_own
    if kind == "no message":
        return own or Name.parse(name).being_read
    return True


def _purged(transport: SpoolTransport, expected: int) -> None:
    """Take all dead letters out, as `dlq_purge` does."""
    transport.inspector().subscribe_dead_letters("q", 100)
    for _ in range(expected):
        delivery = transport.receive(0)
        assert delivery
        assert delivery.reason
        assert SECRET not in str(delivery.message.body)
        delivery.ack()
    assert transport.receive(0) is None
    assert transport.inspector().dead_letters() == {}


@given(kinds, names)
def test_what_a_dead_owner_left_is_given_back(fresh: Path, kind: str, name: str) -> None:
    root = _new(fresh)
    transport = SpoolTransport(root, durable=False)
    transport.subscribe("q")
    owner = root / "q" / "pending" / DEAD_OWNER
    owner.mkdir()
    KINDS[kind](owner / name)
    os.utime(owner, (1, 1))
    transport.send("q", "good")
    assert "good" in _received(transport)
    assert not (owner / name).exists()
    transport.close()


@given(kinds, names, st.sampled_from(["q/tmp", "q/pending", "q/errors", ".topics/command", "."]))
def test_other_places_hold_up_nobody(fresh: Path, kind: str, name: str, place: str) -> None:
    root = _new(fresh)
    transport = SpoolTransport(root, durable=False)
    transport.subscribe("q")
    transport.subscribe_topic("command")
    bad = root / place / (f"b{name}"[:60] if place == "." else name)
    KINDS[kind](bad)
    os.utime(bad, (1, 1), follow_symlinks=False)
    transport.send("q", "good")
    transport.broadcast("command", "heard")
    assert sorted(map(str, _received(transport))) == ["good", "heard"]
    inspector = transport.inspector()
    assert inspector.queues()["q"] == 0
    inspector.dead_letters()
    assert isinstance(inspector, Overdelivered)
    assert quarantine(inspector, 5) == 0
    assert inspector.consumers("q") == 1
    transport.close()


def test_any_number_of_bad_files_keeps_nobody_waiting(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path, durable=False)
    transport.subscribe("q")
    for number in range(3000):
        (tmp_path / "q" / "incoming" / f"{number:05d}").write_text("{" if number % 2 else "")
    longest_s = 0.0
    while transport.queue("q").waiting():
        began = time.monotonic()
        assert transport.receive(0) is None
        longest_s = max(longest_s, time.monotonic() - began)
    assert longest_s < 2.0
    assert transport.inspector().dead_letters() == {"q": 3000}
    transport.close()


HOLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_keeps_for_itself_is_put_aside(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    file = tmp_path / "q" / "incoming" / "0"
    file.write_text("1")
    command = [sys.executable, "-P", "-c", HOLDER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        transport.send("q", "good")
        assert _received(transport) == ["good"]
        holder.communicate()
    [(_, reason)] = transport.queue("q").dead_letters()
    assert "is held by another process" in reason
    transport.close()


def test_a_link_to_a_directory_is_no_owner(tmp_path: Path) -> None:
    """Files of another user would become messages otherwise."""
    queue = SpoolQueue(tmp_path / "q").open()
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("1")
    (tmp_path / "q" / "pending" / DEAD_OWNER).symlink_to(other)
    assert queue.recover(dead=ProcessIdentity.parse(DEAD_OWNER.partition(",")[0])) == 0
    assert (other / "file").exists()


def test_a_foreign_file_is_counted_by_zwrap_only(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    (tmp_path / "q" / "incoming" / "job~a7").write_text("1")
    ids = set()
    for count in range(1, 4):
        delivery = transport.receive(0)
        assert delivery
        assert delivery.delivery_count == count
        ids.add(delivery.message.id)
        delivery.retry()
    assert len(ids) == 1
    transport.close()


@pytest.mark.parametrize("name", ["x" * 255, os.fsdecode(b"\xff" * 255), "y" * 249 + ".zwrap"])
def test_the_longest_names_keep_their_identity(name: str, tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    (tmp_path / "q" / "incoming" / name).write_text('{"message": 1}')
    ids = []
    for count in range(1, 8):
        delivery = transport.receive(0)
        assert delivery
        assert delivery.delivery_count == count
        ids.append(delivery.message.id)
        delivery.retry()
    assert len(set(ids)) == 1
    delivery = transport.receive(0)
    assert delivery
    delivery.dead_letter("no")
    assert [reason for _, reason in transport.queue("q").dead_letters()] == ["no\n"]
    transport.close()


def test_a_message_whose_reading_kills_is_read_five_times_only(tmp_path: Path) -> None:
    queue = SpoolQueue(tmp_path / "q")
    queue.put([b"poison"])
    for count in range(1, OFTEN + 1):
        claimed = queue.claim()
        assert claimed
        assert claimed.delivery_count == count
        died(Path(claimed.path).parent)
        queue.recover()
    assert queue.claim() is None
    [(_, reason)] = queue.dead_letters()
    assert "died while it read the message" in reason


class Deadly(MemoryTransport):
    """A transport that kills its user whenever something is sent."""

    def commit(self, *_: object, **__: object) -> None:
        raise SystemExit


def test_a_message_whose_sending_kills_is_tried_for_ever(tmp_path: Path) -> None:
    """The transport is at fault, and a final message of a job may never get lost."""
    queue = SpoolQueue(tmp_path / "q")
    queue.put([b'{"destination": "q", "message": 1}'])
    for _ in range(2 * OFTEN):
        claimed = queue.claim()
        assert claimed
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queue, "release", lambda *_, **__: None)  # so does a kill
            with pytest.raises(SystemExit):
                mover.deliver_claimed(queue, claimed, Deadly(), mover._stored)
        died(Path(claimed.path).parent)
        queue.recover()
    transport = MemoryTransport()
    assert mover.deliver(queue, transport).refused == {}
    assert transport.inspector().waiting("q") == 1


def died(owner: Path) -> None:
    """Make an owner one that is dead."""
    dead = owner.with_name(DEAD_OWNER)
    owner.rename(dead)
    os.utime(dead / ".lease", (1, 1))


def test_a_message_that_was_read_often_is_handled_as_ever(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    transport.send("q", 1)
    for count in range(1, 3 * OFTEN):
        delivery = transport.receive(0)
        assert delivery
        assert delivery.delivery_count == count
        delivery.retry()
    transport.close()


def test_a_small_limit_puts_only_larger_messages_aside(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path, message_bytes=1000)
    transport.subscribe("q")
    for size in (10, 5000, 20):
        transport.send("q", "x" * size)
    assert [len(str(body)) for body in _received(transport)] == [10, 20]
    [(_, reason)] = transport.queue("q").dead_letters()
    assert "at most 1000 are read there" in reason
    transport.inspector().subscribe_dead_letters("q")
    letter = transport.receive(0)
    assert letter
    assert letter.message.body == "x" * 5000, "who looks after dead letters sees all of it"
    transport.close()
    passing = SpoolTransport(tmp_path, message_bytes=1000)
    passing.send("q", "x" * 5000)
    passing.relay()
    passing.subscribe("q")
    assert _received(passing) == ["x" * 5000]
    passing.close()


@pytest.mark.parametrize("name", ["é" * 128, "\u4e2d" * 100, "\ud800", "a\0b", "a/b", "x" * 201])
def test_a_name_is_measured_in_bytes(name: str, tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    for send in (transport.send, transport.broadcast):
        with pytest.raises(MessageError, match="cannot be a queue or topic"):
            send(name, 1)


@pytest.mark.parametrize("kind", sorted(set(UNFIT) - {"empty directory", "full directory"}))
def test_something_else_in_place_of_a_queue_is_the_fault_of_its_messages(
    kind: str, tmp_path: Path
) -> None:
    transport = SpoolTransport(tmp_path)
    transport.send("good", 1)
    UNFIT[kind](tmp_path / "bad")
    if not (tmp_path / "bad").is_dir():
        with pytest.raises(NoRouteError, match="cannot be made"):
            transport.send("bad", 1)
    assert transport.inspector().queues() == {"good": 1}


@pytest.mark.parametrize("seconds", [1e20, 1e308, float("inf"), float("nan"), -1e20])
def test_times_that_no_name_can_hold_are_the_fault_of_the_message(
    seconds: float, tmp_path: Path
) -> None:
    transport = SpoolTransport(tmp_path)
    with pytest.raises(PermanentError, match="can be written"):
        transport.send("q", 1, delay_s=seconds)
    with pytest.raises(PermanentError, match="can be written"):
        transport.send("q", 1, expires_s=seconds)
    with pytest.raises(PermanentError, match="can be written"):
        transport.broadcast("t", 1, expires_s=seconds)


def test_a_shared_fault_is_one_of_the_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    transport.send("q", 1)

    def too_many(*_: object, **__: object) -> bytes:
        raise OSError(24, os.strerror(24), "file")

    with monkeypatch.context() as patch:
        patch.setattr("zwrap.transport.spool.queue.read_regular", too_many)
        with pytest.raises(TransportError, match="Too many open files"):
            transport.receive(0)
    delivery = transport.receive(0)
    assert delivery
    assert delivery.delivery_count == 1, "counted against no message"
    transport.close()


def test_a_message_for_which_there_is_no_memory_is_counted_if_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    transport.send("q", 1)
    transport.send("q", "x" * (2 << 20))

    def no_memory(*_: object, **__: object) -> object:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("zwrap.transport.spool.transport.read_message", no_memory)
        for _ in range(2):
            with pytest.raises(TransportError, match="not enough memory"):
                transport.receive(0)
    names = sorted(os.listdir(tmp_path / "q" / "incoming"))
    assert [Name.parse(name).delivery_count for name in names] == [1, 2]
    transport.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_topics_are_heard_beside_bad_files(kind: str, tmp_path: Path) -> None:
    topic = SpoolTopic(tmp_path / "topic")
    topic.listen()
    KINDS[kind](topic.path / "0")
    (topic.path / "1").write_bytes(b"9" * 5000 + b"\n1")
    topic.publish(b"heard", 60, None)
    assert list(topic.hear()) == [b"heard"]
    topic._sweep(1)


@given(kinds, names)
def test_a_pipe_passes_the_good_and_puts_the_bad_aside(fresh: Path, kind: str, name: str) -> None:
    place = _new(fresh)
    source, target = (SpoolQueue(place / each, durable=False) for each in ("a", "b"))
    KINDS[kind](source.path / "incoming" / name)
    source.put([b'{"message": "good"}'])
    while claimed := source.claim():
        mover.pass_on(source, claimed, target)
    contents = [each.content for each in target.peek()]
    assert b'{"message": "good"}' in contents
    assert all(SECRET.encode() not in content for content in contents)
    assert source.waiting() == 0


def test_a_directory_in_the_way_stops_no_pipe(tmp_path: Path) -> None:
    source, target = SpoolQueue(tmp_path / "a"), SpoolQueue(tmp_path / "b")
    for name in ("1", "2"):
        (source.path / "incoming" / name).write_text(name)
    (target.path / "incoming" / "1" / "inside").mkdir(parents=True)
    moved = []
    while claimed := source.claim():
        moved.append(mover.pass_on(source, claimed, target))
    assert moved == [False, True]
    [(_, reason)] = source.dead_letters()
    assert "Is a directory" in reason


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_drop_files_are_found_beside_bad_ones(kind: str, tmp_path: Path) -> None:
    drops = DropFiles(tmp_path / "drop", limit=0)
    KINDS[kind](drops.path / "bad")
    (drops.path / "good").write_text("{}")
    os.utime(drops.path / "good", (1, 1))
    assert "good" in drops.names()
    claimed = drops.claim_where(lambda name: name.base == "good")
    assert claimed
    drops.ack(claimed)
    while drops.claim():
        pass
    assert not (drops.path / "good").exists()


# -- job directories -------------------------------------------------------------------------------

VERDICT = Verdict(
    token="t", outcome=Outcome.SUCCESS, witness="wrapper", cause="x", job_id="1", exit_status=0
)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_bad_file_in_a_job_directory_is_a_sentence(kind: str, tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "t")
    directory.make()
    for name in ("verdict.json", "claim.json", "submission.json", "job.err", "envelope.json"):
        KINDS[kind](directory.path / name)
        (directory.path / ".secret").unlink(missing_ok=True)
        (directory.path / ".secret").write_text(SECRET)
    assert directory.has_verdict
    assert directory.was_claimed
    with pytest.raises(MessageError):
        directory.verdict()
    with pytest.raises(MessageError):
        directory.submission()
    assert directory.claimed() is None
    if kind in UNFIT and kind != "too large":
        assert last_lines(directory.path / "job.err", 9, 999, follow=False) == []
    directory.keep_envelope(b"{}")


@pytest.mark.parametrize("kind", sorted(UNFIT))
@pytest.mark.parametrize("name", ["verdict.sent", ".sent.reserved", ".verdict.reserved"])
def test_a_bad_mark_ends_nobody(kind: str, name: str, tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "t")
    directory.make()
    UNFIT[kind](directory.path / name)
    directory.reserve()
    with contextlib.suppress(OSError):  # what the caller expects
        directory.put_verdict(VERDICT)
        directory.mark_sent()
    assert directory.has_verdict


def test_room_is_taken_for_verdict_and_mark(tmp_path: Path) -> None:
    """A disk that is full at the end may have no room for a new file."""
    directory = JobDirectory(tmp_path)
    directory.make()
    before = {file.name for file in tmp_path.iterdir()}
    directory.reserve()
    taken = [file for file in tmp_path.iterdir() if file.name not in before]
    assert sorted(file.stat().st_size > 0 for file in taken) == [False, True]


def test_a_verdict_or_claim_of_another_attempt_is_none(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "t")
    directory.make()
    assert directory.put_verdict(VERDICT)
    (directory.path / "claim.json").write_bytes(msgspec.json.encode(Claim("t", "1", "p")))
    assert directory.verdict("t") == VERDICT
    assert directory.claimed("t")
    assert directory.claimed("other") is None
    with pytest.raises(MessageError, match="on another attempt, 't'"):
        directory.verdict("other")


def test_a_link_in_place_of_a_job_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    linked = JobDirectory(tmp_path / "link")
    assert not linked.exists
    with pytest.raises(UnfitFileError, match="is a symbolic link"):
        linked.make()
    (tmp_path / "above").symlink_to(tmp_path)
    above = JobDirectory(tmp_path / "above" / "other")
    above.make()
    assert above.exists


@pytest.mark.parametrize("place", ["", "incoming", "pending", "tmp", "errors"])
def test_links_in_place_of_an_outbox_are_not_followed(place: str, tmp_path: Path) -> None:
    """The queue of another user could be sent otherwise."""
    directory = JobDirectory(tmp_path / "t")
    directory.make()
    victim = SpoolQueue(tmp_path / "victim")
    victim.put([b"1"])
    link = directory.path / "outbox" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim.path / place)
    with pytest.raises(TransportError, match="is a symbolic link"):
        directory.outbox()
    assert not directory.has_outbox
    assert victim.waiting() == 1


@given(kinds, names)
def test_an_outbox_with_bad_files_is_sent(fresh: Path, kind: str, name: str) -> None:
    place = _new(fresh)
    directory = JobDirectory(place / "t")
    directory.make()
    outbox = directory.outbox()
    outbox.durable = False
    KINDS[kind](outbox.path / "incoming" / name)
    outbox.put([b'{"destination": "q", "message": "good"}'])
    transport = SpoolTransport(place / "spool", durable=False)
    mover.deliver(outbox, transport)
    transport.subscribe("q")
    assert _received(transport) == ["good"]
    assert stat.S_ISDIR(os.lstat(outbox.path / "errors").st_mode)
    transport.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    "name",
    [
        "verdict.json", "claim.json", "submission.json", "job.err", "verdict.sent",
        ".verdict.reserved", "outbox", "outbox/incoming", "outbox/pending", "outbox/tmp",
        "outbox/errors", "outbox/incoming/x", "outbox/tmp/x", f"outbox/pending/{DEAD_OWNER}",
    ],
)  # fmt: skip
def test_the_end_of_a_job_with_a_bad_file_holds_up_nobody(
    kind: str, name: str, tmp_path: Path
) -> None:
    directory = JobDirectory(tmp_path / "t")
    directory.make()
    submission = {"header": {}, "message": {"recipe": {"1": {}}, "recipe-pointer": 1}}
    (directory.path / "submission.json").write_text(json.dumps(submission))
    if "/" in name:
        directory.outbox()
    place = directory.path / name
    if place.is_dir():
        place.rmdir()
    place.unlink(missing_ok=True)
    KINDS[kind](place)
    attempt = Attempt(
        token="t", recipe_id=None, step=1, cluster="c", job_name="n", job_id="1",
        job_directory=str(directory.path), seen_state="failed", ended=1.0,
    )  # fmt: skip
    transport = SpoolTransport(tmp_path / "spool")
    verdict = InDirectory(transport).conclude(attempt)
    assert SECRET not in str(verdict)
    transport.subscribe("q")
    assert SECRET not in str(_received(transport))
    transport.close()


def test_a_claim_on_another_attempt_is_not_taken_for_one_on_this(tmp_path: Path) -> None:
    """Whoever wrote it: it does not say whether a job runs this attempt."""
    directory = JobDirectory(tmp_path / "job")
    directory.make()
    assert directory.claim("other-1", "7") is None
    before = (directory.path / "claim.json").read_bytes()
    with pytest.raises(MessageError, match=r"claim\.json is the claim on another attempt, 'other"):
        directory.claim("t-1", "7")
    assert (directory.path / "claim.json").read_bytes() == before
