"""Rules of the local batch system that its contract as a scheduler does not show."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import RejectedError
from zwrap.job import State
from zwrap.pool.__main__ import main
from zwrap.pool.jobs import DONE, KEEP_DONE_S, RUNNING, WAITING, LocalBatch, LocalEnd, LocalJob
from zwrap.pool.runner import IDLE_S, Runner
from zwrap.pool.shepherd import shepherd_of

from ..hostile_files import ILL, UNFIT


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[LocalBatch]:
    made = LocalBatch(tmp_path / "batch")
    yield made
    for place in (WAITING, RUNNING):
        for identity in made.jobs(place):
            made.cancel(identity)
    wait_until(lambda: not made.jobs(RUNNING))


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return result


def submit(batch: LocalBatch, script: str, **values: Any) -> int:
    directory = str(batch.directory.parent)
    job = LocalJob(
        name="n.t", working_directory=directory, output=f"{directory}/out",
        error=f"{directory}/err", **values,
    )  # fmt: skip
    return batch.submit(job, f"#!/bin/bash\n{script}\n")


def revive(batch: LocalBatch) -> None:
    """Look at the jobs by the command line, which starts a runner if there is something to do."""
    argv = [sys.executable, "-P", "-m", "zwrap.pool", "--directory", batch.directory, "list"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def ended(batch: LocalBatch, identity: int) -> Any:
    return wait_until(lambda: batch.status(DONE, identity))


def test_ids_rise_and_are_never_used_again(batch: LocalBatch) -> None:
    assert [submit(batch, "true") for _ in range(3)] == [1, 2, 3]
    for identity in (1, 2, 3):
        batch.cancel(identity)
    assert submit(batch, "true") == 4


def test_a_script_may_hold_bytes_that_are_not_utf_8(batch: LocalBatch, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/bash\nprintf 'a\xffb'\n")
    argv = [sys.executable, "-P", "-m", "zwrap.pool", "--directory", batch.directory, "submit"]
    names = ["--name", "j.t-1", "--chdir", tmp_path]
    files = ["--output", tmp_path / "out", "--error", tmp_path / "err"]
    subprocess.run([*argv, *names, *files, script], check=True, capture_output=True)
    wait_until((tmp_path / "out").exists)
    wait_until(lambda: (tmp_path / "out").read_bytes() == b"a\xffb")


def test_a_killed_runner_harms_no_job_and_the_next_one_goes_on(batch: LocalBatch) -> None:
    first = submit(batch, "touch started; sleep 1.5; touch ended")
    runner = subprocess.Popen(
        [sys.executable, "-P", "-m", "zwrap.pool", "--directory", batch.directory, "run"]
    )
    wait_until((batch.directory.parent / "started").exists)
    runner.kill()
    runner.wait()
    second = submit(batch, "true")
    revive(batch)
    assert ended(batch, first).state is State.COMPLETED
    assert (batch.directory.parent / "ended").exists()
    assert ended(batch, second).state is State.COMPLETED


def test_a_job_whose_shepherd_is_killed_has_failed_and_no_process_of_it_lives(
    batch: LocalBatch,
) -> None:
    identity = submit(batch, "sleep 60 & echo $! >pid; wait")
    revive(batch)
    file = batch.directory.parent / "pid"
    pid = wait_until(lambda: file.exists() and file.read_text().strip())
    shepherd = shepherd_of(batch.path(RUNNING, identity))
    assert shepherd
    os.kill(shepherd.pid, signal.SIGKILL)
    assert ended(batch, identity).state is State.NODE_FAIL
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_job_whose_runner_died_before_it_forked_is_run(batch: LocalBatch) -> None:
    identity = submit(batch, "true")
    assert batch.claim(identity)
    revive(batch)
    assert ended(batch, identity).state is State.COMPLETED


def test_the_first_word_on_how_a_job_ended_stands(batch: LocalBatch) -> None:
    identity = submit(batch, "true")
    batch.claim(identity)
    batch.end(identity, LocalEnd(state=State.COMPLETED, exit_code=0))
    batch.end(identity, LocalEnd(state=State.NODE_FAIL))
    assert ended(batch, identity).state is State.COMPLETED


def test_a_job_is_claimed_once(batch: LocalBatch) -> None:
    identity = submit(batch, "true")
    assert [batch.claim(identity), batch.claim(identity)] == [True, False]
    batch.end(identity, LocalEnd(state=State.CANCELLED))


def test_a_runner_ends_when_no_job_is_left(batch: LocalBatch) -> None:
    began = time.monotonic()
    argv = [sys.executable, "-P", "-m", "zwrap.pool", "--directory", batch.directory, "run"]
    assert subprocess.run(argv, check=True, timeout=30).returncode == 0
    assert time.monotonic() - began < 20


def test_jobs_that_ended_long_ago_are_forgotten(batch: LocalBatch) -> None:
    identity = submit(batch, "true")
    batch.cancel(identity)
    now = time.time()
    LocalBatch(batch.directory, clock=lambda: now + KEEP_DONE_S - 60).forget_old()
    assert batch.status(DONE, identity)
    LocalBatch(batch.directory, clock=lambda: now + KEEP_DONE_S + 60).forget_old()
    assert batch.status(DONE, identity) is None


def test_a_wide_job_waits_for_its_processors_but_not_for_ever(
    batch: LocalBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "2")
    identity = submit(batch, "true", cpus=64)
    revive(batch)
    assert ended(batch, identity).state is State.COMPLETED


class Pretended:
    """A runner without processes: jobs that it starts run until `end`, and time does not pass."""

    def __init__(self, batch: LocalBatch, slots: int) -> None:
        self.batch = batch
        self.started: list[int] = []
        self.now = 0.0
        self.runner = Runner(
            batch, self._start, slots=slots, clock=lambda: self.now, pause=self._pause
        )

    def _start(self, identity: int) -> int:
        self.started.append(identity)
        return 2**22 + identity  # above the largest process id (proc(5), pid_max)

    def _pause(self, seconds: float) -> None:
        self.now += seconds

    def end(self, identity: int) -> None:
        self.batch.end(identity, LocalEnd(state=State.COMPLETED, exit_code=0))


def test_no_small_job_overtakes_a_wide_one(batch: LocalBatch) -> None:
    """First come, first served: else small jobs could keep a wide one from ever starting."""
    first, wide, small = (submit(batch, "true", cpus=cpus) for cpus in (1, 2, 1))
    pretended = Pretended(batch, slots=2)
    assert pretended.runner.turn()
    assert pretended.started == [first]
    pretended.end(first)
    assert pretended.runner.turn()
    assert pretended.started == [first, wide]
    pretended.end(wide)
    assert pretended.runner.turn()
    assert pretended.started == [first, wide, small]
    pretended.end(small)
    assert not pretended.runner.turn()


def test_as_many_jobs_run_as_there_are_processors(batch: LocalBatch) -> None:
    submitted = [submit(batch, "true", cpus=cpus) for cpus in (2, 1, 1, 1)]
    pretended = Pretended(batch, slots=4)
    for _ in range(2):
        pretended.runner.turn()
        assert pretended.started == submitted[:3], "each once"
    pretended.end(submitted[1])
    pretended.runner.turn()
    assert pretended.started == submitted
    for identity in submitted:
        pretended.end(identity)


@pytest.mark.parametrize("kind", sorted({**UNFIT, **ILL}))
@pytest.mark.parametrize("name", ["job.json", "shepherd.json", "end.json", "script"])
def test_a_job_with_a_bad_file_holds_up_no_other(batch: LocalBatch, kind: str, name: str) -> None:
    bad, good = (submit(batch, "true") for _ in range(2))
    place = WAITING
    if name != "job.json":
        batch.claim(bad)
        place = RUNNING
    file = batch.path(place, bad) / name
    file.unlink(missing_ok=True)
    {**UNFIT, **ILL}[kind](file)
    pretended = Pretended(batch, slots=4)
    for _ in range(3):
        pretended.runner.turn()
    assert good in pretended.started
    batch.list(ended=True)
    pretended.end(good)
    batch.end(bad, LocalEnd(state=State.FAILED))
    found = {status.job_id: status for status in batch.list(ended=True)}
    assert found[str(good)].state is State.COMPLETED
    if name != "job.json":
        assert found[str(bad)].state.is_final


@pytest.mark.parametrize("kind", sorted({**UNFIT, **ILL}))
@pytest.mark.parametrize("name", ["7", "007", "\u0663", "9" * 200])
def test_what_is_no_job_is_none(batch: LocalBatch, kind: str, name: str) -> None:
    for place in (WAITING, RUNNING, DONE):
        {**UNFIT, **ILL}[kind](batch.directory / place / name)
    {**UNFIT, **ILL}[kind](batch.directory / "tmp" / "1")
    identity = submit(batch, "true")
    pretended = Pretended(batch, slots=4)
    pretended.runner.turn()
    assert identity in pretended.started
    pretended.end(identity)
    batch.list(ended=True)
    for place in (WAITING, RUNNING):
        if "directory" in kind:
            shutil.rmtree(batch.directory / place / name, ignore_errors=True)


def test_a_job_whose_output_nobody_reads_has_failed(batch: LocalBatch) -> None:
    os.mkfifo(batch.directory.parent / "out")
    bad = submit(batch, "true")
    revive(batch)
    end = ended(batch, bad)
    assert end.state is State.FAILED
    assert "out: " in end.reason


def test_a_job_whose_file_is_garbage_has_failed(batch: LocalBatch) -> None:
    bad, good = (submit(batch, "true") for _ in range(2))
    (batch.path(WAITING, bad) / "job.json").write_text("garbage")
    revive(batch)
    assert ended(batch, good).state is State.COMPLETED
    wait_until(lambda: bad in batch.jobs(DONE))


def test_a_runner_waits_a_while_for_further_jobs(batch: LocalBatch) -> None:
    pretended = Pretended(batch, slots=1)
    pretended.runner.run()
    assert IDLE_S <= pretended.now < IDLE_S + 1


def test_a_runner_ends_when_its_directory_is_deleted(tmp_path: Path) -> None:
    pretended = Pretended(LocalBatch(tmp_path / "deleted"), slots=1)
    shutil.rmtree(tmp_path / "deleted")
    pretended.runner.run()
    assert pretended.now < IDLE_S


@pytest.mark.parametrize("part", [WAITING, RUNNING, DONE])
def test_a_runner_ends_when_a_part_of_its_directory_is_deleted(tmp_path: Path, part: str) -> None:
    """Somebody's `rm -r` met a file that was just being written."""
    batch = LocalBatch(tmp_path / "deleted")
    submit(batch, "true")
    pretended = Pretended(batch, slots=1)
    shutil.rmtree(batch.directory / part)
    if part != DONE:
        pretended.runner.run()
        assert pretended.now < IDLE_S
    assert batch.is_removed


def test_a_job_whose_files_are_damaged_holds_up_no_other(batch: LocalBatch) -> None:
    damaged, good = submit(batch, "true"), submit(batch, "true")
    (batch.path(WAITING, damaged) / "job.json").write_bytes(b"\xff{")
    assert [job.job_id for job in batch.list(ended=True)] == [str(good)]
    revive(batch)
    assert ended(batch, good).state is State.COMPLETED
    wait_until(lambda: damaged in batch.jobs(DONE))


def test_a_disk_that_cannot_be_written_keeps_the_runner_and_the_jobs(
    batch: LocalBatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = submit(batch, "true")
    pretended = Pretended(batch, slots=1)

    def full(identity: int) -> bool:
        if pretended.now < 10 * IDLE_S:
            raise OSError(errno.ENOSPC, "No space left on device", "waiting")
        monkeypatch.undo()
        batch.claim(identity)
        pretended.end(identity)
        return False

    monkeypatch.setattr(batch, "claim", full)
    pretended.runner.run()
    assert "waiting: No space left on device" in capsys.readouterr().err
    assert batch.status(DONE, identity)


def test_a_working_directory_that_is_gone_is_refused(batch: LocalBatch, tmp_path: Path) -> None:
    gone = f"{tmp_path}/gone"
    job = LocalJob(name="n", working_directory=gone, output=f"{gone}/o", error=f"{gone}/e")
    with pytest.raises(RejectedError, match="/gone does not exist"):
        batch.submit(job, "true")


def test_an_output_that_cannot_be_written_fails_the_job_and_says_so(batch: LocalBatch) -> None:
    job = LocalJob(name="n", working_directory="/", output="/proc/no/out", error="/dev/null")
    identity = batch.submit(job, "true")
    revive(batch)
    status = ended(batch, identity)
    assert (status.state, status.reason) == (
        State.FAILED,
        "/proc/no/out: No such file or directory",
    )


def test_a_directory_that_cannot_be_used_is_a_temporary_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--directory", "/proc/no", "list"]) == 111
    assert capsys.readouterr().err.startswith("localbatch: /proc/no")


def test_a_script_without_an_end_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    places = [f"--{each}={tmp_path}/x" for each in ("chdir", "output", "error")]
    words = ["--directory", str(tmp_path / "jobs"), "submit", "--name=n", *places]
    assert main([*words, str(tmp_path / "endless")]) == 100
    assert "endless has more than 67108864 bytes" in capsys.readouterr().err
