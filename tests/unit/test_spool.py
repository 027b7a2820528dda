"""Rules of the spool beyond the transport contract: crashes, leases, foreign files, full disks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from zwrap.errors import ConfigurationError, MessageError, QueueFullError, TransportError
from zwrap.host.processes import ProcessIdentity, is_alive, process_identity, this_process
from zwrap.service.contract import Service
from zwrap.transport.spool.files import Name
from zwrap.transport.spool.owner import LEASE_S
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.topic import SpoolTopic
from zwrap.transport.spool.transport import SpoolTransport


@pytest.fixture
def queue(tmp_path: Path) -> SpoolQueue:
    return SpoolQueue(tmp_path / "q")


def claimed_by_a_process_that_dies(queue: SpoolQueue) -> None:
    """Let another process claim the first message and be killed."""
    code = f"""
        import os, signal
        from pathlib import Path
        from zwrap.transport.spool.queue import SpoolQueue
        assert SpoolQueue(Path({str(queue.path)!r})).claim()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "name",
    [
        Name("1-h-1-1.zwrap"),
        Name("1-h-1-1.zwrap", 2),
        Name("1-h-1-1.zwrap", 12, 34, 56),
        Name("foreign name~x", 3),
    ],
)
def test_a_name_says_attempt_due_time_and_expiry(name: Name) -> None:
    again = Name.parse(str(name))
    assert (again.base, again.delivery_count, again.not_before_ms, again.expires_ms) == (
        name.base, name.delivery_count, name.not_before_ms, name.expires_ms,
    )  # fmt: skip


def test_what_a_killed_process_held_comes_back_at_once_as_another_attempt(
    queue: SpoolQueue,
) -> None:
    queue.put([b"1"])
    claimed_by_a_process_that_dies(queue)
    assert queue.claim() is None
    assert queue.recover() == 1
    claimed = queue.claim()
    assert claimed
    assert (claimed.content, claimed.delivery_count) == (b"1", 2)
    assert len(list((queue.path / "pending").iterdir())) == 1


def test_a_message_that_kills_each_receiver_counts_every_one(queue: SpoolQueue) -> None:
    queue.put([b"poison"])
    for _ in range(4):
        claimed_by_a_process_that_dies(queue)
        queue.recover()
    claimed = queue.claim()
    assert claimed
    assert claimed.delivery_count == 5


def test_what_another_host_holds_comes_back_only_after_its_lease(queue: SpoolQueue) -> None:
    queue.put([b"1"])
    elsewhere = queue.path / "pending" / "other.host-17-boot.1.2"
    elsewhere.mkdir()
    (elsewhere / ".lease").touch()
    [file] = (queue.path / "incoming").iterdir()
    file.rename(elsewhere / file.name)
    assert queue.recover() == 0
    past = time.time() - LEASE_S - 1
    os.utime(elsewhere / ".lease", (past, past))
    assert queue.recover() == 1
    assert queue.waiting() == 1


def test_a_live_process_keeps_what_it_holds_however_long(queue: SpoolQueue, tmp_path: Path) -> None:
    queue.put([b"1"])
    claimed = queue.claim()
    assert claimed
    lease = Path(claimed.path).parent / ".lease"
    os.utime(lease, (1, 1))
    other = SpoolQueue(tmp_path / "q")
    assert other.recover() == 0
    assert other.claim() is None
    queue.ack(claimed)


def test_two_views_of_one_process_do_not_mistake_each_other_s_claims(tmp_path: Path) -> None:
    first, second = SpoolQueue(tmp_path / "q"), SpoolQueue(tmp_path / "q")
    first.put([b"1", b"2"])
    second._list()
    assert first.claim()
    assert first.claim()
    assert second.claim() is None


def test_an_owner_whose_directory_was_cleared_away_goes_on(queue: SpoolQueue) -> None:
    queue.put([b"1", b"2"])
    first = queue.claim()
    assert first
    queue.ack(first)
    shutil.rmtree(Path(first.path).parent)
    second = queue.claim()
    assert second
    assert second.content == b"2"


def test_no_message_is_visible_before_it_is_whole(queue: SpoolQueue) -> None:
    (queue.path / "tmp" / "half.zwrap").write_bytes(b'{"half')
    assert queue.claim() is None
    assert queue.waiting() == 0


def test_what_writers_left_is_swept_after_an_hour(queue: SpoolQueue) -> None:
    old, new = queue.path / "tmp" / "old", queue.path / "tmp" / "new"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    queue.recover()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_foreign_file_is_a_message_without_headers_under_a_stable_id(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    incoming = tmp_path / "q" / "incoming"
    (tmp_path / "q" / "tmp" / "x").write_text('{"headers": {"a": 1}, "message": 2}')
    (tmp_path / "q" / "tmp" / "x").rename(incoming / "host.17.1763.foreign~name")
    first = transport.receive(5)
    assert first
    assert first.message.headers == {}
    assert first.message.body == {"headers": {"a": 1}, "message": 2}
    first.retry()
    again = transport.receive(5)
    assert again
    assert (again.message.id, again.delivery_count) == (first.message.id, 2)
    transport.close()


def test_hidden_files_are_not_messages(queue: SpoolQueue) -> None:
    (queue.path / "incoming" / ".nfs0001").touch()
    assert (queue.claim(), queue.waiting()) == (None, 0)


def test_a_dead_letter_never_replaces_another(queue: SpoolQueue) -> None:
    for number in (1, 2):
        (queue.path / "incoming" / "same name").write_text(str(number))
        claimed = queue.claim()
        assert claimed
        queue.dead_letter(claimed, f"reason {number}")
    letters = [(file.read_text(), reason) for file, reason in queue.dead_letters()]
    assert sorted(letters) == [("1", "reason 1\n"), ("2", "reason 2\n")]


def test_a_dead_letter_put_back_by_hand_as_the_manual_says_starts_anew(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    transport.subscribe("q")
    for _ in range(2):  # and a second death does not change what it is
        transport.send("q", {"k": 1}, {"zwrap-id": "kept"})
        for _ in range(Service.delivery_limit):
            delivery = transport.receive(1)
            assert delivery
            delivery.retry()
        delivery = transport.receive(1)
        assert delivery
        assert delivery.delivery_count == Service.delivery_limit + 1
        delivery.dead_letter("too often")
    for file, _ in list(transport.queue("q").dead_letters()):
        command = f"rm errors/{file.name}.reason && mv errors/{file.name} incoming/"
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path / "q", check=True)
    for _ in range(2):
        again = transport.receive(1)
        assert again
        assert (again.delivery_count, again.message.id, again.message.body) == (1, "kept", {"k": 1})
        again.ack()
    transport.close()


def test_a_full_queue_makes_the_sender_wait_and_then_fail(tmp_path: Path) -> None:
    queue = SpoolQueue(tmp_path / "q", limit=3, limit_wait_s=0.3)
    for _ in range(3):
        queue.put([b"x"])
    began = time.monotonic()
    with pytest.raises(QueueFullError, match=r"its limit of 3 messages.*Is its consumer running"):
        queue.put([b"x"])
    assert time.monotonic() - began > 0.25
    assert queue.waiting() == 3
    claimed = queue.claim()
    assert claimed
    queue.put([b"x"])


def test_several_producers_keep_the_limit_nearly(tmp_path: Path) -> None:
    producers = [SpoolQueue(tmp_path / "q", limit=40, limit_wait_s=0) for _ in range(2)]

    def fill() -> None:
        for number in range(200):
            producers[number % 2].put([b"x"])

    with pytest.raises(QueueFullError):
        fill()
    assert 40 <= producers[0].waiting() <= 60


def test_a_long_lived_writer_sweeps_only_what_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = SpoolTopic(tmp_path / "topic")
    topic.publish(b"old", -1, None)  # it expired a second ago
    topic.publish(b"old status", -1, "a")
    topic.publish(b"new", 60, None)
    assert len(list(topic.path.iterdir())) == 3, "a short-lived writer leaves them"
    monkeypatch.setattr("zwrap.transport.spool.topic.SWEEP_S", 0.0)
    topic.publish(b"newest", 60, None)
    contents = sorted(file.read_bytes().partition(b"\n")[2] for file in topic.path.iterdir())
    assert contents == [b"new", b"newest"]


def test_files_and_directories_have_explicit_modes(queue: SpoolQueue) -> None:
    queue.put([b"x"])
    [file] = (queue.path / "incoming").iterdir()
    assert file.stat().st_mode & 0o137 == 0
    assert (queue.path / "incoming").stat().st_mode & 0o7777 == 0o2770


def test_a_spool_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    with pytest.raises(ConfigurationError, match=r"may be written by everybody.*chmod o-w"):
        SpoolTransport(tmp_path / "spool").open()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "nul\0", "x" * 201])
def test_a_name_that_is_unsafe_as_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    transport = SpoolTransport(tmp_path)
    with pytest.raises(MessageError, match="cannot be a queue or topic"):
        transport.send(name, 1)
    with pytest.raises(MessageError, match="cannot be a queue or topic"):
        transport.broadcast(name, 1)


def test_a_spool_where_something_else_is_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TransportError, match="cannot be made"):
            SpoolTransport(place).open()


@pytest.mark.slow
def test_a_full_disk_loses_no_message_and_shows_none_in_part(tmp_path: Path) -> None:
    """The spool is on a small filesystem of its own; without root it is in a user namespace."""
    if shutil.which("unshare") is None:
        pytest.fail("The program unshare (package util-linux) is needed for this test.")
    code = f"""
        import json, sys
        from pathlib import Path
        from zwrap.errors import TransportError
        from zwrap.transport.spool.transport import SpoolTransport
        spool = SpoolTransport(Path({str(tmp_path / "disk")!r}) / "spool")
        sent = 0
        try:
            while True:
                spool.send("q", ["x" * 3000, sent])
                sent += 1
        except TransportError as error:
            assert "No space left on device" in str(error), error
        spool.subscribe("q", prefetch=1)
        received = []
        while delivery := spool.receive(0):
            received.append(delivery.message.body[1])
            delivery.ack()
        assert received == list(range(sent)), (sent, received)
        assert list((spool.root / "q" / "tmp").iterdir()) == []
        spool.send("q", "there is room again")
        (spool.root / "q" / "incoming" / "foreign").write_text("broken")
        Path(spool.root.parent, "filler").write_bytes(b"")
        with open(Path(spool.root.parent, "filler"), "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass
        delivery = spool.receive(0)
        assert delivery.message.body == "there is room again"
        delivery.ack()
        assert spool.receive(0) is None
        assert len(list(spool.queue("q").dead_letters())) == 1
        print(sent)
    """
    (tmp_path / "disk").mkdir()
    script = (
        f"mount -t tmpfs -o size=256k tmpfs {tmp_path}/disk && "
        f"{sys.executable} -P - <<'END'\n{textwrap.dedent(code)}\nEND"
    )
    as_root = [] if os.geteuid() == 0 else ["--map-root-user", "--user"]
    done = subprocess.run(
        ["unshare", *as_root, "--mount", "/bin/sh", "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_identities_tell_processes_apart() -> None:
    me = this_process()
    assert ProcessIdentity.parse(str(me)) == me
    assert is_alive(me) is True
    assert is_alive(replace(me, start=f"{me.start}1")) is False
    assert is_alive(replace(me, host="elsewhere")) is None
    assert is_alive(replace(me, start="otherboot.1.1")) is None
    assert ProcessIdentity.parse("no identity") is None


def test_a_process_that_ended_is_not_alive() -> None:
    process = subprocess.Popen(["sleep", "60"])
    identity = process_identity(process.pid)
    assert identity
    process.kill()
    time.sleep(0.05)
    assert is_alive(identity) is False, "a zombie is not alive"
    process.wait()
    assert is_alive(identity) is False
    assert process_identity(process.pid) is None


def test_a_spool_that_is_not_there_is_away_for_every_queue(tmp_path: Path) -> None:
    """A filesystem that is not mounted is no fault of a message: nothing is refused for good."""
    spool = SpoolTransport(tmp_path / "spool")
    spool.send("known", 1)
    (tmp_path / "spool").rename(tmp_path / "away")
    (tmp_path / "spool").touch()
    for name in ("known", "new"):
        with pytest.raises(TransportError):
            spool.send(name, 2)
    (tmp_path / "spool").unlink()
    (tmp_path / "away").rename(tmp_path / "spool")
    for name in ("known", "new"):
        spool.send(name, 3)
    (tmp_path / "spool" / "taken").touch()
    with pytest.raises(MessageError):
        spool.send("taken", 4)
    spool.close()


@pytest.mark.parametrize("delay_s", [1e300, float("inf"), float("nan"), -1e300])
def test_a_delay_that_no_name_can_hold_is_bounded(tmp_path: Path, delay_s: float) -> None:
    """A handler gave it, and the queue must stay usable for other messages."""
    queue = SpoolQueue(tmp_path, durable=False)
    queue.put([b"1"])
    claimed = queue.claim()
    assert claimed
    queue.release(claimed, delay_s=delay_s)
    assert queue.waiting() == 1
    assert (queue.claim() is None) == (not delay_s < 0)


def test_a_status_of_a_sender_with_a_long_name_is_heard(tmp_path: Path) -> None:
    """A job may have written the name; the spool stays usable for others."""
    topic, listener = SpoolTopic(tmp_path), SpoolTopic(tmp_path)
    for number, sender in enumerate(["x" * 5000, "x" * 4999 + "y", "x" * 5000]):
        topic.publish(b"%d" % number, 60.0, sender)
    assert sorted(listener.hear()) == [b"1", b"2"], "the last one of each sender"
