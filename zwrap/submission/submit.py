"""Submission of each attempt exactly once.

The intent is in the ledger before the batch system is asked. After an unknown answer, a crash or a
redelivery the job is looked up by its name, as soon as the batch system can no longer act on the
earlier call, and submitted again only if it does not exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import CANCELLED, REJECTED, Attempt
from zwrap.calls import acting
from zwrap.errors import RejectedError, TemporaryError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.scheduler import Scheduler
from zwrap.submission.arrays import submit_as_arrays
from zwrap.submission.handover import Admit, Handover
from zwrap.submission.holds import Holds
from zwrap.submission.lookup import Lookup, Lookups, SchedulerOf
from zwrap.submission.outcomes import OnOutcomes
from zwrap.submission.pending import PendingJob
from zwrap.submission.unmet import Unmet, nothing_unmet


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
    holds: Holds | None = None,
    unmet: Unmet = nothing_unmet,
    scheduler_of: SchedulerOf | None = None,
) -> None:
    """Submit the jobs that do not exist yet: those of one shape as arrays, the others in parallel.

    Of jobs that the batch system did not take before, one of each lane asks again before the others
    do; see `Holds`.

    Args:
        ledger: The ledger, to which intents and conclusions are written.
        scheduler: The batch system of all the jobs.
        jobs: The jobs; of jobs with the same token only the last one counts.
        on_outcomes: Function that gets tokens of attempts, each with the job id, or the reason why
            there is none, as soon as that is known.
        admit: Function that limits the number of jobs; see `Admit`.
        largest_array: Largest number of tasks of an array; None: there are no arrays.
        clock: Clock for the age of intents, in seconds.
        holds: Held lanes of the cluster, from one call to the next; None: there are none yet.
        unmet: Function that tells which jobs must not be submitted yet, or ever; see `Unmet`.
        scheduler_of: Function from the name of another cluster, to which an earlier try went, to
            its batch system; None: there is no other one.

    Raises:
        TemporaryError: The ledger cannot be used.
    """
    if not jobs:
        return
    acting.begin()
    holds = holds or Holds(jobs[0].request.cluster, math.inf, clock)
    handover = Handover(ledger, scheduler, on_outcomes, admit, holds, clock)
    own = Lookup(ledger, scheduler)
    lookups = Lookups(own, jobs[0].request.cluster, scheduler_of)
    missing = _missing(jobs, handover, ledger, lookups)
    handover.stopped = own.away
    answers = unmet(missing)
    handover.hold([(job, answers[job.attempt.token]) for job in missing
                   if job.attempt.token in answers])  # fmt: skip
    missing = [job for job in missing if job.attempt.token not in answers]
    handover.report()
    while missing:
        now, missing = holds.split(missing)
        if not now:
            handover.put_off(missing)
            break
        handover.submit_each(submit_as_arrays(handover, now, largest_array or 0))


def _missing(
    jobs: Sequence[PendingJob], handover: Handover, ledger: Ledger, lookups: Lookups
) -> list[PendingJob]:
    """Note the outcomes of earlier tries; return the jobs that do not exist yet."""
    by_token = {job.attempt.token: job for job in jobs}
    rows = ledger.known(list(by_token))
    missing = []
    for token, job in by_token.items():
        attempt = rows.get(token, job.attempt)
        if _is_of_another(attempt, job.attempt):
            handover.note(token, _just_taken(job.attempt))
            continue
        if attempt.state == REJECTED and attempt.reason == CANCELLED:
            handover.note(token, RejectedError(f"The job was {CANCELLED}."))
            continue
        try:
            job_id = lookups.job_id(attempt)
        except ZwrapError as error:
            handover.note(token, error)
            continue
        if job_id is None:
            missing.append(job._replace(attempt=_as_asked_now(attempt, job.attempt)))
        else:
            handover.note(token, job_id)
    lookups.record()
    return missing


def _as_asked_now(row: Attempt, wanted: Attempt) -> Attempt:
    """Return a row without a job with the place, and the needs, of the job that it gets.

    Site file or recipe may have been changed since the earlier try. On another cluster the job has
    not waited yet.
    """
    return replace(
        row,
        cluster=wanted.cluster,
        job_name=wanted.job_name,
        job_directory=wanted.job_directory,
        asked=wanted.asked,
        held=row.held if row.cluster == wanted.cluster else None,
    )


def _is_of_another(row: Attempt, wanted: Attempt) -> bool:
    """Return True if another Submitter has just written the row for another content.

    A first attempt may have another content than its row: its recipe was edited meanwhile.
    """
    return (
        wanted.number > 1
        and None not in (row.digest, wanted.digest)
        and (row.digest != wanted.digest)
    )


def _just_taken(attempt: Attempt) -> TemporaryError:
    """Return the outcome of a job whose token was given to another one a moment ago."""
    return TemporaryError(
        f"Another Submitter has just submitted a job with another content as {attempt.token}; this "
        "one gets a token of its own when its message is handled again."
    )
