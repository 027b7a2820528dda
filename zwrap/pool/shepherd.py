"""The shepherd: runs one job, ends it when it has to end, and records its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from zwrap.host.beneath import AllowedDirectories, OutsideError
from zwrap.host.ending import Act, Ending
from zwrap.host.files import UnfitFileError, create_once
from zwrap.host.modes import PRIVATE_FILE, READ_FILE
from zwrap.host.processes import ProcessIdentity, this_process
from zwrap.job import State
from zwrap.pool.jobs import RUNNING, LocalBatch, LocalEnd, LocalJob, read_job, read_shepherd

GRACE_S = 10.0
"""Time between SIGTERM and SIGKILL for a job that must end, in seconds."""

CANCEL_POLL_S = 0.2
"""Poll interval of the request to cancel the job, in seconds."""

GROUP_POLL_S = 0.05
"""Poll interval of the process group of a job that was stopped, in seconds."""

OUTAGE_S = 1.0
"""Pause before the next try while the disk cannot be written, in seconds."""

TIMEOUT_FILE = "timeout"
"""Name of the file by which a job learns that it is stopped at its time limit."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that are meant for the job and that the shepherd ignores."""


def shepherd_of(directory: Path) -> ProcessIdentity | None:
    """Return the shepherd of the running job in a directory; None: it has none yet.

    Raises UnfitFileError if the file about it does not name one.
    """
    try:
        text = read_shepherd(directory)
    except FileNotFoundError:
        return None
    shepherd = ProcessIdentity.parse(text)
    if shepherd is None:
        raise UnfitFileError(f"{directory}/shepherd.json names no process.")
    return shepherd


def run_job(batch: LocalBatch, identity: int) -> None:
    """Run a claimed job and record its end, unless another shepherd does."""
    directory = batch.path(RUNNING, identity)
    me = msgspec.json.encode(str(this_process()))
    if not create_once(directory / "shepherd.json", me, mode=PRIVATE_FILE):
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        if (directory / "cancel").exists():
            end = LocalEnd(state=State.CANCELLED, reason="cancelled before it started")
        else:
            end = _run_script(read_job(directory), directory, identity)
    except (UnfitFileError, OutsideError) as error:
        end = LocalEnd(state=State.FAILED, reason=str(error))
    except OSError as error:
        end = LocalEnd(state=State.FAILED, reason=f"{error.filename}: {error.strerror}")
    except ValueError as error:  # a path that cannot be one
        end = LocalEnd(state=State.FAILED, reason=f"{directory / 'job.json'} is damaged: {error}")
    while True:
        try:
            batch.end(identity, end)
            return
        except OSError:  # a full disk must not make an ended job a lost one
            time.sleep(OUTAGE_S)


def _environment(job: LocalJob, directory: Path, identity: int) -> dict[str, str]:
    """Return the environment of a job: usual variables, and none else of the submitting process."""
    kept = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **{name: os.environ[name] for name in kept if name in os.environ},
        **job.environment,
        "ZWRAP_LOCAL_JOB_ID": str(identity),
        "ZWRAP_LOCAL_TIMEOUT": str(directory / TIMEOUT_FILE),
    }


def _appending(file: str) -> BinaryIO:
    """Open a file to append to; OSError for a named pipe that nobody reads."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(file, flags, READ_FILE)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "ab")


def _run_script(job: LocalJob, directory: Path, identity: int) -> LocalEnd:
    """Run the job script; return its end."""
    allowed = AllowedDirectories([*map(Path, job.below)], "the site's section security")
    with (
        allowed.directory(Path(job.working_directory), "The working directory") as working,
        allowed.file(Path(job.output), "The output") as out,
        allowed.file(Path(job.error), "The error output") as err,
        _appending(str(out)) as output,
        _appending(str(err)) as error,
    ):
        process = subprocess.Popen(
            ["/bin/bash", str(directory / "script")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=error,
            cwd=working,
            env=_environment(job, directory, identity),
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
    """Give signals that the shepherd ignores their default effect on the job."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _note_for_job(directory: Path, stopped: State) -> None:
    """Let the job tell its time limit from a cancellation, which sends the same signal."""
    if stopped is State.TIMEOUT:
        with contextlib.suppress(OSError):  # a full disk must not let the job run on
            (directory / TIMEOUT_FILE).touch(PRIVATE_FILE)


def _wait(process: subprocess.Popen[bytes], directory: Path, limit_s: int | None) -> State | None:
    """Wait for the end of a job; return TIMEOUT or CANCELLED if it was stopped, else None."""
    ending = Ending(limit_s)
    stopped: State | None = None
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], CANCEL_POLL_S)[0]:
            while act := ending.due(GRACE_S, wanted=(directory / "cancel").exists()):
                if act is Act.ASK:
                    stopped = State.TIMEOUT if ending.timed_out else State.CANCELLED
                    _note_for_job(directory, stopped)
                os.killpg(process.pid, signal.SIGTERM if act is Act.ASK else signal.SIGKILL)
    finally:
        os.close(ended)
    process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while stopped and ending.grace_left_s:
            # The shell dies of SIGTERM immediately; the wrapper in it has the rest of the time.
            os.killpg(process.pid, 0)
            time.sleep(GROUP_POLL_S)
        os.killpg(process.pid, signal.SIGKILL)
    return stopped
