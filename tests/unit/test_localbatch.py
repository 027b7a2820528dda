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
    argv = [sys.executable, "-m", "zwrap.pool", "--directory", batch.directory, "list"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def ended(batch: LocalBatch, identity: int) -> Any:
    return wait_until(lambda: batch.status(DONE, identity))


def test_ids_rise_and_are_never_used_again(batch: LocalBatch) -> None:
    assert [submit(batch, "true") for _ in range(3)] == [1, 2, 3]
    for identity in (1, 2, 3):
        batch.cancel(identity)
    assert submit(batch, "true") == 4


def test_a_killed_runner_harms_no_job_and_the_next_one_goes_on(batch: LocalBatch) -> None:
    first = submit(batch, "touch started; sleep 1.5; touch ended")
    runner = subprocess.Popen(
        [sys.executable, "-m", "zwrap.pool", "--directory", batch.directory, "run"]
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
    argv = [sys.executable, "-m", "zwrap.pool", "--directory", batch.directory, "run"]
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


def test_a_runner_waits_a_while_for_further_jobs(batch: LocalBatch) -> None:
    pretended = Pretended(batch, slots=1)
    pretended.runner.run()
    assert IDLE_S <= pretended.now < IDLE_S + 1


def test_a_runner_ends_when_its_directory_is_deleted(tmp_path: Path) -> None:
    pretended = Pretended(LocalBatch(tmp_path / "deleted"), slots=1)
    shutil.rmtree(tmp_path / "deleted")
    pretended.runner.run()
    assert pretended.now < IDLE_S


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
