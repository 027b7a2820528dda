"""What the ledger keeps of a look at a job: state, times of waiting, milestones of progress."""

from __future__ import annotations

from collections.abc import Sequence

from zwrap.attempt.ledger.changes import of_milestone
from zwrap.attempt.ledger.thinning import Event
from zwrap.attempt.record import GONE, Attempt, Sighting
from zwrap.job import JobStatus, State
from zwrap.service.watcher.heartbeats import Heartbeats


def seen(status: JobStatus, now: float) -> Sighting:
    """Return a job's status as the ledger records it; `now`: seconds since the epoch."""
    return Sighting(
        state=status.state.value,
        reason=status.reason,
        node=status.node,
        exit_code=status.exit_code,
        signal=status.signal,
        ended=now if status.state.is_final else None,
    )


def since(
    attempt: Attempt, status: JobStatus | None, sighting: Sighting, now: float
) -> dict[str, float | None]:
    """Return the changed values of columns `pending` and `missing`.

    `status`: that of the job; None: it is missing, or has ended without a record. What is not known
    of a job, or of its state, does not end the time for which it has been pending.
    """
    missing = None if status else attempt.missing_since or now
    pending = attempt.pending
    if status and status.state is State.PENDING:
        pending = pending or now
    elif sighting.state not in (State.UNKNOWN.value, GONE):
        pending = None
    changed = {"pending": pending, "missing": missing}
    return {name: value for name, value in changed.items() if value != getattr(attempt, name)}


def milestones(attempts: Sequence[Attempt], heartbeats: Heartbeats, now: float) -> list[Event]:
    """Return the events of the milestones that programs have reached since the last look."""
    found = [(each.token, heartbeats.milestone(each.token)) for each in attempts]
    return [of_milestone(token, percent, now) for token, percent in found if percent is not None]
