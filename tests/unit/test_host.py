"""Rules of what zwrap needs of the machine: files, processes, and how these are ended."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from zwrap.host.ending import Act, Ending, end_session
from zwrap.host.files import (
    append_regular,
    create_once,
    last_lines,
    overwrite_once,
    tail,
    write_atomically,
)
from zwrap.host.filetime import FilesystemClock, touched
from zwrap.host.modes import make_shared
from zwrap.host.mounts import filesystem_of
from zwrap.host.processes import process_status, processes
from zwrap.host.stopping import signals_to_stop, stop_on_signals


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- the end of a process --------------------------------------------------------------------


def test_a_process_is_asked_at_its_limit_and_killed_after_the_grace_period() -> None:
    clock = Hands()
    ending = Ending(60, clock=clock)
    assert ending.until_due_s == 60
    clock.now += 59
    assert ending.due(10, wanted=False) is None
    assert ending.grace_left_s == 0
    clock.now += 1
    assert ending.due(10, wanted=False) is Act.ASK
    assert ending.timed_out
    assert ending.due(10, wanted=False) is None
    assert ending.until_due_s == ending.grace_left_s == 10
    clock.now += 10
    assert ending.due(10, wanted=False) is Act.KILL
    assert ending.due(10, wanted=False) is None
    assert ending.until_due_s is None
    assert ending.grace_left_s == 0


def test_one_that_somebody_wants_ended_has_not_timed_out() -> None:
    clock = Hands()
    ending = Ending(None, clock=clock)
    assert ending.until_due_s is None
    assert ending.due(10, wanted=True) is Act.ASK
    assert not ending.timed_out
    clock.now += 9.9
    assert ending.due(10, wanted=True) is None
    clock.now += 0.1
    assert ending.due(10, wanted=True) is Act.KILL


def test_the_grace_period_may_be_cut_off_but_it_is_asked_first() -> None:
    ending = Ending(None, clock=Hands())
    assert ending.due(10, wanted=True, no_grace=True) is Act.ASK
    assert ending.due(10, wanted=True, no_grace=True) is Act.KILL
    assert ending.due(10, wanted=True, no_grace=True) is None


def test_the_limit_counts_from_when_the_process_began() -> None:
    clock = Hands()
    assert Ending(60, began=clock.now - 50, clock=clock).until_due_s == 10
    assert Ending(60, began=clock.now - 70, clock=clock).until_due_s == 0


def test_every_process_of_a_session_is_ended_though_its_leader_is_dead() -> None:
    leader = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout
    member = int(leader.stdout.readline())
    leader.wait()
    status = process_status(member)
    assert status
    assert status.session == leader.pid
    descriptor = os.pidfd_open(member)
    end_session(leader.pid)
    assert select.select([descriptor], [], [], 30)[0], "it lives on"
    os.close(descriptor)
    leader.stdout.close()


# -- processes -------------------------------------------------------------------------------


def test_the_walk_of_proc_knows_parent_group_and_session() -> None:
    with subprocess.Popen(["sleep", "60"], process_group=0) as child:
        [found] = [process for process in processes() if process.pid == child.pid]
        asked = process_status(child.pid)
        assert asked
        assert replace(found, state="S") == replace(asked, state="S"), "it may just begin"
        assert (found.parent, found.group, found.session) == (
            os.getpid(), child.pid, os.getsid(0),
        )  # fmt: skip
        assert not found.is_dead
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        zombie = process_status(child.pid)
        assert zombie
        assert zombie.is_dead
    assert process_status(child.pid) is None


# -- files -----------------------------------------------------------------------------------


def test_the_filesystem_s_time_is_read_anew_when_it_is_not_trusted_any_longer(
    tmp_path: Path,
) -> None:
    clock = Hands()
    time = FilesystemClock(tmp_path, trust_s=30, clock=clock)
    first = time.now()
    assert abs(first - touched(tmp_path).st_mtime) < 60
    clock.now += 20
    assert time.now() == pytest.approx(first + 20, abs=1e-6)
    clock.now += 20  # the host's clock ran ahead of the filesystem's
    assert time.now() < first + 30
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_the_age_that_the_filesystem_gives_it(tmp_path: Path) -> None:
    clock = Hands()
    time = FilesystemClock(tmp_path, clock=clock)
    file = tmp_path / "file"
    file.touch()
    os.utime(file, (time.now() - 100, time.now() - 100))
    clock.now += 5
    assert time.age_s(file) == pytest.approx(105, abs=1e-3)
    assert time.age_s(tmp_path / "gone") == 0.0


def test_the_filesystem_of_a_path_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    assert filesystem_of(Path("/proc/self/status")) == "proc"
    assert filesystem_of(tmp_path) not in ("proc", "unknown")
    assert filesystem_of(tmp_path / "not there yet") == filesystem_of(tmp_path)


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def test_a_file_is_replaced_whole_and_no_other_is_left(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, "first")
    write_atomically(file, b"second", mode=0o600)
    assert file.read_text() == "second"
    assert file.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["file"]
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "directory", "x")
    assert names(tmp_path) == ["directory", "file"]


def test_a_file_is_made_once_and_the_first_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert create_once(file, b"first")
    assert not create_once(file, b"second")
    assert file.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_what_is_appended_changes_no_other_file_and_waits_for_no_reader(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    append_regular(file, b"one\n")
    append_regular(file, b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
    other.touch()
    (tmp_path / "link").symlink_to(other)
    os.link(other, tmp_path / "second name")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "second name", "pipe", "."):
        with pytest.raises(OSError, match=name):
            append_regular(tmp_path / name, b"x")
    assert other.read_bytes() == b""


def test_room_that_was_kept_is_used_for_the_first_file_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b" " * 100)
    assert overwrite_once(tmp_path / "one", b"first", tmp_path / "file")
    assert not overwrite_once(tmp_path / "two", b"second", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("durable", "name_durable", "synced"),
    [
        (True, True, ["file", "directory"]), (True, False, ["file"]), (False, True, []),
        (False, False, []),
    ],
)  # fmt: skip
def test_content_and_name_survive_a_power_cut_as_far_as_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    durable: bool,
    name_durable: bool,
    synced: list[str],
) -> None:
    kinds: list[str] = []

    def fsync(descriptor: int) -> None:
        kinds.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", "x", durable=durable, name_durable=name_durable)
    assert kinds == synced
    kinds.clear()
    assert create_once(tmp_path / "once", b"x")
    assert not create_once(tmp_path / "once", b"x")
    assert kinds == ["file", "directory", "file"]


def test_the_end_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"one\ntwo\n\n  \n50 %\r100 %\nend\xff")
    assert tail(file, 4) == "end\ufffd"
    assert tail(file, 1000).startswith("one\n")
    assert last_lines(file, 3, 1000) == ["50 %", "100 %", "end\ufffd"]
    assert last_lines(file, 3, 6) == ["%", "end\ufffd"]
    assert last_lines(tmp_path / "gone", 3, 1000) == []
    with pytest.raises(FileNotFoundError):
        tail(tmp_path / "gone", 4)


def test_a_directory_whose_parent_another_process_creates_meanwhile_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = os.mkdir

    def late(path: Path) -> None:
        """Fail as if the parent had been missing, which exists a moment later."""
        monkeypatch.undo()
        usual(tmp_path / "outbox")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr(os, "mkdir", late)
    make_shared(tmp_path / "outbox" / "incoming")
    assert (tmp_path / "outbox" / "incoming").is_dir()
    with pytest.raises(FileNotFoundError):
        make_shared(Path("/proc/self/none/below"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_stop_signal_lets_a_program_finish(number: signal.Signals, ignored: bool) -> None:
    # A service under nohup(1) is not stopped by the terminal that was closed.
    before = {each: signal.getsignal(each) for each in (*signals_to_stop(), signal.SIGHUP)}
    stop = threading.Event()
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        stop_on_signals(stop)
        signal.raise_signal(number)
        assert stop.is_set() == (number != signal.SIGHUP or not ignored)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
