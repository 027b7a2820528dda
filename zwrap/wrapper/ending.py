"""The wrapper's verdict on its attempt: outcome, cause and final messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from zwrap.attempt import retry
from zwrap.attempt.record import KeptSubmission
from zwrap.attempt.refusals import refusals_told
from zwrap.attempt.verdict import Verdict, final_messages
from zwrap.job import Cause, Interruption, Outcome
from zwrap.message.content import CORRECTED, ID_HEADER, Outgoing
from zwrap.program.definition import Checkpoint
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.outbox import Outbox

NEAR_LIMIT = "the approaching time limit of its job"
"""Value of `Interruption.by` for a program that is stopped so that it can save its state."""

AT_LIMIT = 0.9
"""Fraction of the job's time limit after which a signal means that the limit was reached. Batch
systems check limits only now and then, and the job may have begun before its script."""

RESULTS_WAIT_S = 30.0
"""Longest wait for results to be sent before the verdict, which tells if one was refused, in
seconds."""


def with_results(
    outbox: Outbox, ended: Ended, began: Sequence[Outgoing], is_stopped: Callable[[], bool]
) -> Ended:
    """Send the results of a success; return a failure if one of them was refused for good.

    A transport that is away is not waited for: what it refuses later changes the verdict then
    (`zwrap.attempt.refusals`).

    Args:
        outbox: Outbox of the run.
        ended: End of the step.
        began: Messages of the run that are no results.
        is_stopped: Function that tells whether the job is to end now.
    """
    if ended.failures:
        return ended
    outbox.post(ended.messages)
    outbox.try_all(RESULTS_WAIT_S, is_stopped)
    ids = {message.headers.get(ID_HEADER) for message in began}
    refused = [reason for id_, reason in outbox.refused.items() if id_ not in ids]
    return replace(ended, messages=[], failures=refusals_told(refused))


def at_time_limit(
    interruption: Interruption, ran_s: float, submission: KeptSubmission | None
) -> Interruption:
    """Return the interruption, with the job's time limit as its cause if that explains it.

    `ran_s`: time since the start of the job, in seconds.
    """
    limit_s = submission.asked.time_limit if submission else None
    near = bool(interruption.by and limit_s and ran_s >= AT_LIMIT * limit_s)
    explains = near if interruption.cause is None else interruption.cause is Cause.TIMEOUT
    if interruption.words or not explains:
        return interruption
    clause = "that was at the batch system's time limit" + (f" of {limit_s} s" if limit_s else "")
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
    messages. What was corrected for this attempt is in the environment of the step.

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
    if CORRECTED in envelope.environment:
        from zwrap.attempt.correction import corrected  # few attempts are corrected

        draft = replace(draft, corrected=corrected(envelope.environment, envelope.pointer))
    if not ended.failures:
        final = final_messages(envelope, Outcome.SUCCESS, "finished", {})
        return replace(draft, outcome=Outcome.SUCCESS, cause="finished", final=final)
    cause = "; ".join([*ended.failures, *filter(None, [interruption.words])])
    if known := ended.known:
        draft = replace(draft, cause_label=known.cause, remedy=known.remedy)
    names = envelope.limits.open_names
    if again := _next_attempt(ended, interruption, submission, checkpoint, node, names):
        cause = f"{cause}. {again.said}"
        return replace(draft, outcome=Outcome.RETRIED, cause=cause, final=[again.message])
    cause = ended.with_remedy(cause)
    final = final_messages(envelope, Outcome.FAILURE, cause, {**facts, **ended.facts})
    return replace(draft, outcome=Outcome.FAILURE, cause=cause, final=final)


def _next_attempt(
    ended: Ended,
    interruption: Interruption,
    submission: KeptSubmission | None,
    checkpoint: Checkpoint | None,
    node: str | None,
    open_names: Sequence[str],
) -> retry.NextAttempt | None:
    """Return the next attempt if the program has saved its state, or if the policy wants one.

    A job that a person cancelled has no cause, and no next attempt. A correction follows only what
    came from the program itself.
    """
    cause = interruption.cause
    if submission is None:
        return None
    if checkpoint and ended.saved and (cause or interruption.by == NEAR_LIMIT):
        again = retry.continuation(submission, checkpoint.limit, ended.remaining_s, open_names)
        if again:
            return again
    if cause:
        return retry.next_attempt(submission, cause, node, open_names)
    if ended.known and not interruption.by:
        from zwrap.attempt.correction import correction

        known = ended.known
        return correction(submission, known.cause, ended.changes, known.limit, open_names)
    return None
