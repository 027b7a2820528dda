"""Asks batch systems, and submits each attempt exactly once.

Intent in the ledger, then the submission, then its answer: accepted, rejected or unknown. After
an unknown answer, a crash or a redelivery the job is looked up by its token, not before the
batch system can no longer act on the earlier call, and only then submitted again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zwrap.errors import ClusterFullError, RejectedError, UnknownOutcomeError
from zwrap.job import JobRequest
from zwrap.ledger import REJECTED, SUBMITTED, WAITING, Attempt, Ledger
from zwrap.scheduler import Accepted, Busy, Rejected, Scheduler
from zwrap.submission.calls import ask

FULL_S = 30.0
"""So long nothing is tried with a batch system that has as many jobs as may be."""


def submit_once(
    ledger: Ledger,
    scheduler: Scheduler,
    request: JobRequest,
    script: Path,
    attempt: Attempt,
    admit: Callable[[], None] = lambda: None,
) -> str:
    """Submit the job of an attempt unless it is there; its job id.

    `admit` is called before a job is submitted and raises ClusterFullError if none may be.
    RejectedError: the batch system will not have it. UnknownOutcomeError: it is not known yet
    whether the job is there; come again after `retry_after_s`.
    """
    question = scheduler.submit(request, script)  # refuses what cannot be expressed
    row, is_new = ledger.intend(attempt)
    if row.state == SUBMITTED and row.job_id:
        return row.job_id
    if not is_new:
        # Of a refused attempt (whose dead letter a person put back), and of one that waits, no job
        # exists.
        if row.state not in (REJECTED, WAITING) and (job_id := _look_up(ledger, scheduler, row)):
            return job_id
        if not ledger.try_again(row):
            raise UnknownOutcomeError(
                f"Another submitter is about to submit {row.token}.",
                retry_after_s=scheduler.settle_s,
            )
    try:
        admit()
    except ClusterFullError as error:
        ledger.record(row.token, WAITING, reason=str(error))
        raise
    answer = ask(question)
    if isinstance(answer, Accepted):
        ledger.record(row.token, SUBMITTED, job_id=answer.job_id)
        return answer.job_id
    if isinstance(answer, Rejected):
        ledger.record(row.token, REJECTED, reason=answer.reason)
        raise RejectedError(f"Cluster {request.cluster!r} refused the job: {answer.reason}")
    if isinstance(answer, Busy):
        ledger.record(row.token, WAITING, reason=answer.reason)
        raise ClusterFullError(
            f"Cluster {request.cluster!r} takes no job now: {answer.reason}.",
            retry_after_s=FULL_S,
        )
    raise UnknownOutcomeError(
        f"Cluster {request.cluster!r} did not say whether it took the job: {answer.reason}. "
        "It will be looked up before it is submitted again.",
        retry_after_s=scheduler.settle_s,
    )


def _look_up(ledger: Ledger, scheduler: Scheduler, row: Attempt) -> str | None:
    """Job id of an attempt that may have been submitted, once that can be told."""
    left_s = row.tried + scheduler.settle_s - ledger.now()
    if left_s > 0:
        raise UnknownOutcomeError(
            f"An earlier submission of {row.token} may still be under way.",
            retry_after_s=left_s + 0.05,
        )
    found = ask(scheduler.find(f"{row.job_name}.{row.token}"))
    if not found:
        return None
    job_id = found[0].job_id
    ledger.record(row.token, SUBMITTED, job_id=job_id)
    return job_id
