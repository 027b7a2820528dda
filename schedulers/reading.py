"""Reading of replies, as far as it is the same for all batch systems."""

from __future__ import annotations

import re

from zwrap.errors import UnreachableError
from zwrap.scheduler import Reply

MOST_QUOTED = 500
"""Length of the longest quotation from a batch system, in characters."""


def complaint(reply: Reply, noise: str = "(?!)") -> str:
    """Return what a program wrote, in one line: on standard error, else as output.

    `noise`: a regular expression of what lines begin with that tells nobody anything, such as
    ``error:``. Where nothing was written, the exit status is named.
    """
    text = next((each for each in (reply.error, reply.output) if each.strip()), "")
    lines = (re.sub(f"^(?:{noise})", "", line.strip()).rstrip(".") for line in text.splitlines())
    return "; ".join(filter(None, lines)) or f"exit status {reply.status} without a message"


def quoted(said: str) -> str:
    """Return a complaint as it is shown: begin and end of a long one.

    What a complaint means is decided by its whole text; the reason often stands at its end.
    """
    if len(said) <= MOST_QUOTED:
        return said
    half = MOST_QUOTED // 2
    return f"{said[: half - 5]} ... {said[-half:]}"


def unreachable(system: str, said: str) -> UnreachableError:
    """Return the error of a question that was not answered; nothing follows from it for any job.

    `system`: the batch system, as the subject of a sentence; `said`: why, as a clause.
    """
    return UnreachableError(f"{system} could not be asked: {quoted(said)}.")


def output_of(reply: Reply, system: str, noise: str = "(?!)") -> str:
    """Return the output of a program that ended well.

    Raises UnreachableError, which quotes its `complaint`, if it did not: then its output is not an
    answer.
    """
    if reply.status != 0:
        raise unreachable(system, complaint(reply, noise))
    return reply.output


def unknown_state(system: str, job_id: str, given: object, part: str = "which") -> UnreachableError:
    """Return the error of an answer with a state that has no meaning here."""
    return UnreachableError(
        f"{system} says that job {job_id} is {given!r}, {part} is not known here."
    )
