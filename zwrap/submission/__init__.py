"""Asks batch systems, and submits each attempt exactly once.

Intent in the ledger, then the submission, then its answer: accepted, rejected or unknown. After
an unknown answer, a crash or a redelivery the job is looked up by its token, not before the
batch system can no longer act on the earlier call, and only then submitted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from zwrap.errors import ZwrapError
from zwrap.job import JobRequest
from zwrap.ledger import Attempt, Ledger
from zwrap.scheduler import Scheduler
from zwrap.submission.lot import Job, Lot, all_of_them

__all__ = ["Job", "submit_all", "submit_once"]


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
    [outcome] = submit_all(ledger, scheduler, [Job(request, script, attempt)], admit)
    if isinstance(outcome, ZwrapError):
        raise outcome
    return outcome


def submit_all(
    ledger: Ledger,
    scheduler: Scheduler,
    jobs: Sequence[Job],
    admit: Callable[[int], int] = all_of_them,
    largest_array: int | None = None,
) -> list[str | ZwrapError]:
    """Submit those of the jobs that are not there; of each its job id, or what is in the way.

    Jobs of one shape become arrays of up to `largest_array` tasks. `admit` is told how many jobs
    are about to be submitted and says how many of them may be, at least one; it raises
    ClusterFullError if none may.
    """
    lot = Lot(ledger, scheduler, admit, largest_array)
    lot.submit(jobs)
    return [lot.outcomes[job.request.token] for job in jobs]
