"""`zwrap resubmit`: submit the step of an ended job once more, as a new attempt."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.attempt.directory import SUBMISSION
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.attempt.retry import edited, keep_cluster
from zwrap.cli.common import complain, say
from zwrap.cli.joblist import ledger_of
from zwrap.cli.selecting import (
    FROM_INPUT,
    STATUSES,
    chosen_jobs,
    declare_action,
    declare_query,
    may_act,
    name_of,
    note_action,
    show_effects,
)
from zwrap.configuration.site import Configuration
from zwrap.errors import (
    PERMANENT,
    TEMPORARY,
    MessageError,
    PermanentError,
    TemporaryError,
    UnreachableError,
    ZwrapError,
)
from zwrap.job import Outcome, State
from zwrap.message.content import ATTEMPT_HEADER, Outgoing
from zwrap.message.jsontext import decode
from zwrap.message.limits import Limits
from zwrap.monitor.actions import Situation
from zwrap.monitor.finding import one_of
from zwrap.monitor.states import UNKNOWN, Answers, KnownJob, job_of
from zwrap.recipe.envelope import Envelope
from zwrap.submission.clusters import Clusters
from zwrap.submission.request import prepare
from zwrap.transport.connect import connect
from zwrap.transport.deadletters import read, reinjected
from zwrap.units import key_value, whole_number

log = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    declare_query(parser)
    declare_action(parser)
    add = parser.add_argument
    add("--again", action="store_true", help="also a step at which an attempt has succeeded")
    purpose = "a key of the step's 'cluster' block, such as memory_per_node=8000; empty: without"
    add("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help=purpose)
    parser.epilog = (
        "Examples: zwrap resubmit 17 -s memory_per_node=8000; zwrap resubmit --state failure "
        f"--cause disk-full --since 2h --dry-run. {STATUSES}"
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Send the messages of all jobs that can be submitted once more.

    What is wrong with one job is told, and the others are sent all the same. Returns 100 if there
    was such a job, or a message was refused for good; 111 if a cluster could not be asked.
    """
    with ledger_of(configuration) as ledger:
        chosen = _chosen(ledger, configuration, options)
        if options.dry_run:
            show_effects("resubmit", chosen.jobs)
            return chosen.status
        if not chosen.jobs or not may_act("resubmit", chosen.jobs, options, named=chosen.named):
            return chosen.status
        messages, status = _sendable(ledger, configuration, options, chosen.jobs)
        status = max(status, chosen.status)
        if not messages:
            return status
        sent, worse = _send(configuration, options, messages)
        note_action(ledger, sent, "resubmitted", options.reason)
    return max(status, worse)


def _send(
    configuration: Configuration,
    options: argparse.Namespace,
    messages: Sequence[tuple[Attempt, Outgoing]],
) -> tuple[list[Attempt], int]:
    """Send messages; return the attempts whose messages were sent, and the exit status."""
    sent, status = [], 0
    with connect(configuration, options.transport) as transport:
        for attempt, message in messages:
            what = f"{attempt.job_name} ({attempt.job_id})"
            try:
                transport.commit([message])
                transport.flush()
            except PermanentError as error:
                complain(f"{what} is not sent: {error}")
                status = PERMANENT
                continue
            sent.append(attempt)
            number = message.headers[ATTEMPT_HEADER]
            say(f"{what} is sent to {message.destination} as attempt {number}.")
    return sent, status


class _Chosen(NamedTuple):
    """The jobs whose steps are to be submitted once more."""

    jobs: list[KnownJob]
    named: bool
    status: int
    """Exit status, as far as it is known: of names that mean no job."""


def _chosen(ledger: Ledger, configuration: Configuration, options: argparse.Namespace) -> _Chosen:
    """Return the jobs that the command line selects; a name that means none is told."""
    status, known = 0, []
    for name in options.JOB:
        try:
            if name != FROM_INPUT:
                one_of(ledger, name)
            known.append(name)
        except PermanentError as error:
            complain(f"{name} is not sent: {error}")
            status = PERMANENT
    if status and not known:
        return _Chosen([], named=True, status=status)
    options.JOB = known
    jobs, named = chosen_jobs(ledger, configuration, options, (Situation.ENDED, Situation.MISSING))
    if not named and not options.again:
        jobs = [job for job in jobs if not _succeeded(ledger, job.attempt)]
    return _Chosen(jobs, named, status)


def _sendable(
    ledger: Ledger,
    configuration: Configuration,
    options: argparse.Namespace,
    jobs: Sequence[KnownJob],
) -> tuple[list[tuple[Attempt, Outgoing]], int]:
    """Return the messages of the jobs that can be submitted once more, and the exit status."""
    clusters = Clusters(configuration)
    changes = dict(key_value(setting, "-s") for setting in options.set)
    answers = Answers(clusters, tell=complain)
    messages, status = [], 0
    for attempt in (job.attempt for job in jobs):
        try:
            answers.turn_to([attempt])
            _check_ended(attempt, answers)
            family = ledger.queries.family(attempt)
            _check_others(attempt, family, answers, again=options.again)
            content, place = _submission(attempt, ledger)
            message = _message(
                attempt, family, changes, clusters, content, place, configuration.site.limits
            )
        except Exception as error:
            complain(f"{name_of(attempt)} is not sent: {_explained(error)}")
            status = max(status, TEMPORARY if isinstance(error, TemporaryError) else PERMANENT)
            continue
        messages.append((attempt, message))
    return messages, status


def _succeeded(ledger: Ledger, attempt: Attempt) -> bool:
    """Return True if an attempt at the same message is known to have succeeded."""
    ends = {each.outcome for each in (attempt, *ledger.queries.family(attempt))}
    return Outcome.SUCCESS.value in ends


def _check_others(
    attempt: Attempt, family: Sequence[Attempt], answers: Answers, *, again: bool
) -> None:
    """Raise MessageError if another attempt at the message lives, or if one has succeeded.

    `again`: True if a success is no reason not to.
    """
    for other in family:
        answers.turn_to([other])
        job = job_of(other, answers)
        if other.token != attempt.token and job.live is not None:
            raise MessageError(
                f"Attempt {other.number} at the same step is {job.state} as job {other.job_id} on "
                f"cluster {other.cluster}; end it first (zwrap cancel {other.job_id})."
            )
        if job.state == Outcome.SUCCESS.value and not again:
            raise MessageError(
                f"Attempt {other.number} at this step, job {other.job_id}, has succeeded; what "
                "follows would happen twice. Say --again to submit it all the same."
            )


def _explained(error: Exception) -> str:
    """Return what is wrong with a job; an exception that was not foreseen is logged, too."""
    if isinstance(error, ZwrapError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename} cannot be read: {error.strerror}."
    log.error("The record of the job cannot be used", exc_info=error)
    return f"its record cannot be used ({type(error).__name__})."


def _check_ended(attempt: Attempt, answers: Answers) -> None:
    """Raise an error unless the job is known to have ended: two jobs must not share a directory.

    Raises:
        MessageError: The job lives.
        UnreachableError: The cluster cannot be asked.
    """
    job = job_of(attempt, answers)
    if job.live is not None or job.state == State.RUNNING.value:  # that a Watcher hears
        raise MessageError(
            f"Job {attempt.job_id} on cluster {attempt.cluster} is {job.state}; end it first "
            f"(zwrap cancel {attempt.job_id})."
        )
    if job.state == UNKNOWN:
        raise UnreachableError(
            f"Cluster {attempt.cluster} cannot be asked whether job {attempt.job_id} has ended."
        )


def _submission(attempt: Attempt, ledger: Ledger) -> tuple[dict[str, object], Path]:
    """Return the message that was submitted, and its file."""
    file = Path(attempt.job_directory, SUBMISSION)
    kept = ledger.remote.get(attempt.token)
    if kept is None:
        return read(file), file
    content = decode(kept.submission.encode(), str(file))
    if not isinstance(content, dict):
        raise MessageError(
            f"The ledger's record of the submission of {attempt.token} is not a JSON object."
        )
    return content, file


def _message(
    attempt: Attempt,
    alike: list[Attempt],
    changes: dict[str, str],
    clusters: Clusters,
    content: dict[str, object],
    file: Path,
    limits: Limits,
) -> Outgoing:
    """Return the step's message with the changes, numbered as the next attempt."""
    family, _, own = attempt.token.rpartition("-")
    known = {each.token for each in alike}
    number = (whole_number(own) or 1) + 1
    while f"{family}-{number}" in known:
        number += 1
    try:
        body = edited(content["message"], changes)
        had_job = attempt.job_id is not None and "scheduler" not in changes
        kept = keep_cluster(body, attempt.cluster if had_job else None)
    except MessageError as error:
        raise MessageError(f"{file}: {error}") from None
    prepare(
        Envelope.from_body(body, limits),
        attempt.token,
        clusters.default,
        lambda name: clusters.get(name).settings,
        limits,
    )
    message = reinjected({**content, "message": body}, file, None)
    return replace(message, headers={**message.headers, **kept, ATTEMPT_HEADER: number})
