"""States of submitted jobs, from the ledger, the batch systems and the verdicts.

Each batch system is asked once for live jobs, and once for the records of those that are not live,
whatever the number of jobs. A job shows the same state here as to a Watcher, which may have heard
its wrapper, and has kept in the ledger since when it is missing.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import has_ledger
from zwrap.attempt.ledger.query import Selection
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
from zwrap.attempt.verdict import Verdict
from zwrap.calls.ask import ask
from zwrap.cli.common import complain
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, UnknownNameError, ZwrapError
from zwrap.job import JobStatus, Outcome, State
from zwrap.submission.clusters import Clusters

UNKNOWN = "not known"
"""State of a job whose cluster cannot be asked."""


STATES = (
    *(each.value for each in State), *(each.value for each in Outcome),
    INTENDED, UNANSWERED, NOT_FOUND, WAITING, REJECTED, SUBMITTED,
    GONE, LOST, STALLED, STUCK, NOT_STARTED, UNKNOWN,
)  # fmt: skip
"""States that a job can have."""

PAGE = 1000
"""Number of attempts that are read at once while jobs in a state are looked for."""


@contextlib.contextmanager
def ledger_of(configuration: Configuration) -> Iterator[Ledger]:
    """Yield the ledger of the site; where there is none it is an empty one, which is not kept."""
    ledger = Ledger.of(configuration) if has_ledger(configuration) else Ledger("sqlite://")
    with contextlib.closing(ledger):
        yield ledger


def newest_directories(configuration: Configuration) -> list[Path]:
    """Return the directory of each cluster's newest job, if it is visible on this host."""
    clusters, found = Clusters(configuration), []
    with ledger_of(configuration) as ledger:
        for name in sorted(clusters.described()):
            newest = ledger.queries.newest(20, Selection(cluster=name))
            shown = [each for each in newest if each.state != REJECTED]  # it may have no directory
            with contextlib.suppress(ZwrapError):
                if shown and clusters.get(name).settings.shared_filesystem:
                    found.append(Path(shown[-1].job_directory))
    return [directory for directory in found if directory.is_dir()]


class KnownJob(msgspec.Struct):
    """One attempt with all that is known about it."""

    attempt: Attempt
    state: str
    cause: str
    live: JobStatus | None
    verdict: Verdict | None


class Answers:
    """Jobs of each cluster, which is asked when they are first wanted.

    `attempts`: those whose jobs may be asked about.
    """

    def __init__(self, clusters: Clusters, attempts: Sequence[Attempt] = ()) -> None:
        self._clusters = clusters
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
                _complain(cluster, error)
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
                _complain(cluster, error)
                self._ended[cluster] = {}
        return attempt.of(self._ended[cluster])

    def ended(self, attempt: Attempt) -> JobStatus | None:
        """Return the end of a job, as its batch system recorded it; None: there is no record."""
        with contextlib.suppress(Exception):  # perhaps of a site's own class
            return attempt.of(self._recorded(attempt.cluster, [attempt]))
        return None

    def _recorded(self, cluster: str, attempts: Sequence[Attempt]) -> dict[str, JobStatus]:
        """Return the records of jobs, by job id."""
        now = time.time()
        gone_s = {str(each.job_id): each.gone_s(now) for each in attempts}
        return ask(self._clusters.get(cluster).scheduler.accounting(gone_s)) if gone_s else {}


def _complain(cluster: str, error: Exception) -> None:
    """Say why a cluster cannot be asked."""
    complain(str(error) if isinstance(error, ZwrapError) else f"Cluster {cluster}: {error!r}")


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
        return KnownJob(attempt, UNKNOWN, why, None, None)


def _job_of(attempt: Attempt, clusters: Answers) -> KnownJob:
    """Return the state of an attempt as `job_of` does."""
    verdict = _verdict(attempt)
    if verdict is not None and verdict.token == attempt.token:
        return KnownJob(attempt, verdict.outcome.value, verdict.cause, None, verdict)
    if attempt.outcome is not None:  # its directory is gone
        return KnownJob(attempt, attempt.outcome, attempt.cause or "", None, None)
    if attempt.state != SUBMITTED or attempt.job_id is None:
        since = f"; it waits since {_local(attempt.held)}" if attempt.held else ""
        return KnownJob(attempt, attempt.state, f"{attempt.reason or ''}{since}", None, None)
    if attempt.ended is not None:
        return KnownJob(attempt, str(attempt.seen_state), attempt.seen_reason or "", None, None)
    live = clusters.live(attempt.cluster)
    if live is None:
        return KnownJob(attempt, UNKNOWN, "the cluster cannot be asked", None, None)
    status = live.of(attempt)
    if status is None:
        return _missing(attempt, clusters.missing(attempt))
    if attempt.stalled and status.state is State.RUNNING:
        why = f"it runs, but its wrapper has been silent since {_local(attempt.stalled)}"
        return KnownJob(attempt, STALLED, why, status, None)
    return KnownJob(attempt, status.state.value, status.reason or "", status, None)


def _missing(attempt: Attempt, record: JobStatus | None) -> KnownJob:
    """Return the state of a job that is not live, by its record, else by what a Watcher saw."""
    if record is not None:
        return KnownJob(attempt, record.state.value, record.reason or "", None, None)
    if attempt.missing is not None and attempt.seen_state is not None:
        return KnownJob(attempt, attempt.seen_state, attempt.seen_reason or "", None, None)
    return KnownJob(attempt, GONE, NOWHERE, None, None)


def _local(moment: float) -> str:
    """Return a time, in seconds since the epoch, as local time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))


def _verdict(attempt: Attempt) -> Verdict | None:
    """Return the verdict in the job directory; None if it cannot be read."""
    with contextlib.suppress(OSError, MessageError):
        return JobDirectory(Path(attempt.job_directory)).verdict(attempt.token)
    return None


def in_state(
    ledger: Ledger, state: str, selection: Selection, number: int, answers: Answers
) -> list[KnownJob]:
    """Return the newest jobs in a state, `number` at most, oldest first.

    Raises:
        UnknownNameError: No job can have that state.
    """
    if state not in STATES:
        raise UnknownNameError("state", state, STATES, "--state")
    found: list[KnownJob] = []
    if state in {each.value for each in Outcome}:
        ended = ledger.queries.newest(number, selection, outcome=state)
        found += [job_of(each, answers) for each in ended]
    states = {state} & {INTENDED, UNANSWERED, NOT_FOUND, WAITING, REJECTED} or {SUBMITTED}
    page: list[Attempt] | None = None
    newest: list[KnownJob] = []
    while page is None or (len(page) == PAGE and len(newest) < number):
        before = page[-1] if page else None
        page = ledger.queries.unconcluded(states, selection, number=PAGE, before=before)
        answers.turn_to(page)
        jobs = (job_of(each, answers) for each in page if _may_be(each, state, answers))
        newest += itertools.islice(
            (job for job in jobs if job.state == state), number - len(newest)
        )
    both = sorted(found + newest, key=lambda job: (job.attempt.created, job.attempt.token))
    return both[-number:]


def _may_be(attempt: Attempt, state: str, answers: Answers) -> bool:
    """Tell whether it takes a look into the directory of an attempt to know that its state is one.

    No verdict is looked for while the batch system lists the job in another state.
    """
    if not may_live(attempt) or (live := answers.live(attempt.cluster)) is None:
        return True
    status = live.of(attempt)
    return status is None or state in (status.state.value, STALLED)


def one_of(ledger: Ledger, given: str) -> Attempt:
    """Return the attempt with a job id, or with a token that begins so.

    Raises:
        MessageError: The name is empty, or several attempts match.
        UnknownNameError: No attempt matches.
    """
    if not given:
        raise MessageError(
            "The name of a job is empty; a job id or the beginning of a token is expected."
        )
    for matching in (ledger.queries.with_job_id, ledger.queries.with_beginning):
        found = matching(given, MOST_NAMED + 1)
        if len(found) > 1:
            names = ", ".join(f"{each.token} on {each.cluster}" for each in found[:MOST_NAMED])
            raise MessageError(f"{given!r} may mean {names}; write more of the token.")
        if found:
            return found[0]
    last = ledger.queries.newest(20)
    raise UnknownNameError("job", given, [each.job_id or each.token for each in last])


MOST_NAMED = 5
"""Largest number of attempts that are named where several are meant."""
