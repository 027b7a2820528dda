"""A job to submit, and the files that are written before the batch system is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

from zwrap.attempt.record import Attempt
from zwrap.errors import ZwrapError
from zwrap.job import JobRequest
from zwrap.scheduler import Question, Scheduler, Submission
from zwrap.submission.outcomes import Failed

WRITERS = 4
"""Number of jobs whose files are written at the same time."""


def _nothing() -> None:
    """Leave the files as they are: all are there."""


class PendingJob(NamedTuple):
    """A job to submit."""

    request: JobRequest
    script: Path
    attempt: Attempt
    text: str | None = None
    """Text of the script; None: read it from the file."""
    write: Callable[[], None] = _nothing
    """Writes the files of the job, its script included."""
    question: Question[Submission] | None = None
    """How the batch system is asked to take it as a job of its own, once the files are there."""


class Writing(NamedTuple):
    """A job whose files are being written, or are not (None)."""

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
    """Wait for the files; return the jobs that can be asked for, and those that failed."""
    ready, failed = [], []
    for job, future in writing:
        question = future.result() if future else None
        if isinstance(question, Failed):
            failed.append((job, question))
        else:
            ready.append(job._replace(question=question))
    return ready, failed


def _question(job: PendingJob, scheduler: Scheduler) -> Question[Submission] | Failed:
    """Write the files of a job; return how to ask for it."""
    if job.question:
        return job.question
    try:
        job.write()
        return scheduler.submit(job.request, job.script)
    except ZwrapError as error:
        return Failed(error)
