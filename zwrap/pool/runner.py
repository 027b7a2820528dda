"""The runner starts waiting jobs as long as there are processors; one shepherd runs one job."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from zwrap.host.files import create_once
from zwrap.host.processes import ProcessIdentity, is_alive, this_process
from zwrap.job import State
from zwrap.pool.jobs import RUNNING, WAITING, LocalBatch, LocalEnd, LocalJob, read_job

IDLE_S = 2.0
"""The runner ends when nothing waits or runs for so long."""

POLL_S = 0.05
OUTAGE_S = 1.0
"""Pause before the next try while the disk cannot be written."""

GRACE_S = 10.0
"""Time between SIGTERM and SIGKILL for a job that must end."""


def start_runner(directory: Path) -> None:
    """Start a runner in the background unless one is at work; for a process that ends soon."""
    with (directory / "runner.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # it looks for jobs once more after it gave up the lock
    with (directory / "runner.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "zwrap.pool", "--directory", str(directory), "run"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def run(directory: Path) -> None:
    """Be the runner until nothing is left to do; return at once if there is one."""
    batch = LocalBatch(directory)
    while True:
        with (directory / "runner.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            _Runner(batch, lock.fileno()).run()
        if not batch.jobs(WAITING):
            return


class _Runner:
    def __init__(self, batch: LocalBatch, lock: int) -> None:
        self._batch = batch
        self._lock = lock
        self._slots = int(os.environ.get("ZWRAP_LOCAL_CPUS") or os.cpu_count() or 1)
        self._forked: dict[int, int] = {}
        """Process id of the shepherd that was forked, and its job."""

    def run(self) -> None:
        self._batch.forget_old()
        busy_at = time.monotonic()
        while time.monotonic() - busy_at < IDLE_S:
            try:
                self._reap()
                if self._look_after_running() + self._start_waiting():
                    busy_at = time.monotonic()
            except OSError as error:  # a full disk: the jobs are there still when it is not
                sys.stderr.write(f"{time.ctime()} {error.filename}: {error.strerror}\n")
                busy_at = time.monotonic()
                time.sleep(OUTAGE_S)
            time.sleep(POLL_S)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._forked.pop(pid, None)

    def _look_after_running(self) -> int:
        """Find jobs whose shepherd is gone; number of running jobs."""
        running = self._batch.jobs(RUNNING)
        for identity in running:
            shepherd = shepherd_of(self._batch.path(RUNNING, identity))
            if shepherd is None:
                if identity not in self._forked.values():  # its runner or shepherd died too soon
                    self._fork(identity)
            elif is_alive(shepherd) is False:
                kill_session(shepherd.pid)
                end = LocalEnd(
                    state=State.NODE_FAIL, reason="the process that looked after it died"
                )
                self._batch.end(identity, end)
        return len(running)

    def _start_waiting(self) -> int:
        waiting = self._batch.jobs(WAITING)
        if waiting:
            free = self._slots - sum(self._cpus(RUNNING, job) for job in self._batch.jobs(RUNNING))
            for identity in waiting:
                cpus = min(self._cpus(WAITING, identity), self._slots)
                if cpus > free:
                    break  # first come, first served
                if self._batch.claim(identity):
                    free -= cpus
                    self._fork(identity)
        return len(waiting)

    def _cpus(self, place: str, identity: int) -> int:
        try:
            return read_job(self._batch.path(place, identity)).cpus
        except FileNotFoundError:
            return 0

    def _fork(self, identity: int) -> None:
        pid = os.fork()
        if pid:
            self._forked[pid] = identity
            return
        try:
            os.close(self._lock)
            os.setsid()
            _shepherd(self._batch, identity)
        finally:
            os._exit(0)


def shepherd_of(directory: Path) -> ProcessIdentity | None:
    """Who looks after the running job in a directory; None if nobody does yet."""
    try:
        return ProcessIdentity.parse(
            msgspec.json.decode((directory / "shepherd.json").read_bytes(), type=str)
        )
    except FileNotFoundError:
        return None


def kill_session(leader: int) -> None:
    """End every process of a session whose leader died."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(int(entry)) == leader and int(entry) != os.getpid():
                    os.kill(int(entry), signal.SIGKILL)


def _shepherd(batch: LocalBatch, identity: int) -> None:
    """Run one job to its end and record it."""
    directory = batch.path(RUNNING, identity)
    me = msgspec.json.encode(str(this_process()))
    if not create_once(directory / "shepherd.json", me):
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        if (directory / "cancel").exists():
            end = LocalEnd(state=State.CANCELLED, reason="cancelled before it started")
        else:
            end = _run_script(read_job(directory), directory, identity)
    except OSError as error:
        end = LocalEnd(state=State.FAILED, reason=f"{error.filename}: {error.strerror}")
    while True:
        try:
            batch.end(identity, end)
            return
        except OSError:  # a full disk must not make an ended job a lost one
            time.sleep(OUTAGE_S)


def _environment(job: LocalJob, identity: int) -> dict[str, str]:
    """What every batch system gives a job, and nothing else of the submitting process."""
    kept = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **{name: os.environ[name] for name in kept if name in os.environ},
        **job.environment,
        "ZWRAP_LOCAL_JOB_ID": str(identity),
    }


def _run_script(job: LocalJob, directory: Path, identity: int) -> LocalEnd:
    with Path(job.output).open("ab") as output, Path(job.error).open("ab") as error:
        process = subprocess.Popen(
            ["/bin/bash", str(directory / "script")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=error,
            cwd=job.working_directory,
            env=_environment(job, identity),
            process_group=0,
            preexec_fn=_default_signals,  # noqa: PLW1509  (the shepherd has one thread)
        )
    stopped = _wait(process, directory, job.walltime_s)
    code = process.returncode
    if stopped:
        if code < 0:
            return LocalEnd(state=stopped, signal=-code)
        return LocalEnd(state=stopped, exit_code=code)
    if code < 0:
        return LocalEnd(state=State.FAILED, signal=-code, reason=f"killed by signal {-code}")
    return LocalEnd(state=State.COMPLETED if code == 0 else State.FAILED, exit_code=code)


def _default_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait(process: subprocess.Popen[bytes], directory: Path, limit_s: int | None) -> State | None:
    """Wait for the end; why the job was ended from outside, if it was."""
    deadline = time.monotonic() + limit_s if limit_s else float("inf")
    stopped: State | None = None
    kill_at = float("inf")
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], 0.2)[0]:
            now = time.monotonic()
            if stopped is None:
                if (directory / "cancel").exists():
                    stopped = State.CANCELLED
                elif now > deadline:
                    stopped = State.TIMEOUT
                if stopped:
                    kill_at = now + GRACE_S
                    os.killpg(process.pid, signal.SIGTERM)
            elif now > kill_at:
                os.killpg(process.pid, signal.SIGKILL)
                kill_at = float("inf")
    finally:
        os.close(ended)
    process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while stopped and time.monotonic() < kill_at < float("inf"):
            # The shell dies of SIGTERM at once; the wrapper in it has the rest of the time.
            os.killpg(process.pid, 0)
            time.sleep(POLL_S)
        os.killpg(process.pid, signal.SIGKILL)
    return stopped
