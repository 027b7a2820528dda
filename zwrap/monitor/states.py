"""States of submitted jobs, from the ledger, the batch systems and the verdicts.

Each batch system is asked once for live jobs, and once for the records of those that are not live,
whatever the number of jobs. A job shows the same state here as to a Watcher, which may have heard
its wrapper, and has kept in the ledger since when it is missing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.listing import Listing
from zwrap.attempt.record import (
    GONE,
    INTENDED,
    LOST,
    NOT_FOUND,
    NOT_STARTED,
    NOWHERE,
    REJECTED,
    STALLED,
    STUCK,
    SUBMITTED,
    UNANSWERED,
    WAITING,
    Attempt,
)
from zwrap.attempt.verdict import VERDICT, Verdict
from zwrap.calls.ask import ask
from zwrap.errors import MessageError, UnknownNameError, ZwrapError
from zwrap.job import JobStatus, Outcome, State
from zwrap.submission.clusters import Clusters

log = logging.getLogger(__name__)

UNKNOWN = "not known"
"""State of a job whose cluster cannot be asked."""


STATES = (
    *(each.value for each in State), *(each.value for each in Outcome),
    INTENDED, UNANSWERED, NOT_FOUND, WAITING, REJECTED, SUBMITTED,
    GONE, LOST, STALLED, STUCK, NOT_STARTED, UNKNOWN,
)  # fmt: skip
"""States that a job can have."""

NO_JOB = frozenset({INTENDED, UNANSWERED, NOT_FOUND, WAITING, REJECTED})
"""States of attempts that have no job, or of which that is not known."""

LEDGER, WATCHER = "ledger", "Watcher"
"""Witnesses of states besides wrapper and cluster: the row that the Submitter wrote; what a Watcher
wrote there."""

Tell = Callable[[str], None]
"""Function that tells people one sentence."""


def check_state(state: str, option: str) -> None:
    """Raise UnknownNameError if no job can have a state; `option`: where it was given."""
    if state not in STATES:
        raise UnknownNameError("state", state, STATES, option)


class KnownJob(msgspec.Struct):
    """One attempt with all that is known about it."""

    attempt: Attempt
    state: str
    cause: str
    live: JobStatus | None
    verdict: Verdict | None
    witness: str
    """Who says so: ``wrapper``, ``cluster NAME``, `LEDGER`, `WATCHER`, or ``none``."""
    known: float | None
    """Time at which the witness said so, in seconds since the epoch; None: it is not known."""

    @property
    def label(self) -> str | None:
        """Label of the known error that explains a failure; None: none does."""
        return (self.verdict.cause_label if self.verdict else self.attempt.cause_label) or None


class Answers:
    """Jobs of each cluster, which is asked when they are first wanted.

    Args:
        clusters: Clusters of the site.
        attempts: Those whose jobs may be asked about.
        tell: Told why a cluster cannot be asked.
    """

    def __init__(
        self, clusters: Clusters, attempts: Sequence[Attempt] = (), tell: Tell = log.warning
    ) -> None:
        self._clusters = clusters
        self._tell = tell
        self._attempts = attempts
        self._live: dict[str, Listing | None] = {}
        self._ended: dict[str, dict[str, JobStatus]] = {}
        """Cluster to the records of its jobs that are not live, by job id."""

    def turn_to(self, attempts: Sequence[Attempt]) -> None:
        """Let the jobs of other attempts be those that may be asked about."""
        self._attempts = attempts
        self._ended.clear()

    def live(self, cluster: str) -> Listing | None:
        """Return the live jobs; None if the cluster cannot be asked."""
        if cluster not in self._live:
            try:
                answer = ask(self._clusters.get(cluster).scheduler.states())
                self._live[cluster] = Listing(answer)
            except Exception as error:  # perhaps of a site's own class
                self._complain(cluster, error)
                self._live[cluster] = None
        return self._live[cluster]

    def missing(self, attempt: Attempt) -> JobStatus | None:
        """Return the record of a job that is not live, and not known to have ended; None: none."""
        cluster = attempt.cluster
        if cluster not in self._ended:
            live = self.live(cluster) or Listing({})
            gone = [
                each for each in self._attempts
                if each.cluster == cluster and may_live(each) and not live.of(each)
            ]  # fmt: skip
            try:
                self._ended[cluster] = self._recorded(cluster, gone)
            except Exception as error:  # perhaps of a site's own class
                self._complain(cluster, error)
                self._ended[cluster] = {}
        return attempt.of(self._ended[cluster])

    def ended(self, attempt: Attempt) -> JobStatus | None:
        """Return the end of a job, as its batch system recorded it; None: there is no record."""
        with contextlib.suppress(Exception):  # perhaps of a site's own class
            return attempt.of(self._recorded(attempt.cluster, [attempt]))
        return None

    def _complain(self, cluster: str, error: Exception) -> None:
        """Tell why a cluster cannot be asked."""
        known = isinstance(error, ZwrapError)
        self._tell(str(error) if known else f"Cluster {cluster}: {error!r}")

    def _recorded(self, cluster: str, attempts: Sequence[Attempt]) -> dict[str, JobStatus]:
        """Return the records of jobs, by job id."""
        now = time.time()
        gone_s = {str(each.job_id): each.gone_s(now) for each in attempts}
        return ask(self._clusters.get(cluster).scheduler.accounting(gone_s)) if gone_s else {}


def may_live(attempt: Attempt) -> bool:
    """Tell whether an attempt has a job that may live, as far as the ledger tells."""
    submitted = attempt.state == SUBMITTED and attempt.job_id is not None
    return submitted and attempt.outcome is None and attempt.ended is None


def job_of(attempt: Attempt, clusters: Answers) -> KnownJob:
    """Return the state of an attempt by its verdict, else by the ledger and its cluster.

    What one job has left hides no other: the state of a job that cannot be told is `UNKNOWN`.
    """
    try:
        return _job_of(attempt, clusters)
    except Exception as error:
        why = f"it cannot be told: {type(error).__name__}: {error}"
        return KnownJob(attempt, UNKNOWN, why, None, None, "none", None)


def _job_of(attempt: Attempt, clusters: Answers) -> KnownJob:
    """Return the state of an attempt as `job_of` does."""
    verdict = _verdict(attempt)
    if verdict is not None and verdict.token == attempt.token:
        state, cause = verdict.outcome.value, verdict.cause
        return KnownJob(attempt, state, cause, None, verdict, verdict.witness, _judged(attempt))
    if attempt.outcome is not None:  # its directory is gone
        state, cause = attempt.outcome, attempt.cause or ""
        return KnownJob(attempt, state, cause, None, None, attempt.witness or WATCHER, attempt.seen)
    if attempt.state != SUBMITTED or attempt.job_id is None:
        since = f"; it waits since {_local(attempt.held)}" if attempt.held else ""
        why = f"{attempt.reason or ''}{since}"
        return KnownJob(attempt, attempt.state, why, None, None, LEDGER, attempt.tried)
    if attempt.ended is not None:
        return _as_seen(attempt)
    live = clusters.live(attempt.cluster)
    if live is None:
        why = "the cluster cannot be asked"
        return KnownJob(attempt, UNKNOWN, why, None, None, "none", attempt.seen)
    status, witness, now = live.of(attempt), f"cluster {attempt.cluster}", time.time()
    if status is None:
        return _missing(attempt, clusters.missing(attempt))
    if attempt.stalled and status.state is State.RUNNING:
        why = f"it runs, but its wrapper has been silent since {_local(attempt.stalled)}"
        return KnownJob(attempt, STALLED, why, status, None, WATCHER, attempt.stalled)
    return KnownJob(attempt, status.state.value, status.reason or "", status, None, witness, now)


def _missing(attempt: Attempt, record: JobStatus | None) -> KnownJob:
    """Return the state of a job that is not live, by its record, else by what a Watcher saw."""
    witness, now = f"cluster {attempt.cluster}", time.time()
    if record is not None:
        state, why = record.state.value, record.reason or ""
        return KnownJob(attempt, state, why, None, None, witness, now)
    if attempt.missing is not None and attempt.seen_state is not None:
        return _as_seen(attempt)
    return KnownJob(attempt, GONE, NOWHERE, None, None, witness, now)


def _as_seen(attempt: Attempt) -> KnownJob:
    """Return the state of a job as a Watcher has seen it."""
    state, why = str(attempt.seen_state), attempt.seen_reason or ""
    return KnownJob(attempt, state, why, None, None, WATCHER, attempt.seen)


def _local(moment: float) -> str:
    """Return a time, in seconds since the epoch, as local time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))


def _verdict(attempt: Attempt) -> Verdict | None:
    """Return the verdict in the job directory; None if it cannot be read."""
    with contextlib.suppress(OSError, MessageError):
        return JobDirectory(Path(attempt.job_directory)).verdict(attempt.token)
    return None


def _judged(attempt: Attempt) -> float | None:
    """Return the time of the verdict in the job directory, in seconds since the epoch."""
    with contextlib.suppress(OSError):
        return Path(attempt.job_directory, VERDICT).stat().st_mtime
    return attempt.seen
