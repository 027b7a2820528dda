"""Station "batch system", the built-in one: jobs as directories, one machine, no server.

::

    <directory>/waiting/<id>/   submitted      job.json, script
    <directory>/running/<id>/   being run      + shepherd.json (the process that runs it)
    <directory>/done/<id>/      ended          + end.json (state, exit code or signal)

A job moves by rename(2), so it is started at most once; a file ``cancel`` in its directory asks for
its end, and ``timeout`` tells the job that it is stopped at its time limit. Two kinds of process do
the work. The *runner* (`zwrap.pool.runner`) decides which job starts; it is started with the first
job and ends when nothing is left to do. A *shepherd* (`zwrap.pool.shepherd`) carries out one job
and records its end, as Grid Engine's sge_shepherd(8) does, so killing the runner harms no job.
``python -m zwrap.pool`` is the command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from zwrap.errors import RejectedError
from zwrap.host.clock import Clock, wall
from zwrap.host.files import (
    UnfitFileError,
    create_once,
    open_to_append,
    read_regular,
    write_atomically,
)
from zwrap.host.modes import PRIVATE_DIRECTORY, PRIVATE_FILE, PRIVATE_SCRIPT, make_private
from zwrap.job import JobStatus, State

WAITING, RUNNING, DONE = "waiting", "running", "done"
"""Names of the directories through which a job moves."""

_ID = re.compile("[1-9][0-9]{0,17}")
"""Form of the name of a job's directory."""

FILE_BYTES = 64 << 20
"""Largest size of a file about a job that is read, in bytes."""

KEEP_DONE_S = 7 * 24 * 3600.0
"""Time for which an ended job is kept, in seconds."""


class LocalJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A job as it was submitted: the content of job.json. Paths are absolute."""

    name: str
    working_directory: str
    output: str
    error: str
    walltime_s: int | None = None
    """Time limit, in seconds; None: no limit."""
    cpus: int = 1
    environment: dict[str, str] = {}
    below: list[str] = []
    """Directories out of which no link may lead when paths of the job are opened; empty:
    anywhere."""
    submitted: float = 0.0
    """Time of submission, in seconds since the epoch."""


class LocalEnd(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The end of a job: the content of end.json."""

    state: State
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    """Reason of the end, for people."""
    ended: float = 0.0
    """Time of the end, in seconds since the epoch."""


class LocalBatch:
    """The files of one local batch system; any number of processes may use them."""

    def __init__(self, directory: Path, *, clock: Clock = wall) -> None:
        """Use a directory on a local disk, which is created; `clock`: seconds since the epoch."""
        self.directory = directory
        self._clock = clock
        for place in (directory, *(directory / name for name in (WAITING, RUNNING, DONE, "tmp"))):
            make_private(place)

    @property
    def is_removed(self) -> bool:
        """True if the directory, or one through which jobs move, was removed.

        Raises OSError if that cannot be told now.
        """
        return not all((self.directory / name).is_dir() for name in (WAITING, RUNNING, DONE))

    def submit(self, job: LocalJob, script: bytes | str) -> int:
        """Accept a job and return its id; its files are complete when this returns.

        Raises RejectedError if the job cannot run, and OSError if it cannot be written.
        """
        if not Path(job.working_directory).is_dir():
            raise RejectedError(f"The working directory {job.working_directory} does not exist.")
        with self._lock("id.lock"):
            identity = self._next_id()
            draft = self.directory / "tmp" / str(identity)
            if not _is_new(draft):
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(PRIVATE_DIRECTORY)
            job.submitted = self._clock()
            write_atomically(draft / "script", script, mode=PRIVATE_SCRIPT)
            write_atomically(draft / "job.json", msgspec.json.encode(job), mode=PRIVATE_FILE)
            draft.rename(self.directory / WAITING / str(identity))
        return identity

    def _next_id(self) -> int:
        """Return a new id; the caller holds the lock."""
        counter = self.directory / "last_id"
        identity = int(counter.read_text()) + 1 if counter.exists() else 1
        write_atomically(counter, str(identity), mode=PRIVATE_FILE)
        return identity

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Hold a lock file of the directory."""
        with open_to_append(self.directory / name, PRIVATE_FILE) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def jobs(self, place: str) -> list[int]:
        """Return the ids of the jobs in one place, oldest first."""
        with os.scandir(self.directory / place) as entries:
            return sorted(
                int(entry.name)
                for entry in entries
                if _ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )

    def path(self, place: str, identity: int) -> Path:
        """Return the directory of a job in one place."""
        return self.directory / place / str(identity)

    def list(self, *, ended: bool, name: str | None = None) -> list[JobStatus]:
        """Return the status of live jobs, with `ended` of all jobs; `name`: only jobs so named."""
        found: dict[int, JobStatus] = {}
        # In the direction in which jobs move, so that none is missed while it moves.
        for place in (WAITING, RUNNING, DONE) if ended else (WAITING, RUNNING):
            for identity in self.jobs(place):
                status = self.status(place, identity)
                if status and name in (None, status.name):
                    found[identity] = status
        return list(found.values())

    def status(self, place: str, identity: int) -> JobStatus | None:
        """Return the status of a job; None if it is not in that place, or not any more.

        A job whose name cannot be read has no status either.
        """
        directory = self.path(place, identity)
        try:
            name = read_job(directory).name
        except (FileNotFoundError, UnfitFileError):
            return None
        try:
            end = read_end(directory) if place == DONE else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnfitFileError as error:
            end = LocalEnd(state=State.FAILED, reason=str(error))
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
        """Move a job from waiting to running; return False if that is no longer possible."""
        try:
            self.path(WAITING, identity).rename(self.path(RUNNING, identity))
        except OSError:
            return False
        return True

    def end(self, identity: int, end: LocalEnd) -> None:
        """Record the end of a running job; only the first record counts."""
        directory = self.path(RUNNING, identity)
        end.ended = self._clock()
        with contextlib.suppress(FileNotFoundError):
            create_once(directory / "end.json", msgspec.json.encode(end), mode=PRIVATE_FILE)
            directory.rename(self.path(DONE, identity))

    def cancel(self, identity: int) -> None:
        """End a job that waits; ask the shepherd of a running job to end it."""
        for place in (WAITING, RUNNING):
            with contextlib.suppress(FileNotFoundError):
                (self.path(place, identity) / "cancel").touch(PRIVATE_FILE)
        if self.claim(identity):
            self.end(
                identity, LocalEnd(state=State.CANCELLED, reason="cancelled before it started")
            )

    def forget_old(self) -> None:
        """Remove jobs that ended more than `KEEP_DONE_S` ago."""
        for identity in self.jobs(DONE):
            directory = self.path(DONE, identity)
            with contextlib.suppress(OSError):
                if self._clock() - directory.stat().st_mtime > KEEP_DONE_S:
                    shutil.rmtree(directory)


def _is_new(directory: Path) -> bool:
    """Create a directory, in place of anything but one; return False if there is one already."""
    try:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            directory.unlink()
    except FileNotFoundError:
        pass
    try:
        directory.mkdir(PRIVATE_DIRECTORY)
    except FileExistsError:
        return False
    return True


def read_job(directory: Path) -> LocalJob:
    """Return the job in a directory.

    Raises:
        FileNotFoundError: It has moved on.
        UnfitFileError: Its file does not hold a job.
    """
    return _read(directory / "job.json", LocalJob)


def read_end(directory: Path) -> LocalEnd:
    """Return the end of the job in a directory.

    Raises:
        FileNotFoundError: It has none, or is removed.
        UnfitFileError: Its file does not hold an end.
    """
    return _read(directory / "end.json", LocalEnd)


T = TypeVar("T")


def _read(file: Path, kind: type[T]) -> T:
    """Return the value in a file of a job, which the job itself may have changed."""
    try:
        return msgspec.json.decode(read_regular(file, FILE_BYTES), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnfitFileError(f"{file} cannot be used: {error}.") from None


def read_shepherd(directory: Path) -> str:
    """Return the identity of the process that runs the job in a directory.

    Raises:
        FileNotFoundError: There is none yet.
        UnfitFileError: Its file does not hold an identity.
    """
    return _read(directory / "shepherd.json", str)
