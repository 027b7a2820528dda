"""A job to submit, and its files, which are written before the submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

from zwrap.attempt.record import Attempt
from zwrap.attempt.sender import Sender
from zwrap.job import JobRequest
from zwrap.scheduler import Question, Scheduler, Submission
from zwrap.submission.outcomes import Failed

WRITERS = 4
"""Number of jobs whose files are written at the same time."""


def _nothing() -> None:
    """Write nothing, because all files exist."""


class PendingJob(NamedTuple):
    """A job to submit."""

    request: JobRequest
    script: Path
    attempt: Attempt
    text: str | None = None
    """Text of the script; None: it is in the file."""
    write: Callable[[], None] = _nothing
    """Function that writes the files of the job, its script included."""
    question: Question[Submission] | None = None
    """Submission as a single job; None until the files are written."""
    sender: Sender | None = None
    """Who sent the request of its recipe; None: it is not known."""


class Writing(NamedTuple):
    """A job whose files are being written; `question` None: they are not."""

    job: PendingJob
    question: Future[Question[Submission] | Failed] | None


def begin_files(
    jobs: Sequence[PendingJob], scheduler: Scheduler, writers: Executor
) -> list[Writing]:
    """Begin to write the files of jobs."""
    return [Writing(job, writers.submit(_question, job, scheduler)) for job in jobs]


def finish_files(
    writing: Sequence[Writing],
) -> tuple[list[PendingJob], list[tuple[PendingJob, Failed]]]:
    """Wait for the files; return the jobs that can be submitted, and those that failed."""
    ready, failed = [], []
    for job, future in writing:
        question = future.result() if future else None
        if isinstance(question, Failed):
            failed.append((job, question))
        else:
            ready.append(job._replace(question=question))
    return ready, failed


def _question(job: PendingJob, scheduler: Scheduler) -> Question[Submission] | Failed:
    """Write the files of a job; return its submission as a single job."""
    if job.question:
        return job.question
    try:
        job.write()
        return scheduler.submit(job.request, job.script)
    except Exception as error:  # of this job alone
        return Failed(error)
