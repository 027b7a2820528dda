"""The wrapper's verdict on its attempt: how the step ended, why, and its final messages."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from zwrap.attempt import retry
from zwrap.attempt.record import KeptSubmission
from zwrap.attempt.verdict import Verdict, final_messages
from zwrap.job import Cause, Interruption, Outcome
from zwrap.program.definition import Checkpoint
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.ended import Ended

NEAR_LIMIT = "the approaching time limit of its job"
"""Name of what stops a program that can save what it has (`Interruption.by`)."""

AT_LIMIT = 0.9
"""Part of the job's time limit after which a signal means that the limit was reached. Batch systems
look at limits now and then, and the job began before the wrapper did."""


def at_time_limit(
    interruption: Interruption, ran_s: float, submission: KeptSubmission | None
) -> Interruption:
    """Return the interruption, with the time limit as its cause where that explains it.

    `ran_s`: seconds that the wrapper has lived.
    """
    limit_s = submission.asked.time_limit if submission else None
    if interruption.cause or not interruption.by or not limit_s or ran_s < AT_LIMIT * limit_s:
        return interruption
    words = f"that was at the batch system's time limit of {limit_s} s"
    return replace(interruption, cause=Cause.TIMEOUT, words=words)


def concluded(
    draft: Verdict,
    ended: Ended,
    interruption: Interruption,
    envelope: Envelope,
    facts: Mapping[str, object],
    submission: KeptSubmission | None,
    checkpoint: Checkpoint | None,
    node: str | None,
) -> Verdict:
    """Return `draft` with outcome, cause and final messages of a step that ended like this.

    A failure may be followed by another attempt, whose message then takes the place of the final
    messages. `facts` go to the error nodes of the recipe.
    """
    if not ended.failures:
        final = final_messages(envelope, Outcome.SUCCESS, "finished", {})
        return replace(draft, outcome=Outcome.SUCCESS, cause="finished", final=final)
    cause = "; ".join([*ended.failures, *filter(None, [interruption.words])])
    if again := _next_attempt(ended, interruption, submission, checkpoint, node):
        cause = f"{cause}. {again.said}"
        return replace(draft, outcome=Outcome.RETRIED, cause=cause, final=[again.message])
    final = final_messages(envelope, Outcome.FAILURE, cause, {**facts, **ended.facts})
    return replace(draft, outcome=Outcome.FAILURE, cause=cause, final=final)


def _next_attempt(
    ended: Ended,
    interruption: Interruption,
    submission: KeptSubmission | None,
    checkpoint: Checkpoint | None,
    node: str | None,
) -> retry.NextAttempt | None:
    """Return another attempt if the program has saved what it had, or the policy wants one.

    A job that a person cancelled has no cause, and no other attempt.
    """
    cause = interruption.cause
    if submission is None:
        return None
    if checkpoint and ended.saved and (cause or interruption.by == NEAR_LIMIT):
        again = retry.continuation(submission, checkpoint.limit, ended.remaining_s)
        if again:
            return again
    return retry.next_attempt(submission, cause, node) if cause else None
