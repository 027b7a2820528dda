"""Tests that the processes which a killed Submitter had started are ended before a look-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zwrap.calls import acting
from zwrap.calls.command import run
from zwrap.host.processes import process_status
from zwrap.scheduler import Command

SUBMITTER = """
import sys
from pathlib import Path
from zwrap.calls import acting
from zwrap.calls.command import run
from zwrap.scheduler import Command
acting.begin()
print("ready", flush=True)
run(Command(argv=sys.argv[2:], timeout_s=float(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def submitters() -> Iterator[list[subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []
    yield made
    for process in made:
        assert process.stdout
        process.stdout.close()
        process.kill()
        process.wait()


def calling(
    submitters: list[subprocess.Popen[str]], *argv: str, limit_s: float = 60
) -> subprocess.Popen[str]:
    """Return a Submitter that has made its mark, and calls a program."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", SUBMITTER, str(limit_s), *argv],
        stdout=subprocess.PIPE,
        text=True,
    )
    submitters.append(process)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def until(condition: Callable[[], object], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    status = process_status(pid)
    return status is not None and not status.is_dead


def number_in(file: Path) -> int:
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def test_nobody_else_is_at_work(state: Path) -> None:
    assert acting.others(100.0) == (False, 0.0)
    acting.begin()
    assert acting.others(100.0) == (False, 0.0)
    assert acting.inherited()


def test_a_submitter_at_work_is_left_alone(
    submitters: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = calling(submitters, "sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 60")
    called = number_in(tmp_path / "pid")
    assert acting.others(time.time()).live
    assert lives(called)
    assert process.poll() is None


SLEEPS = "echo $$ >{0}/pid; exec sleep 60"
IN_PYTHON = (
    "exec python3 -c \"import subprocess; subprocess.run(['sh', '-c', "
    "'echo \\$\\$ >{0}/pid; sleep 60; touch {0}/acted'])\""
)  # which closes what the shell would inherit
HAS_CHILD = "(sleep 60; touch {0}/acted) & echo $! >{0}/pid; wait"
IS_IN_A_SESSION_OF_ITS_OWN = "setsid sh -c 'echo $$ >{0}/pid; sleep 60; touch {0}/acted' & wait"


@pytest.mark.parametrize("script", [SLEEPS, HAS_CHILD, IN_PYTHON, IS_IN_A_SESSION_OF_ITS_OWN])
@pytest.mark.parametrize("stopped", [False, True])
def test_what_a_dead_submitter_had_called_is_ended(
    submitters: list[subprocess.Popen[str]], tmp_path: Path, script: str, stopped: bool
) -> None:
    process = calling(submitters, "sh", "-c", script.format(tmp_path))
    called = number_in(tmp_path / "pid")
    if stopped:
        os.kill(called, signal.SIGSTOP)
    killed(process)
    assert lives(called), "it outlives its Submitter"
    now, began = time.time() + 1000, time.monotonic()
    live, ended = acting.others(now)
    assert not live
    assert now <= ended <= now + time.monotonic() - began, "the killing takes its time"
    assert not lives(called)
    assert acting.others(now + 1) == (False, ended), "the third one knows when it was ended, too"
    assert not (tmp_path / "acted").exists()


def test_a_submitter_that_dies_before_its_program_is_there_leaves_no_acting_process(
    submitters: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for delay_s in (0, 0.001, 0.003, 0.01, 0.03):
        process = calling(submitters, "sh", "-c", f"sleep 1; touch {tmp_path}/acted")
        time.sleep(delay_s)
        killed(process)
        acting.others(time.time())
    time.sleep(1.2)
    assert not (tmp_path / "acted").exists()


def test_a_call_ends_at_its_time_limit_though_its_submitter_is_dead(
    submitters: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = calling(submitters, "sh", "-c", SLEEPS.format(tmp_path), limit_s=0.5)
    called = number_in(tmp_path / "pid")
    killed(process)
    until(lambda: not lives(called), limit_s=10)
    assert not lives(called)


def test_who_only_looks_at_a_mark_is_left_alone(
    submitters: list[subprocess.Popen[str]], tmp_path: Path, state: Path
) -> None:
    process = calling(submitters, "sh", "-c", SLEEPS.format(tmp_path))
    called = number_in(tmp_path / "pid")
    [mark] = (state / "submitting").iterdir()
    with subprocess.Popen(["tail", "-f", str(mark)]) as person:
        until(lambda: str(mark) in map(str, open_files(person.pid)))
        killed(process)
        acting.others(time.time())
        assert not lives(called)
        assert person.poll() is None
        person.kill()


def open_files(pid: int) -> list[Path]:
    return [Path(os.readlink(each)) for each in Path(f"/proc/{pid}/fd").iterdir()]


def test_a_submitter_that_ends_in_peace_leaves_no_mark(
    submitters: list[subprocess.Popen[str]], state: Path
) -> None:
    calling(submitters, "true").wait()
    assert list((state / "submitting").iterdir()) == []


def test_the_end_of_the_dead_is_known_for_a_while(
    submitters: list[subprocess.Popen[str]], tmp_path: Path, state: Path
) -> None:
    """Processes that ended by themselves count, too: the batch system may still act for them."""
    process = calling(submitters, "sh", "-c", SLEEPS.format(tmp_path), limit_s=0.5)
    called = number_in(tmp_path / "pid")
    killed(process)
    until(lambda: not lives(called))
    (state / "submitting" / "a note").write_text("of a person")
    now = time.time() + 7
    assert acting.others(now) == (False, pytest.approx(now))
    assert acting.others(now + 1) == (False, pytest.approx(now))
    assert acting.others(now + acting.KEPT_S + 1) == (False, 0.0)
    assert [each.name for each in (state / "submitting").iterdir()] == ["a note"]


def test_a_mark_that_cannot_be_looked_at_may_be_held(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lack of file descriptors is one reason."""
    (state / "submitting").mkdir(parents=True)
    (state / "submitting" / "elsewhere-7-0.0.1").touch()

    def refuses(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(acting.os, "open", refuses)
    assert acting.others(1.0).live


def test_a_mark_that_cannot_be_made_prevents_no_submission(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    (state / "submitting").write_text("a file")
    code = "from zwrap.calls import acting; acting.begin(); print(acting.inherited())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "()\n"
    assert acting.others(1.0) == (False, 0.0)


@pytest.mark.parametrize(
    ("program", "why"),
    [("no-such-program", "No such file or directory"), ("{}/text", "Permission denied")],
)
def test_a_program_that_cannot_be_run(tmp_path: Path, program: str, why: str) -> None:
    (tmp_path / "text").write_text("not a program")
    program = program.format(tmp_path)
    reply = run(Command(argv=[program]))
    assert (reply.status, reply.unsent) == (None, True)
    assert reply.error == f"{program} cannot be run: {why}"


def test_a_program_is_found_in_the_environment_that_it_gets(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("#!/bin/sh\necho hello $1\nexit 3\n")
    (tmp_path / "hello").chmod(0o755)
    call = Command(argv=["hello", "you"], environment={"PATH": str(tmp_path)}, only=True)
    reply = run(call)
    assert (reply.status, reply.output) == (3, "hello you\n")


def test_a_program_runs_though_the_working_directory_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run(Command(argv=["pwd"])).output == "/\n"
