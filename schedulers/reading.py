"""Reading of replies: the functions that all batch systems share."""

from __future__ import annotations

import re

from zwrap.errors import UnreachableError
from zwrap.scheduler import Reply

MOST_QUOTED = 500
"""Length of the longest quotation from a batch system, in characters."""


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


def unknown_state(system: str, job_id: str, given: object, part: str = "which") -> UnreachableError:
    """Return the error of an answer with a state of a job that zwrap does not know."""
    return UnreachableError(
        f"{system} says that job {job_id} is {given!r}, {part} is not known here."
    )
