"""The process that loads the DRMAA library: a job per line of input, a reply per line of output.

The process keeps one session open, and ends soon after its input does, even during a call.

Once the Submitter is dead nothing more is submitted, not even jobs that it left in the pipe: the
next Submitter looks these jobs up, and submits those that do not exist.
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

from zwrap.scheduler import DrmaaCall, Reply

UNREACHABLE = 2
"""Number of the error DRM_COMMUNICATION_FAILURE (GFD.133, Annex A), which ends a session."""

NO_LIBRARY = -1
"""Status of a reply if the library cannot be loaded."""

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
            job = msgspec.json.decode(line, type=DrmaaCall)
            answers.write(msgspec.json.encode(session.submit(job)) + b"\n")
    session.close()


class _AbandonedError(Exception):
    """The Submitter is dead, and nobody waits for the answer."""


def _check_submitter() -> None:
    """Raise _AbandonedError if the Submitter, at the other end of standard input, is dead."""
    poll = select.poll()
    poll.register(0, 0)  # a hang-up is reported always, even while lines are left to read
    if any(event & select.POLLHUP for _, event in poll.poll(0)):
        raise _AbandonedError


class _Session:
    """A session of the library, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: LibrarySession | None = None

    def close(self) -> None:
        """End the session, for which the qmaster would otherwise go on to keep events."""
        if self._session is not None:
            self._session.exit()

    def submit(self, job: DrmaaCall) -> Reply:
        """Submit a job; the status of the reply is 0 or the number of the error."""
        try:
            drmaa = _library(job.libraries)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            return Reply(status=NO_LIBRARY, error=str(error))
        try:
            if self._session is None:
                opened: LibrarySession = drmaa.Session()
                opened.initialize()
                self._session = opened
            return Reply(status=0, output=self._run(job))
        except drmaa.errors.DrmaaException as error:
            return self._failure(error)

    def _run(self, job: DrmaaCall) -> str:
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
            _check_submitter()  # as late as possible: starting Python and the session takes time
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


def _library(places: Sequence[str]) -> ModuleType:
    """Import the package `drmaa`, which loads the library."""
    if "DRMAA_LIBRARY_PATH" not in os.environ:
        for place in places:
            if Path(file := os.path.expandvars(place)).exists():
                os.environ["DRMAA_LIBRARY_PATH"] = file
                break
    return importlib.import_module("drmaa")


if __name__ == "__main__":
    main()
