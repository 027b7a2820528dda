"""Asks batch systems, and submits each attempt exactly once.

Intent in the ledger, then the submission, then its answer: accepted, rejected or unknown. After
an unknown answer, a crash or a redelivery the job is looked up by its token, not before the
batch system can no longer act on the earlier call, and only then submitted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.errors import ZwrapError
from zwrap.job import JobRequest
from zwrap.scheduler import Scheduler
from zwrap.submission.handover import PendingJob, Tell
from zwrap.submission.lot import Lot, all_of_them

__all__ = ["PendingJob", "Tell", "submit_all", "submit_once"]


def submit_once(
    ledger: Ledger,
    scheduler: Scheduler,
    request: JobRequest,
    script: Path,
    attempt: Attempt,
    admit: Callable[[int], int] = all_of_them,
) -> str:
    """Submit the job of an attempt unless it is there; its job id.

    RejectedError: the batch system will not have it. UnknownOutcomeError: it is not known yet
    whether the job is there; come again after `retry_after_s`. ClusterFullError: it has no room.
    """
    news: list[tuple[str, str | ZwrapError]] = []
    submit_all(ledger, scheduler, [PendingJob(request, script, attempt)], news.extend, admit)
    [(_, outcome)] = news
    if isinstance(outcome, ZwrapError):
        raise outcome
    return outcome


def submit_all(
    ledger: Ledger,
    scheduler: Scheduler,
    jobs: Sequence[PendingJob],
    tell: Tell,
    admit: Callable[[int], int] = all_of_them,
    largest_array: int | None = None,
) -> None:
    """Submit those of the jobs that are not there.

    `tell` is called with tokens as soon as the job id of each is known, or what is in the way. Jobs
    of one shape become arrays of up to `largest_array` tasks. `admit` is told how many jobs are
    about to be submitted and says how many of them may be, at least one; it raises ClusterFullError
    if none may.
    """
    Lot(ledger, scheduler, tell, admit, largest_array).submit(jobs)
