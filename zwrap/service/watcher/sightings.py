"""What the ledger keeps of a look at a job: its state, and since when it waits or is missing."""

from __future__ import annotations

from zwrap.attempt.record import GONE, Attempt, Sighting
from zwrap.job import JobStatus, State


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
