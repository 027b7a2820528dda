"""Whether an attempt may be submitted once more: one that has ended, the newest at its step."""

from __future__ import annotations

from collections.abc import Sequence

from zwrap.attempt.record import REJECTED, Attempt
from zwrap.errors import MessageError, UnreachableError
from zwrap.job import Outcome, State
from zwrap.monitor.actions import Situation, situation_of
from zwrap.monitor.states import UNKNOWN, Answers, job_of

THERE = {
    Situation.WAITING: "waits to be submitted",
    Situation.IN_DOUBT: "is being submitted now",
}
"""Situation of a step whose message is there already, to what the step does, in words."""


def step_of(attempt: Attempt) -> str:
    """Return what all attempts at the same message have in common."""
    return attempt.family or attempt.token


def rank_of(attempt: Attempt) -> tuple[bool, int]:
    """Return by what attempts at a step are ordered: a refused one, without a job, comes first."""
    return attempt.state != REJECTED, attempt.number


def newer_than(attempt: Attempt, family: Sequence[Attempt]) -> Attempt | None:
    """Return the newest later attempt at the same step; None: there is none, or it was refused.

    A refused attempt had no job, and perhaps no record of its message.
    """
    later = [e for e in family if e.number > attempt.number and e.state != REJECTED]
    return max(later, key=rank_of, default=None)


def check_ended(attempt: Attempt, answers: Answers) -> None:
    """Raise an error unless the job is known to have ended: two jobs must not share a directory.

    Raises:
        MessageError: The job lives.
        UnreachableError: The cluster cannot be asked.
    """
    job = job_of(attempt, answers)
    if job.live is not None or job.state == State.RUNNING.value:  # that a Watcher hears
        raise MessageError(
            f"Job {attempt.job_id} on cluster {attempt.cluster} is {job.state}; end it first "
            f"(zwrap cancel {attempt.job_id})."
        )
    if job.state == UNKNOWN:
        raise UnreachableError(
            f"Cluster {attempt.cluster} cannot be asked whether job {attempt.job_id} has ended."
        )


def check_others(
    attempt: Attempt, family: Sequence[Attempt], answers: Answers, *, again: bool
) -> None:
    """Raise MessageError if an attempt at the message lives, is to be a job, or has succeeded.

    `again`: True if a success is no reason not to.
    """
    for other in family:
        answers.turn_to([other])
        job = job_of(other, answers)
        if other.token != attempt.token and job.live is not None:
            raise MessageError(
                f"Attempt {other.number} at the same step is {job.state} as job {other.job_id} on "
                f"cluster {other.cluster}; end it first (zwrap cancel {other.job_id})."
            )
        if (situation := situation_of(job)) in THERE:
            raise MessageError(
                f"Its message is there already: attempt {other.number} at this step "
                f"({other.token}) {THERE[situation]}."
            )
        if job.state == Outcome.SUCCESS.value and not again:
            raise MessageError(
                f"Attempt {other.number} at this step, job {other.job_id}, has succeeded; what "
                "follows would happen twice. Say --again to submit it all the same."
            )


def check_newest(attempt: Attempt, family: Sequence[Attempt], sent: Sequence[Attempt]) -> None:
    """Raise MessageError if another attempt at the step is the one to submit once more.

    `sent`: those that are submitted by the same command.
    """
    if (newer := newer_than(attempt, family)) is not None:
        raise MessageError(
            f"It is attempt {attempt.number} at its step, attempt {newer.number} is the newest; "
            f"submit that one (zwrap resubmit {newer.token})."
        )
    if (other := next((e for e in sent if step_of(e) == step_of(attempt)), None)) is not None:
        raise MessageError(f"Attempt {other.number} at the same step is sent once more already.")
