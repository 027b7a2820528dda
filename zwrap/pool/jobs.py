"""Station "batch system", the built-in one: jobs as directories, one machine, no server.

::

    <directory>/waiting/<id>/   submitted      job.json, script
    <directory>/running/<id>/   being run      + shepherd.json (who runs it), cancel (a wish)
    <directory>/done/<id>/      ended          + end.json (state, exit code or signal)

A job moves on by rename(2), so it is started at most once. A `runner` starts by itself when a
job is submitted, and ends when nothing is left to do; each job has a `shepherd` process of its
own, so killing the runner harms no job. ``python -m zwrap.pool`` is the command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from zwrap.errors import RejectedError
from zwrap.host.files import create_once, write_atomically
from zwrap.job import JobStatus, State

WAITING, RUNNING, DONE = "waiting", "running", "done"
KEEP_DONE_S = 7 * 24 * 3600.0


class LocalJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What job.json holds."""

    name: str
    working_directory: str
    output: str
    error: str
    walltime_s: int | None = None
    cpus: int = 1
    environment: dict[str, str] = {}
    submitted: float = 0.0


class LocalEnd(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What end.json holds."""

    state: State
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    ended: float = 0.0


class LocalBatch:
    """The files of one local batch system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in (WAITING, RUNNING, DONE, "tmp"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def submit(self, job: LocalJob, script: str) -> int:
        """Take a job; returns its id. The job is waiting, whole, when this returns."""
        if not Path(job.working_directory).is_dir():
            raise RejectedError(f"The working directory {job.working_directory} does not exist.")
        with self._lock("id.lock"):
            identity = self._next_id()
            draft = self.directory / "tmp" / str(identity)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            job.submitted = time.time()
            write_atomically(draft / "script", script, mode=0o700)
            write_atomically(draft / "job.json", msgspec.json.encode(job))
            draft.rename(self.directory / WAITING / str(identity))
        return identity

    def _next_id(self) -> int:
        counter = self.directory / "last_id"
        identity = int(counter.read_text()) + 1 if counter.exists() else 1
        write_atomically(counter, str(identity))
        return identity

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.directory / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def jobs(self, place: str) -> list[int]:
        """Ids of the jobs in one place, oldest first."""
        names = os.listdir(self.directory / place)
        return sorted(int(name) for name in names if name.isdecimal())

    def path(self, place: str, identity: int) -> Path:
        """Directory of a job in one place."""
        return self.directory / place / str(identity)

    def list(self, *, ended: bool, name: str | None = None) -> list[JobStatus]:
        """Status of the live jobs, or of all, of that name."""
        found: dict[int, JobStatus] = {}
        # In the direction in which jobs move, so that none is missed on its way.
        for place in (WAITING, RUNNING, DONE) if ended else (WAITING, RUNNING):
            for identity in self.jobs(place):
                status = self.status(place, identity)
                if status and name in (None, status.name):
                    found[identity] = status
        return list(found.values())

    def status(self, place: str, identity: int) -> JobStatus | None:
        """Status of one job; None if it is not, or no longer, in that place."""
        directory = self.path(place, identity)
        try:
            name = read_job(directory).name
            end = read_end(directory) if place == DONE else None
        except FileNotFoundError:
            return None
        if end is None:
            state = State.RUNNING if place == RUNNING else State.PENDING
            return JobStatus(job_id=str(identity), name=name, state=state)
        return JobStatus(
            job_id=str(identity),
            name=name,
            state=end.state,
            exit_code=end.exit_code,
            signal=end.signal,
            reason=end.reason,
        )

    def claim(self, identity: int) -> bool:
        """Move a job from waiting to running; False if another was first."""
        try:
            self.path(WAITING, identity).rename(self.path(RUNNING, identity))
        except OSError:
            return False
        return True

    def end(self, identity: int, end: LocalEnd) -> None:
        """Record how a running job ended, once; whoever is first is believed."""
        directory = self.path(RUNNING, identity)
        end.ended = time.time()
        with contextlib.suppress(FileNotFoundError):
            create_once(directory / "end.json", msgspec.json.encode(end))
            directory.rename(self.path(DONE, identity))

    def cancel(self, identity: int) -> None:
        """End a job: at once if it waits, through its shepherd if it runs."""
        for place in (WAITING, RUNNING):
            with contextlib.suppress(FileNotFoundError):
                (self.path(place, identity) / "cancel").touch()
        if self.claim(identity):
            self.end(
                identity, LocalEnd(state=State.CANCELLED, reason="cancelled before it started")
            )

    def forget_old(self) -> None:
        """Remove jobs that ended more than a week ago."""
        for identity in self.jobs(DONE):
            directory = self.path(DONE, identity)
            with contextlib.suppress(OSError):
                if time.time() - directory.stat().st_mtime > KEEP_DONE_S:
                    shutil.rmtree(directory)


def read_job(directory: Path) -> LocalJob:
    """The job in a directory."""
    return msgspec.json.decode((directory / "job.json").read_bytes(), type=LocalJob)


def read_end(directory: Path) -> LocalEnd:
    """How the job in a directory ended."""
    return msgspec.json.decode((directory / "end.json").read_bytes(), type=LocalEnd)
