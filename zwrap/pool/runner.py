"""The runner of the built-in batch system: starts waiting jobs when processors are free."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from zwrap.host.clock import Clock, elapsed
from zwrap.host.ending import end_session
from zwrap.host.files import UnfitFileError, open_to_append
from zwrap.host.modes import PRIVATE_FILE
from zwrap.host.printable import printable
from zwrap.host.processes import is_alive
from zwrap.host.programs import ELSEWHERE, own_python
from zwrap.job import State
from zwrap.pool.jobs import RUNNING, WAITING, LocalBatch, LocalEnd, read_job
from zwrap.pool.shepherd import OUTAGE_S, run_job, shepherd_of

IDLE_S = 2.0
"""Time without waiting or running jobs after which the runner ends, in seconds."""

POLL_S = 0.05
"""Poll interval of the jobs, in seconds."""


def start_runner(directory: Path) -> None:
    """Start a runner in the background, as a process of its own, unless one is at work."""
    with open_to_append(directory / "runner.lock", PRIVATE_FILE) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # the runner at work looks for jobs once more after it gave up the lock
    with open_to_append(directory / "runner.log", PRIVATE_FILE) as log:
        subprocess.Popen(
            own_python("-m", "zwrap.pool", "--directory", str(directory), "run"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            cwd=ELSEWHERE,
        )


def run(directory: Path) -> None:
    """Run jobs until nothing is left to do; return immediately if another runner is at work.

    ``ZWRAP_LOCAL_CPUS`` is the number of processors that jobs may use; default: all.
    """
    batch = LocalBatch(directory)
    slots = int(os.environ.get("ZWRAP_LOCAL_CPUS") or os.cpu_count() or 1)
    while True:
        with open_to_append(directory / "runner.lock", PRIVATE_FILE) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            batch.forget_old()
            descriptor = lock.fileno()
            Runner(batch, lambda job: _fork(batch, job, descriptor), slots=slots).run()  # noqa: B023
        if batch.is_removed or not batch.jobs(WAITING):
            return


class Runner:
    """The part that decides which job starts, and that notices jobs whose shepherd is gone."""

    def __init__(
        self,
        batch: LocalBatch,
        start: Callable[[int], int],
        *,
        slots: int,
        clock: Clock = elapsed,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Construct a runner, which does nothing before `run` or `turn`.

        Args:
            batch: The jobs.
            start: Function from the id of a claimed job, whose shepherd it starts, to the
                shepherd's process id.
            slots: Number of processors that jobs may use.
            clock: Clock for the time without jobs.
            pause: Function that waits for a number of seconds.
        """
        self._batch = batch
        self._start = start
        self._slots = slots
        self._clock = clock
        self._pause = pause
        self._started: dict[int, int] = {}
        """Process id of a shepherd that was started here and has not ended, to its job id."""

    def run(self) -> None:
        """Start jobs until none has been waiting or running for `IDLE_S`, or all are deleted."""
        busy_at = self._clock()
        while self._clock() - busy_at < IDLE_S:
            try:
                if self.turn():
                    busy_at = self._clock()
            except OSError as error:
                if self._batch.is_removed:
                    return
                # A full disk, for example; the jobs are still there when it has room again.
                sentence = f"{time.ctime()} {error.filename}: {error.strerror}"
                sys.stderr.write(printable(sentence) + "\n")
                busy_at = self._clock()
                self._pause(OUTAGE_S)
            self._pause(POLL_S)

    def turn(self) -> bool:
        """Look at all jobs once; return True if any was waiting or running."""
        self._reap()
        running = self._look_after_running()
        return self._start_waiting() + running > 0

    def _reap(self) -> None:
        """Wait for shepherds that have ended, so that no zombies are left."""
        for pid in list(self._started):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._started[pid]

    def _look_after_running(self) -> int:
        """Restart or conclude jobs whose shepherd is gone; return the number of running jobs."""
        running = self._batch.jobs(RUNNING)
        for identity in running:
            try:
                shepherd = shepherd_of(self._batch.path(RUNNING, identity))
            except UnfitFileError as error:  # nobody can look after it
                self._batch.end(identity, LocalEnd(state=State.NODE_FAIL, reason=str(error)))
                continue
            if shepherd is None:
                if identity not in self._started.values():  # its runner or shepherd died too soon
                    self._started[self._start(identity)] = identity
            elif is_alive(shepherd) is False:
                end_session(shepherd.pid)
                end = LocalEnd(
                    state=State.NODE_FAIL, reason="the process that looked after it died"
                )
                self._batch.end(identity, end)
        return len(running)

    def _start_waiting(self) -> int:
        """Start jobs in the order of their ids; return the number of jobs that were waiting.

        First come, first served: all jobs after one that waits for processors wait, too, so that
        small jobs never starve a wide one. A job wider than the machine gets the whole machine.
        """
        waiting = self._batch.jobs(WAITING)
        if waiting:
            free = self._slots - sum(self._cpus(RUNNING, job) for job in self._batch.jobs(RUNNING))
            for identity in waiting:
                cpus = min(self._cpus(WAITING, identity), self._slots)
                if cpus > free:
                    break
                if self._batch.claim(identity):
                    free -= cpus
                    self._started[self._start(identity)] = identity
        return len(waiting)

    def _cpus(self, place: str, identity: int) -> int:
        """Return the number of processors of a job; 0 if it has moved on, or cannot be read."""
        try:
            return read_job(self._batch.path(place, identity)).cpus
        except (FileNotFoundError, UnfitFileError):
            return 0


def _fork(batch: LocalBatch, identity: int, lock: int) -> int:
    """Start the shepherd of a job as a child that leads a session; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(lock)
        os.setsid()
        run_job(batch, identity)
    finally:
        os._exit(0)
