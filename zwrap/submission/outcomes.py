"""Outcomes of submissions: the message that reports each, and the state of the attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.errors import (
    ClusterFullError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
    ZwrapError,
)
from zwrap.scheduler import Accepted, Rejected, Scheduler, Submission, Unknown

Outcome = str | Exception
"""The job id of an attempt, or the reason why none is known."""

OnOutcomes = Callable[[Sequence[tuple[str, Outcome]]], None]
"""Function that gets tokens of attempts and their outcomes as soon as these are known."""


class ElsewhereId(str):
    """The job id of an attempt that an earlier try gave to another cluster."""

    __slots__ = ("cluster",)

    cluster: str

    def __new__(cls, job_id: str, cluster: str) -> Self:
        """Return the id of a job on a cluster."""
        made = super().__new__(cls, job_id)
        made.cluster = cluster
        return made


def cluster_of(job_id: str, asked: str) -> str:
    """Return the name of the cluster of a job; `asked`: the one that its step asks for now."""
    return job_id.cluster if isinstance(job_id, ElsewhereId) else asked


class Failed(NamedTuple):
    """A job that was not submitted: its files cannot be written, or it cannot be expressed."""

    error: Exception


class Barred(Rejected, frozen=True):
    """A job that must not run because of others of its recipe; its batch system is not asked."""


Answer = Submission | Failed | Exception
"""Answer of the batch system to a submission, or the reason why there is none."""


class Conclusion(NamedTuple):
    """The outcome of an attempt, and the columns of the ledger that change with it."""

    outcome: Outcome
    columns: Mapping[str, str | float | None]


def conclusion_of(
    answer: Accepted | Rejected | Unknown | Failed | Exception,
    scheduler: Scheduler,
    attempt: Attempt,
) -> Conclusion:
    """Return the conclusion from an answer for an attempt, a single job or a task of an array.

    If it is not known whether the job was accepted, the ledger keeps the intent.
    """
    name = f"Cluster {attempt.cluster!r}"
    match answer:
        case Accepted(job_id):
            form = scheduler.arrays
            own = form.job_id(job_id, attempt.task) if form and attempt.task else job_id
            return Conclusion(own, {"state": SUBMITTED, "job_id": own, "held": None})
        case Barred(reason):
            barred = RejectedError(f"The job is not submitted: {reason}.")
            return Conclusion(barred, {"state": REJECTED, "reason": reason, "held": None})
        case Rejected(reason):
            error = RejectedError(f"{name} refused the job: {reason}")
            return Conclusion(error, {"state": REJECTED, "reason": reason, "held": None})
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
