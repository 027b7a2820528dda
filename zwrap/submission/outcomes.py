"""Outcomes of submissions: what to report, and the state of the attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING
from zwrap.errors import (
    ClusterFullError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
    ZwrapError,
)
from zwrap.scheduler import Accepted, Busy, Rejected, Scheduler, Submission, Unknown

FULL_S = 30.0
"""Pause before a batch system that has no room for a job is asked again, in seconds."""

Outcome = str | ZwrapError
"""The job id of an attempt, or the reason why none is known."""

OnOutcomes = Callable[[Sequence[tuple[str, Outcome]]], None]
"""Function that gets tokens of attempts and their outcomes as soon as these are known."""


class Failed(NamedTuple):
    """A job that was not submitted: its files cannot be written, or it cannot be expressed."""

    error: ZwrapError


Answer = Submission | Failed | ZwrapError
"""Answer of the batch system to a submission, or the reason why there is none."""


class Conclusion(NamedTuple):
    """The outcome of an attempt, and the columns of the ledger that change with it."""

    outcome: Outcome
    columns: dict[str, str]


def conclusion_of(
    answer: Answer, scheduler: Scheduler, cluster: str, task: int | None
) -> Conclusion:
    """Return the conclusion from an answer for an attempt, a single job or a `task` of an array.

    If it is not known whether the job was accepted, the ledger keeps the intent.
    """
    name = f"Cluster {cluster!r}"
    match answer:
        case Accepted(job_id):
            form = scheduler.arrays
            own = form.job_id(job_id, task) if form and task else job_id
            return Conclusion(own, {"state": SUBMITTED, "job_id": own})
        case Rejected(reason):
            error = RejectedError(f"{name} refused the job: {reason}")
            return Conclusion(error, {"state": REJECTED, "reason": reason})
        case Busy(reason):
            return Conclusion(full(cluster, answer), {"state": WAITING, "reason": reason})
        case Unknown(reason):
            unknown = UnknownOutcomeError(
                f"{name} did not say whether it took the job: {reason}. It will be looked up "
                "before it is submitted again.",
                retry_after_s=scheduler.settle_s,
            )
            return Conclusion(unknown, {})
        case Failed(problem):
            state = REJECTED if isinstance(problem, PermanentError) else WAITING
            return Conclusion(problem, {"state": state, "reason": str(problem)})
        case ClusterFullError():
            return waiting(answer)
    return Conclusion(answer, {})


def waiting(reason: ZwrapError) -> Conclusion:
    """Return the conclusion for a job that was certainly not submitted."""
    return Conclusion(reason, {"state": WAITING, "reason": str(reason)})


def full(cluster: str, answer: Busy) -> ClusterFullError:
    """Return the error for a batch system that accepts no job now."""
    return ClusterFullError(
        f"Cluster {cluster!r} takes no job now: {answer.reason}.", retry_after_s=FULL_S
    )
