"""Station "envelope": the verdict on an attempt, and the final messages that follow from it.

Everything here is a value or a pure function. `zwrap.attempt.finals` sends the messages.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import partial

import msgspec

from zwrap.errors import MessageError
from zwrap.job import Outcome
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.message.identity import child_id
from zwrap.message.jsontext import decode, typed
from zwrap.recipe.envelope import Envelope

log = logging.getLogger(__name__)

VERDICT_QUEUE = "zwrap.verdict"
"""Queue for verdicts from clusters whose job directories the submit host does not see."""

QUEUE_VARIABLE = "ZWRAP_VERDICT_QUEUE"
"""Environment variable that tells a job to send its verdict to a queue."""

STARTING = "Starting processing"
"""Payload on the output `starting`."""

COMPLETED = "Finished processing"
"""Payload on the outputs `success` and `completed`."""

CLAIM = "claim.json"
"""Name of the file that holds a claim, in the directory of the attempt."""

VERDICT = "verdict.json"
"""Name of the file that holds a verdict, in the directory of the attempt."""


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
    """Name of the wrapper or program, with ``zwrap:`` where it was asked for so."""
    wrapper_class: str = ""
    """Class that ran; empty: it was a definition, or an older release ran it."""
    program_exit_status: int | None = None
    cause_label: str = ""
    """Label of the known error that explains a failure; empty: none does."""
    failed_commands: list[str] = []
    """Failures of commands that are not required, as sentences: the first 20."""
    remedy: str = ""
    """Remedy for that error, as sentences for people; empty: none is known."""
    corrected: list[dict[str, object]] = []
    """Corrections that were made for this attempt (`zwrap.attempt.correction.corrected`)."""
    final: list[Outgoing] = []

    @property
    def facts(self) -> dict[str, object]:
        """Facts about the end, for ledger and monitors; None: not known, or there is none."""
        return {
            "outcome": self.outcome.value,
            "cause": self.cause,
            "witness": self.witness,
            "elapsed_s": self.elapsed_s or None,
            "peak_memory_mib": self.peak_memory_mib or None,
            "cause_label": self.cause_label or None,
            "corrected": self.corrected or None,
        }

    def __post_init__(self) -> None:
        for name in ("elapsed_s", "peak_memory_mib"):
            if not math.isfinite(getattr(self, name)):  # a fault of who wrote it: not measured
                msgspec.structs.force_setattr(self, name, 0.0)


def parse_claim(content: bytes) -> Claim:
    """Return the claim in a JSON text; MessageError if it does not hold one."""
    try:
        return typed(decode(content, "claim"), Claim)
    except msgspec.ValidationError as error:
        raise MessageError(f"This is not a valid claim: {error}.") from None


def parse_verdict(content: bytes, where: str) -> Verdict:
    """Return the verdict in a JSON text, which `zwrap.message.jsontext.encode` wrote.

    Raises:
        MessageError: The text does not hold a verdict; the error begins with `where`.
    """
    try:
        return typed(decode(content, "text", bounded=True), Verdict)
    except (MessageError, msgspec.ValidationError) as error:
        fault = str(error).rstrip(".")
        raise MessageError(f"{where} does not hold a verdict: {fault}.") from None


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


def finals_of(verdict: Verdict) -> list[Outgoing]:
    """Return the final messages of a verdict, each with an id, which a repeat repeats.

    Any process of the user's may have written the file; in one that zwrap wrote each message has an
    id of its own. A message under the id of an earlier one counts as the same, and is left out.
    """
    messages: dict[str, Outgoing] = {}
    for position, message in enumerate(verdict.final):
        given = message.headers.get(ID_HEADER)
        if isinstance(given, str) and given:
            messages.setdefault(given, message)
        else:
            identity = child_id(verdict.token, f"last word {position}")
            headers = {**message.headers, ID_HEADER: identity}
            messages.setdefault(identity, msgspec.structs.replace(message, headers=headers))
    return list(messages.values())
