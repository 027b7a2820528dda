"""What is said at the end of a step: how it ended, why, and its last messages."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from zwrap.attempt import retry
from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.record import KeptSubmission, read_submission
from zwrap.errors import MessageError
from zwrap.job import Cause, Interruption, Outcome
from zwrap.message import Outgoing
from zwrap.program.definition import Checkpoint
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.step import StepResult

log = logging.getLogger(__name__)

NEAR_LIMIT = "the approaching time limit of its job"
"""What stops a program that can save what it has."""


class End(NamedTuple):
    """How a step ended."""

    outcome: Outcome
    cause: str
    messages: list[Outgoing]


class Stop(NamedTuple):
    """What ended the program from outside, if anything did."""

    by: str | None
    """Name of a signal, or `NEAR_LIMIT`."""
    why: Interruption
    ran_s: float
    """So long the wrapper has lived."""
    node: str | None
    """Node of the job, as the batch system calls it."""


def submission_of(directory: JobDirectory) -> KeptSubmission | None:
    """What this job was submitted with, if a Submitter of ours did that."""
    with contextlib.suppress(MessageError):
        return read_submission(directory)
    return None


def outgoing(envelope: Envelope, channel: str, payload: str) -> list[Outgoing]:
    """Messages of one channel; a recipe that is wrong there must not end the job."""
    try:
        return envelope.send(channel, payload)
    except MessageError as error:
        log.error("Nothing can be sent on output %r: %s", channel, error)
        return []


def end_of(
    envelope: Envelope,
    result: StepResult,
    facts: Mapping[str, Any],
    stop: Stop,
    submission: KeptSubmission | None,
    checkpoint: Checkpoint | None,
) -> End:
    """How a step ended, and what to send; `facts` go to the `error` nodes."""
    completed = outgoing(envelope, "completed", "Finished processing")
    if not result.failures:
        success = outgoing(envelope, "success", "Finished processing")
        return End(Outcome.SUCCESS, "finished", success + completed)
    stop = _at_time_limit(stop, submission)
    cause = "; ".join([*result.failures, *filter(None, [stop.why.words])])
    if again := _next_attempt(result, stop, submission, checkpoint):
        return End(Outcome.RETRIED, f"{cause}. {again.said}", [again.message])
    messages = outgoing(envelope, "failure", cause)
    with contextlib.suppress(MessageError):
        told = {"error": cause, "step": envelope.pointer, **facts, **result.facts}
        messages += envelope.send_error(told)
    return End(Outcome.FAILURE, cause, messages + completed)


def _at_time_limit(stop: Stop, submission: KeptSubmission | None) -> Stop:
    """The same, with the time limit as the cause if a signal came when it was reached.

    Batch systems look at limits now and then, and the job began before the wrapper did.
    """
    limit_s = submission.asked.time_limit if submission else None
    if stop.why.cause or stop.by is None or not limit_s or stop.ran_s < 0.9 * limit_s:
        return stop
    words = f"that was at the batch system's time limit of {limit_s} s"
    return stop._replace(why=Interruption(cause=Cause.TIMEOUT, words=words))


def _next_attempt(
    result: StepResult,
    stop: Stop,
    submission: KeptSubmission | None,
    checkpoint: Checkpoint | None,
) -> retry.NextAttempt | None:
    """Another attempt, if the program has saved what it had, or the policy wants one.

    A job that a person cancelled has no cause, and no other attempt.
    """
    cause = stop.why.cause
    if submission is None:
        return None
    if checkpoint and result.saved and (cause or stop.by == NEAR_LIMIT):
        again = retry.continuation(submission, checkpoint.limit, result.remaining_s)
        if again:
            return again
    return retry.next_attempt(submission, cause.value, stop.node) if cause else None
