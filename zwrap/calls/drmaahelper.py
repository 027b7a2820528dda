"""The process that loads the DRMAA library: a job per line of input, a reply per line of output.

The process keeps one session open, and ends soon after its input does, even during a call.

Once the Submitter is dead, or the time limit of a call is over, nothing more is submitted, not even
jobs that are left in the pipe: the next Submitter looks these jobs up, and submits those that do
not exist.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import queue
import select
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import msgspec

from zwrap.calls.acting import LATER_S, boot_time
from zwrap.scheduler import DrmaaCall, Reply

UNREACHABLE = 2
"""Number of the error DRM_COMMUNICATION_FAILURE (GFD.133, Annex A), which ends a session."""

NO_LIBRARY = -1
"""Status of a reply if the library cannot be loaded."""

LIBRARY_PATH = "DRMAA_LIBRARY_PATH"
"""Variable with the path of the library, for the package `drmaa`."""

LEAVE_S = 2.0
"""Time limit for closing a session, in seconds."""


class Template(Protocol):
    """A job template of the package `drmaa`: attributes by their names in GFD.133."""

    remoteCommand: str  # noqa: N815
    jobName: str  # noqa: N815
    workingDirectory: str  # noqa: N815
    outputPath: str  # noqa: N815
    errorPath: str  # noqa: N815
    nativeSpecification: str  # noqa: N815


class LibrarySession(Protocol):
    """A session of the package `drmaa`."""

    def initialize(self) -> None:
        """Connect to the batch system."""

    def exit(self) -> None:
        """Disconnect."""

    def createJobTemplate(self) -> Template:  # noqa: N802
        """Return an empty template."""

    def deleteJobTemplate(self, template: Template) -> None:  # noqa: N802
        """Free a template."""

    def runJob(self, template: Template) -> str:  # noqa: N802
        """Submit a job, and return its id."""

    def runBulkJobs(  # noqa: N802
        self, template: Template, first: int, last: int, step: int
    ) -> Sequence[str]:
        """Submit an array, and return the ids of its tasks."""


def main() -> None:
    """Answer each line of standard input, until its end."""
    jobs: queue.Queue[bytes | None] = queue.Queue()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # the library must not write into our answers
    worker = threading.Thread(target=_work, args=(jobs, answers), daemon=True)
    worker.start()
    for line in sys.stdin.buffer:
        jobs.put(line)
    jobs.put(None)
    worker.join(LEAVE_S)
    os._exit(0)  # a call of the library may hang


def _work(jobs: queue.Queue[bytes | None], answers: io.RawIOBase) -> None:
    """Submit one job after the other, in one session."""
    session = _Session()
    with contextlib.suppress(_AbandonedError):
        while line := jobs.get():
            job, until = msgspec.json.decode(line, type=tuple[DrmaaCall, float])
            limit = threading.Timer(max(until - boot_time(), 0.0) + LATER_S, os._exit, [1])
            limit.start()  # nobody else might end a call that hangs
            answers.write(msgspec.json.encode(session.submit(job, until)) + b"\n")
            limit.cancel()
    session.close()


class _AbandonedError(Exception):
    """The Submitter is dead, or its time limit is over, and nobody waits for the answer."""


def _check_submitter(until: float) -> None:
    """Raise _AbandonedError if the Submitter, at the other end of standard input, does not wait.

    `until`: end of the time limit, in seconds since the start of this host (CLOCK_BOOTTIME).
    """
    poll = select.poll()
    poll.register(0, 0)  # a hang-up is reported always, even while lines are left to read
    is_dead = any(event & select.POLLHUP for _, event in poll.poll(0))
    if is_dead or boot_time() > until:
        raise _AbandonedError


class _Session:
    """A session of the library, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: LibrarySession | None = None

    def close(self) -> None:
        """End the session, for which the qmaster would otherwise go on to keep events."""
        if self._session is not None:
            self._session.exit()

    def submit(self, job: DrmaaCall, until: float) -> Reply:
        """Submit a job, unless the time `until` is over; its status is 0, or that of the error."""
        try:
            drmaa = _library(job)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            return Reply(status=NO_LIBRARY, error=str(error))
        try:
            if self._session is None:
                opened: LibrarySession = drmaa.Session()
                opened.initialize()
                self._session = opened
            return Reply(status=0, output=self._run(job, until))
        except drmaa.errors.DrmaaException as error:
            return self._failure(error)

    def _run(self, job: DrmaaCall, until: float) -> str:
        """Submit a job, or an array; return its id."""
        assert self._session
        template = self._session.createJobTemplate()
        try:
            template.remoteCommand = job.script
            template.jobName = job.name
            template.workingDirectory = job.working_directory
            template.outputPath = f":{job.standard_output}"  # [host]:path
            template.errorPath = f":{job.standard_error}"
            template.nativeSpecification = job.native
            # As late as possible: starting Python and the session takes time.
            _check_submitter(until)
            if job.tasks is None:
                return str(self._session.runJob(template))
            first, *_ = self._session.runBulkJobs(template, 1, job.tasks, 1)
            return str(first).partition(".")[0]
        finally:
            self._session.deleteJobTemplate(template)

    def _failure(self, error: Exception) -> Reply:
        """Return the reply for an error; a session that has lost the batch system is closed."""
        code, _, text = str(error).partition(": ")
        number = int(code.removeprefix("code ")) if code.startswith("code ") else 1
        if number == UNREACHABLE and self._session is not None:
            with contextlib.suppress(Exception):
                self._session.exit()
            self._session = None
        return Reply(status=number, error=text.strip() or str(error))


def _library(job: DrmaaCall) -> ModuleType:
    """Import the package `drmaa`, which loads the library; then let it see what it may see.

    Grid Engine's ``-V``, as a default in sge_request(5), hands the whole environment of this
    process to each job, as it is when the job is submitted. By now Python and the dynamic linker
    have read their variables, such as PYTHONPATH, LD_LIBRARY_PATH and GLIBC_TUNABLES.
    """
    if loaded := sys.modules.get("drmaa"):
        return loaded  # the threads of the library may read the environment from now on
    if LIBRARY_PATH not in os.environ:
        for place in job.libraries:
            if Path(file := os.path.expandvars(place)).exists():
                os.environ[LIBRARY_PATH] = file
                break
    library = importlib.import_module("drmaa")
    if job.only:
        os.environ.clear()
        os.environ.update(job.environment)
        os.environ.pop(LIBRARY_PATH, None)
    return library


if __name__ == "__main__":
    main()
