"""Submitting each attempt exactly once.

The intent is in the ledger before the batch system is asked. After an unknown answer, a crash or a
redelivery the job is looked up by its token, not before the batch system can no longer act on the
earlier call, and only then submitted again.
"""

from __future__ import annotations

from collections.abc import Sequence

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.errors import ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.scheduler import Scheduler
from zwrap.submission.arrays import submit_as_arrays
from zwrap.submission.handover import Admit, Handover
from zwrap.submission.lookup import Lookup
from zwrap.submission.outcomes import OnOutcomes
from zwrap.submission.pending import PendingJob


def everything(count: int) -> int:
    """Admit any number of jobs."""
    return count


def submit_all(
    ledger: Ledger,
    scheduler: Scheduler,
    jobs: Sequence[PendingJob],
    on_outcomes: OnOutcomes,
    admit: Admit = everything,
    largest_array: int | None = None,
    clock: Clock = elapsed,
) -> None:
    """Submit the jobs that are not there: those of one shape as arrays, the others in parallel.

    Args:
        ledger: Where the intents and what becomes of them are written.
        scheduler: The batch system of all the jobs.
        jobs: What to submit; two jobs of one token are one.
        on_outcomes: Called with tokens of attempts as soon as the job id of each is known, or the
            reason why none is.
        admit: Called with the number of jobs about to be submitted; see `Admit`.
        largest_array: Number of tasks that an array may have; None: there are no arrays.
        clock: For the age of intents, in seconds.

    Raises:
        TemporaryError: the ledger cannot be used.
    """
    handover = Handover(ledger, scheduler, on_outcomes, admit, clock)
    missing = _missing(jobs, handover, ledger)
    handover.report()
    handover.submit_each(submit_as_arrays(handover, missing, largest_array or 0))


def _missing(jobs: Sequence[PendingJob], handover: Handover, ledger: Ledger) -> list[PendingJob]:
    """Note the outcomes of earlier tries; return the jobs that have to be submitted."""
    by_token = {job.attempt.token: job for job in jobs}
    rows = ledger.known(list(by_token))
    lookup = Lookup(ledger, handover.scheduler)
    missing = []
    for token, job in by_token.items():
        attempt = rows.get(token, job.attempt)
        try:
            job_id = lookup.job_id(attempt)
        except ZwrapError as error:
            handover.stopped = lookup.away
            handover.note(token, error)
            continue
        if job_id is None:
            missing.append(job._replace(attempt=attempt))
        else:
            handover.note(token, job_id)
    return missing
