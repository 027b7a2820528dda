"""Station "envelope": the verdict on an attempt, and the final messages that follow from it.

Everything here is a value or a pure function. `zwrap.attempt.finals` sends the messages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import msgspec

from zwrap.errors import MessageError
from zwrap.job import Outcome
from zwrap.message import Outgoing
from zwrap.recipe.envelope import Envelope

log = logging.getLogger(__name__)

VERDICT_QUEUE = "zwrap.verdict"
"""Queue for verdicts from clusters whose job directories the submit host does not see."""

QUEUE_VARIABLE = "ZWRAP_VERDICT_QUEUE"
"""Environment variable that tells a job to send its verdict to a queue."""

COMPLETED = "Finished processing"
"""Payload on the outputs `success` and `completed`."""


class Claim(msgspec.Struct, frozen=True):
    """The job that runs an attempt, and the process that runs it in the job."""

    token: str
    job_id: str
    process: str
    run: int = 1
    """Number of the run, from 1: batch systems start a job again, for example after its node
    failed."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of an attempt, its witness, and the final messages of the step."""

    token: str
    outcome: Outcome
    witness: str
    """Source of the outcome: ``wrapper``, ``cluster NAME``, or ``none``."""
    cause: str
    job_id: str
    exit_status: int
    elapsed_s: float = 0.0
    """Run time of the program, in seconds."""
    peak_memory_mib: float = 0.0
    """Largest resident memory measured for the program and its descendants, in MiB; 0: the program
    ended before the first measurement."""
    program: str = ""
    """Name of the wrapper or program."""
    program_exit_status: int | None = None
    final: list[Outgoing] = []


def messages_on(
    envelope: Envelope, channel: str | None, payload: object, *, strict: bool = False
) -> list[Outgoing]:
    """Return the messages on one output of a step; `channel` None: to the error nodes.

    A fault of the recipe there is logged and gives no message: the other outputs of the step may
    be right. With `strict` it raises MessageError.
    """
    try:
        return envelope.send(channel, payload) if channel else envelope.send_error(payload)
    except MessageError as error:
        if strict:
            raise
        log.error("Nothing can be sent on %s: %s", channel or "the error nodes", error)
        return []


def final_messages(
    envelope: Envelope,
    outcome: Outcome,
    cause: str,
    facts: Mapping[str, object],
    *,
    strict: bool = False,
) -> list[Outgoing]:
    """Return the final messages of a step, in the order in which they are sent.

    On success: `success`, `completed`. On failure: `failure` with the cause, the error nodes of
    the recipe with the cause, the node number and `facts`, then `completed`. `strict` as for
    `messages_on`.
    """
    on = partial(messages_on, envelope, strict=strict)
    if outcome is Outcome.SUCCESS:
        messages = on("success", COMPLETED)
    else:
        told = {"error": cause, "step": envelope.pointer, **facts}
        messages = on("failure", cause) + on(None, told)
    return messages + on("completed", COMPLETED)
