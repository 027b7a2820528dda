"""What people do to jobs, and what that means for a job in each situation."""

from __future__ import annotations

import enum

from zwrap.attempt.record import GIVEN_UP, IN_DOUBT, WAITING
from zwrap.job import State
from zwrap.monitor.states import KnownJob, may_live


class Situation(enum.Enum):
    """How far a step has come, as far as an action is concerned."""

    WAITING = "a message that waits to be submitted"
    IN_DOUBT = "being submitted now"
    PENDING = "a pending job"
    RUNNING = "a running job"
    MISSING = "a job of which its cluster tells nothing now"
    ENDED = "an ended job, or a refused step"


EFFECTS: dict[str, dict[Situation, str]] = {
    "cancel": {
        Situation.WAITING: "its message becomes a dead letter; none of its outputs is sent",
        Situation.IN_DOUBT: "left alone: cancel it once it has a job",
        Situation.PENDING: "its batch system ends it; it is reported as a failure, and what the "
        "recipe has for a failure follows",
        Situation.RUNNING: "its batch system ends it, and its program gets time to stop; it is "
        "reported as a failure, and what the recipe has for a failure follows",
        Situation.MISSING: "left alone, unless its cluster lists it after all",
        Situation.ENDED: "left alone",
    },
    "resubmit": {
        Situation.WAITING: "refused: its message is there already",
        Situation.IN_DOUBT: "refused: its message is there already",
        Situation.PENDING: "refused: end it first",
        Situation.RUNNING: "refused: end it first",
        Situation.MISSING: "as an ended one; refused while its cluster cannot be asked, or a "
        "Watcher hears its wrapper",
        Situation.ENDED: "its message is sent once more, as the next attempt; refused if there is "
        "a newer attempt, and without --again if an attempt at it has succeeded",
    },
}  # fmt: skip
"""Command to what it does to a job in each situation, as clauses for people."""


def situation_of(job: KnownJob) -> Situation:
    """Return how far a job has come."""
    attempt = job.attempt
    if job.verdict is not None or attempt.outcome is not None:
        return Situation.ENDED
    if attempt.state == WAITING:
        return Situation.WAITING
    if attempt.state in IN_DOUBT and attempt.reason != GIVEN_UP:
        return Situation.IN_DOUBT
    if not may_live(attempt):
        return Situation.ENDED
    if job.live is None:
        return Situation.MISSING
    return Situation.PENDING if job.live.state is State.PENDING else Situation.RUNNING
