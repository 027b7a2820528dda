"""States of submitted jobs, from the ledger, the batch systems and the verdicts.

Each batch system is asked once, whatever the number of jobs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from zwrap.attempt.ledger.ledger import Ledger, default_file
from zwrap.attempt.ledger.remote import RemoteAttempt
from zwrap.attempt.record import STALLED, SUBMITTED, Attempt
from zwrap.attempt.verdict import Verdict
from zwrap.calls.ask import ask
from zwrap.cli.common import complain
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, UnknownNameError, ZwrapError
from zwrap.job import JobStatus, State
from zwrap.submission.clusters import Clusters

GONE, UNKNOWN = "gone", "not known"
"""State of a job that left no verdict, and of a job whose cluster cannot be asked."""


def attempts_of(configuration: Configuration) -> list[Attempt]:
    """Return all attempts of the site; a ledger that does not exist is not created."""
    if not configuration.site.ledger and not default_file().exists():
        return []
    with contextlib.closing(Ledger.of(configuration)) as ledger:
        return ledger.all()


def kept_of(attempt: Attempt, configuration: Configuration) -> RemoteAttempt | None:
    """Return the ledger's record of an attempt without a visible job directory, else None."""
    with contextlib.closing(Ledger.of(configuration)) as ledger:
        return ledger.remote.get(attempt.token)


class KnownJob(msgspec.Struct):
    """One attempt with all that is known about it."""

    attempt: Attempt
    state: str
    cause: str
    live: JobStatus | None
    verdict: Verdict | None


class Answers:
    """Live jobs of each cluster, which is asked once, when its jobs are first wanted."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters
        self._live: dict[str, dict[str, JobStatus] | None] = {}

    def live(self, cluster: str) -> dict[str, JobStatus] | None:
        """Return the live jobs by id; None if the cluster cannot be asked."""
        if cluster not in self._live:
            try:
                self._live[cluster] = ask(self._clusters.get(cluster).scheduler.states())
            except ZwrapError as error:
                complain(str(error))
                self._live[cluster] = None
        return self._live[cluster]

    def ended(self, attempt: Attempt) -> JobStatus | None:
        """Return the end of a job, as its batch system recorded it; None: there is no record."""
        with contextlib.suppress(ZwrapError):
            scheduler = self._clusters.get(attempt.cluster).scheduler
            gone_s = {str(attempt.job_id): attempt.gone_s(time.time())}
            found = ask(scheduler.accounting(gone_s))
            return attempt.of(found)
        return None


def job_of(attempt: Attempt, clusters: Answers) -> KnownJob:
    """Return the state of an attempt by its verdict, else by the ledger and its cluster."""
    verdict = _verdict(attempt)
    if verdict is not None:
        return KnownJob(attempt, verdict.outcome.value, verdict.cause, None, verdict)
    if attempt.outcome is not None:  # its directory is gone
        return KnownJob(attempt, attempt.outcome, attempt.cause or "", None, None)
    if attempt.state != SUBMITTED or attempt.job_id is None:
        return KnownJob(attempt, attempt.state, attempt.reason or "", None, None)
    if attempt.ended is not None:
        return KnownJob(attempt, str(attempt.seen_state), attempt.seen_reason or "", None, None)
    live = clusters.live(attempt.cluster)
    if live is None:
        return KnownJob(attempt, UNKNOWN, "the cluster cannot be asked", None, None)
    status = attempt.of(live)
    if status is None:
        return KnownJob(attempt, GONE, "it left no verdict", None, None)
    if attempt.stalled and status.state is State.RUNNING:
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(attempt.stalled))
        return KnownJob(
            attempt,
            STALLED,
            f"it runs, but its wrapper has been silent since {since}",
            status,
            None,
        )
    return KnownJob(attempt, status.state.value, status.reason or "", status, None)


def _verdict(attempt: Attempt) -> Verdict | None:
    """Return the verdict in the job directory; None if it cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        content = Path(attempt.job_directory, "verdict.json").read_bytes()
        return msgspec.json.decode(content, type=Verdict)
    return None


def one_of(attempts: list[Attempt], given: str) -> Attempt:
    """Return the attempt with a job id, or with a token that begins so.

    Raises:
        MessageError: The name is empty, or several attempts match.
        UnknownNameError: No attempt matches.
    """
    if not given:
        raise MessageError(
            "The name of a job is empty; a job id or the beginning of a token is expected."
        )
    for matches in _MATCHES:
        found = [attempt for attempt in attempts if matches(attempt, given)]
        if len(found) > 1:
            names = ", ".join(f"{each.token} on {each.cluster}" for each in found[:5])
            raise MessageError(f"{given!r} may mean {names}; write more of the token.")
        if found:
            return found[0]
    raise UnknownNameError("job", given, [a.job_id or a.token for a in attempts[-20:]])


_MATCHES: list[Callable[[Attempt, str], bool]] = [
    lambda attempt, given: attempt.job_id == given,
    lambda attempt, given: attempt.token.startswith(given),
]
"""Tests of an attempt against a name that a user gave, in order of precedence."""
