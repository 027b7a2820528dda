"""Jobs that are given up: they never start, do not start in time, or run on a lost host."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from zwrap.attempt.record import NOT_STARTED, STUCK, Attempt
from zwrap.configuration.clusters import ClusterSettings
from zwrap.job import JobStatus, State
from zwrap.units import duration


def given_up(
    attempt: Attempt,
    status: JobStatus | None,
    settings: ClusterSettings,
    lives: Callable[[Attempt, float], bool],
    now: float,
) -> Attempt | None:
    """Return an attempt with state and reason of a job that is given up; None: it is not.

    Args:
        attempt: The attempt, as the ledger held it before the look at its job.
        status: Status of the job; None: the batch system does not know it.
        settings: Settings of the cluster.
        lives: Function that tells whether the wrapper of a job gave a sign of life within a time
            in seconds, or that cannot be told.
        now: Time by the clock of the ledger, in seconds since the epoch.
    """
    if status is None:
        return None
    if _is_stuck(attempt, status, settings, lives, now):
        running = attempt.seen_state == State.RUNNING.value
        return replace(attempt, seen_state=State.NODE_FAIL.value if running else STUCK)
    if settings.pending_s is None or status.state is not State.PENDING or not attempt.pending:
        return None
    waited_s = now - attempt.pending
    if waited_s < settings.pending_s:
        return None
    last = f"; the reason is {status.reason}" if status.reason else ""
    reason = f"pending for {duration(waited_s)}, at most {duration(settings.pending_s)} here{last}"
    return replace(attempt, seen_state=NOT_STARTED, seen_reason=reason)


def _is_stuck(
    attempt: Attempt,
    status: JobStatus,
    settings: ClusterSettings,
    lives: Callable[[Attempt, float], bool],
    now: float,
) -> bool:
    """Return True if a job has been stuck for longer than `give_up_s`.

    A job that runs on a host that does not answer is not stuck while its wrapper is heard.
    """
    if not status.stuck or attempt.seen_reason != status.reason:
        return False
    if now - (attempt.seen or 0.0) < settings.give_up_s:
        return False
    return status.state is State.PENDING or not lives(attempt, settings.give_up_s)
