"""`zwrap resubmit`: submit the step of an ended job once more, as a new attempt."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.attempt.directory import SUBMISSION
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.attempt.retry import edited, keep_cluster
from zwrap.cli.common import complain, remark, say
from zwrap.cli.joblist import ledger_of
from zwrap.cli.selecting import (
    FROM_INPUT,
    STATUSES,
    NoNamesError,
    chosen_jobs,
    declare_action,
    declare_query,
    may_act,
    name_of,
    note_action,
    query_of,
    show_effects,
)
from zwrap.configuration.site import Configuration
from zwrap.errors import (
    PERMANENT,
    TEMPORARY,
    MessageError,
    PermanentError,
    TemporaryError,
    ZwrapError,
)
from zwrap.job import Outcome
from zwrap.message.content import ATTEMPT_HEADER, Outgoing
from zwrap.message.jsontext import decode
from zwrap.message.limits import Limits
from zwrap.monitor.actions import Situation
from zwrap.monitor.again import (
    check_ended,
    check_newest,
    check_others,
    newer_than,
    rank_of,
    step_of,
)
from zwrap.monitor.finding import one_of
from zwrap.monitor.states import Answers, KnownJob
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
        if not (chosen.jobs or options.expect):
            return chosen.status
        if not may_act("resubmit", chosen.jobs, options, named=chosen.named):
            return chosen.status
        messages, status = _sendable(ledger, configuration, options, chosen.jobs)
        status = max(status, chosen.status)
        if not messages:
            return status
        return max(status, _send(ledger, configuration, options, messages))


def _send(
    ledger: Ledger,
    configuration: Configuration,
    options: argparse.Namespace,
    messages: Sequence[tuple[Attempt, Outgoing]],
) -> int:
    """Send messages, keep an event of each that was sent, and return the exit status.

    Events are kept even if the transport fails in the middle.
    """
    sent: list[Attempt] = []
    status = 0
    try:
        with connect(configuration, options.transport) as transport:
            for attempt, message in messages:
                what = f"{attempt.job_name} ({attempt.job_id or attempt.token})"
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
    finally:
        note_action(ledger, sent, "resubmitted", options.reason)
    return status


class _Chosen(NamedTuple):
    """The jobs whose steps are to be submitted once more."""

    jobs: list[KnownJob]
    named: bool
    status: int
    """Exit status, as far as it is known: of names that mean no job."""


def _chosen(ledger: Ledger, configuration: Configuration, options: argparse.Namespace) -> _Chosen:
    """Return the jobs that the command line selects; a name that means none is told."""
    status, known = 0, []
    by_hand = FROM_INPUT not in options.JOB
    for name in _names(options):
        try:
            one_of(ledger, name)
            known.append(name)
        except PermanentError as error:
            complain(f"{name} is not sent: {error}")
            status = PERMANENT
    if status and not known:
        return _Chosen([], named=by_hand, status=status)
    options.JOB = known or options.JOB
    jobs, named = chosen_jobs(ledger, configuration, options, (Situation.ENDED, Situation.MISSING))
    if not named or not by_hand:
        return _Chosen(_of_use(ledger, jobs, again=options.again), named=False, status=status)
    return _Chosen(jobs, named=True, status=status)


def _names(options: argparse.Namespace) -> Sequence[str]:
    """Return the names of jobs that a person gave, or that stand on standard input."""
    with contextlib.suppress(NoNamesError):
        return query_of(options).ids if options.JOB else ()
    return ()


def _of_use(ledger: Ledger, jobs: Sequence[KnownJob], *, again: bool) -> list[KnownJob]:
    """Return one job at most of each step; how many others there are, and why, is told.

    `again`: True if a success is no reason to leave a step out.
    """
    kept, newest, done = [], dict[str, Attempt](), 0
    for job in jobs:
        attempt, family = job.attempt, ledger.queries.family(job.attempt)
        if not again and Outcome.SUCCESS.value in {e.outcome for e in (attempt, *family)}:
            done += 1
            continue
        kept.append(job)
        last = newest.get(step_of(attempt), attempt)
        newest[step_of(attempt)] = max(
            last, attempt, newer_than(attempt, family) or attempt, key=rank_of
        )
    of_use = [job for job in kept if newest[step_of(job.attempt)].token == job.attempt.token]
    _tell_left(done, "an attempt at the same step has succeeded (--again: these, too)")
    _tell_left(len(kept) - len(of_use), "of each step only the newest attempt is submitted")
    return of_use


def _tell_left(number: int, why: str) -> None:
    """Say how many of the jobs that are selected are left out, and why."""
    if number:
        remark(f"{number} more {'is' if number == 1 else 'are'} selected, and left out: {why}.")


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
    messages: list[tuple[Attempt, Outgoing]] = []
    status = 0
    for attempt in (job.attempt for job in jobs):
        try:
            answers.turn_to([attempt])
            check_ended(attempt, answers)
            family = ledger.queries.family(attempt)
            check_others(attempt, family, answers, again=options.again)
            check_newest(attempt, family, [each for each, _ in messages])
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


def _explained(error: Exception) -> str:
    """Return what is wrong with a job; an exception that was not foreseen is logged, too."""
    if isinstance(error, ZwrapError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename} cannot be read: {error.strerror}."
    log.error("The record of the job cannot be used", exc_info=error)
    return f"its record cannot be used ({type(error).__name__})."


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
