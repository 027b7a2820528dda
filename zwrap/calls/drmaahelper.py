"""The process that loads the DRMAA library: a job per line of input, a reply per line of output.

It keeps one session open, and ends soon after its input does, even in the midst of a call.

Once the Submitter is dead nothing more is submitted, not even what it left in the pipe: the next
Submitter looks these jobs up, and submits those that are not there.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from zwrap.scheduler import DrmaaSubmission, Reply

UNREACHABLE = 2
"""DRM_COMMUNICATION_FAILURE (GFD.133, Annex A): a session that met it is given up."""

NO_LIBRARY = -1

LEAVE_S = 2.0
"""So long the end of a session may take."""

USUAL_PLACES = (
    "{SGE_ROOT}/lib/{SGE_ARCH}/libdrmaa.so",
    "{SGE_ROOT}/lib/lx-amd64/libdrmaa.so",
    "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
)


def main() -> None:
    """Answer lines until there are no more."""
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


def _work(jobs: queue.Queue[bytes | None], answers: Any) -> None:
    session = _Session()
    with contextlib.suppress(_AbandonedError):
        while line := jobs.get():
            job = msgspec.json.decode(line, type=DrmaaSubmission)
            answers.write(msgspec.json.encode(session.submit(job)) + b"\n")
    session.close()


class _AbandonedError(Exception):
    """The Submitter is dead: nobody waits for the answer."""


def _check_submitter() -> None:
    """Raise _AbandonedError if the Submitter, who has the other end of our input, is dead."""
    poll = select.poll()
    poll.register(0, 0)  # a hang-up is reported always, even while lines are left to read
    if any(event & select.POLLHUP for _, event in poll.poll(0)):
        raise _AbandonedError


class _Session:
    """A session of the library, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: Any = None

    def close(self) -> None:
        """Take leave of the qmaster, which would go on to keep events for this session."""
        if self._session is not None:
            self._session.exit()

    def submit(self, job: DrmaaSubmission) -> Reply:
        """Run a job; the status of the reply is 0 or the number of the error."""
        try:
            drmaa = _library()
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            return Reply(status=NO_LIBRARY, error=str(error))
        try:
            if self._session is None:
                opened = drmaa.Session()
                opened.initialize()
                self._session = opened
            return Reply(status=0, output=self._run(job))
        except drmaa.errors.DrmaaException as error:
            return self._failure(error)

    def _run(self, job: DrmaaSubmission) -> str:
        template = self._session.createJobTemplate()
        try:
            template.remoteCommand = job.script
            template.jobName = job.name
            template.workingDirectory = job.working_directory
            template.outputPath = f":{job.standard_output}"  # [host]:path
            template.errorPath = f":{job.standard_error}"
            template.nativeSpecification = job.native
            _check_submitter()  # as late as can be: Python and the session may have begun slowly
            if job.tasks is None:
                return str(self._session.runJob(template))
            first, *_ = self._session.runBulkJobs(template, 1, job.tasks, 1)
            return str(first).partition(".")[0]
        finally:
            self._session.deleteJobTemplate(template)

    def _failure(self, error: Exception) -> Reply:
        code, _, words = str(error).partition(": ")
        number = int(code.removeprefix("code ")) if code.startswith("code ") else 1
        if number == UNREACHABLE and self._session is not None:
            with contextlib.suppress(Exception):
                self._session.exit()
            self._session = None
        return Reply(status=number, error=words.strip() or str(error))


def _library() -> Any:
    """The package `drmaa`, which loads the library when it is imported."""
    if "DRMAA_LIBRARY_PATH" not in os.environ:
        known = {name: os.environ.get(name, "") for name in ("SGE_ROOT", "SGE_ARCH")}
        for place in USUAL_PLACES:
            if Path(file := place.format(**known)).exists():
                os.environ["DRMAA_LIBRARY_PATH"] = file
                break
    import drmaa

    return drmaa


if __name__ == "__main__":
    main()
