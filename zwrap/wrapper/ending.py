"""The wrapper's verdict on its attempt: outcome, cause and final messages."""

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
"""Value of `Interruption.by` for a program that is stopped so that it can save its state."""

AT_LIMIT = 0.9
"""Fraction of the job's time limit after which a signal means that the limit was reached. Batch
systems check limits only now and then, and the job began before the wrapper did."""


def at_time_limit(
    interruption: Interruption, ran_s: float, submission: KeptSubmission | None
) -> Interruption:
    """Return the interruption, with the job's time limit as its cause if that explains it.

    `ran_s`: time since the start of the wrapper, in seconds.
    """
    limit_s = submission.asked.time_limit if submission else None
    if interruption.cause or not interruption.by or not limit_s or ran_s < AT_LIMIT * limit_s:
        return interruption
    clause = f"that was at the batch system's time limit of {limit_s} s"
    return replace(interruption, cause=Cause.TIMEOUT, words=clause)


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
    """Return the verdict on a step that has ended.

    A failure may be followed by another attempt, whose message then takes the place of the final
    messages.

    Args:
        draft: Verdict without outcome, cause and final messages.
        ended: End of the step.
        interruption: Interruption of the step from outside.
        envelope: The step.
        facts: Facts for the error nodes of the recipe.
        submission: Record of the submission; None: no Submitter submitted the job.
        checkpoint: Way in which the program saves its state; None: it cannot.
        node: Name of the node.
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
    """Return the next attempt if the program has saved its state, or if the policy wants one.

    A job that a person cancelled has no cause, and no next attempt.
    """
    cause = interruption.cause
    if submission is None:
        return None
    if checkpoint and ended.saved and (cause or interruption.by == NEAR_LIMIT):
        again = retry.continuation(submission, checkpoint.limit, ended.remaining_s)
        if again:
            return again
    return retry.next_attempt(submission, cause, node) if cause else None
