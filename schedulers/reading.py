"""Reading of replies: the functions that all batch systems share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from zwrap.errors import UnreachableError
from zwrap.job import JobStatus, State
from zwrap.scheduler import Busy, Reply, Submission

MOST_QUOTED = 500
"""Length of the longest quotation from a batch system, in characters."""

MOST_DIGITS = 18
"""Largest number of digits of a number in a reply."""


BRIEFLY_S = 3600.0
"""Longest wait if a batch system has the same words for what passes and for what never does, in
seconds."""

Means = Callable[[str], Submission]
"""Function from a complaint about a submission to the answer that it is."""


def briefly(reason: str) -> Busy:
    """Return the answer for a complaint that may be about the job, or about the cluster."""
    return Busy(reason, wait_s=BRIEFLY_S)


def alone(reason: str) -> Busy:
    """Return the answer for a job that waits for what other jobs may not need."""
    return Busy(reason, wait_s=math.inf)


def first_meaning(table: Mapping[str, Means], said: str, otherwise: Means) -> Means:
    """Return the meaning of the first part of a complaint that is in a table."""
    return next((means for text, means in table.items() if text in said), otherwise)


def complaint(reply: Reply, noise: str = "(?!)") -> str:
    """Return, in one line, what a program wrote on standard error, else on standard output.

    `noise`: a regular expression for beginnings of lines that carry no information, such as
    ``error:``. A program that wrote nothing is described by its exit status.
    """
    text = next((each for each in (reply.error, reply.output) if each.strip()), "")
    lines = (re.sub(f"^(?:{noise})", "", line.strip()).rstrip(".") for line in text.splitlines())
    return "; ".join(filter(None, lines)) or f"exit status {reply.status} without a message"


def quoted(said: str) -> str:
    """Return a complaint as it is shown: a long one is cut to its beginning and its end.

    The whole text decides the meaning of a complaint; the reason is often at its end.
    """
    if len(said) <= MOST_QUOTED:
        return said
    half = MOST_QUOTED // 2
    return f"{said[: half - 5]} ... {said[-half:]}"


def unreachable(system: str, said: str) -> UnreachableError:
    """Return the error of a question without an answer; nothing follows from it for any job.

    `system`: the batch system, as the subject of a sentence; `said`: the reason, as a clause.
    """
    return UnreachableError(f"{system} could not be asked: {quoted(said)}.")


def output_of(reply: Reply, system: str, noise: str = "(?!)") -> str:
    """Return the output of a program that succeeded.

    Raises UnreachableError, which quotes its `complaint`, if it failed: the output of a program
    that failed is not an answer.
    """
    if reply.status != 0:
        raise unreachable(system, complaint(reply, noise))
    return reply.output


def whole(text: str) -> int | None:
    """Return the whole number in a text of digits; None for any other text, and for a long one."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def unknown_status(job_id: str, name: str, given: str) -> JobStatus:
    """Return the status of a job whose state zwrap does not know; it counts as a live job."""
    reason = f"its state is {given[:80]!r}, which is not known here"
    return JobStatus(job_id=job_id, name=name, state=State.UNKNOWN, reason=reason)
