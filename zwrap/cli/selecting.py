"""The options of the query language, declared once for every command, and what asks before it acts.

`zwrap.monitor.selection` says what they mean.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.cli.common import complain, remark, say, user_name
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.host.given import TEXT_BYTES, read_stream
from zwrap.monitor.actions import EFFECTS, Situation, situation_of
from zwrap.monitor.finding import find, one_of
from zwrap.monitor.selection import LOOK, Query, parse_query
from zwrap.monitor.states import STATES, Answers, KnownJob, job_of
from zwrap.submission.clusters import Clusters

FROM_INPUT = "-"
"""Name of a job that stands for those on standard input."""

STATUSES = (
    "Exit status: 0; 100: nothing was done, or not all of it, and another try will not help; 111: "
    "a cluster or the ledger cannot be used now."
)
"""What the exit statuses of a command that acts on jobs mean."""

SHOWN = 10
"""Number of jobs that are shown before people are asked whether to act on them."""

OPTIONS = {
    "--state": ("states", "STATE", f"in this state: {', '.join(sorted(set(STATES)))}"),
    "--cause": ("causes", "TEXT", "whose cause has this label, or holds these words"),
    "--program": ("programs", "NAME", "that run this program or wrapper"),
    "--name": ("names", "PATTERN", "of this name; * and ? stand for any characters, or any one"),
    "--step": ("steps", "N", "at this step of their recipe"),
    "--cluster": ("clusters", "NAME", "of this cluster"),
    "--recipe": ("recipes", "ID", "of this recipe: its ID, or the beginning of it"),
    "--dir": ("directories", "DIR", "whose working directory is this one, or below it"),
    "--user": ("users", "NAME", "whose working directory belongs to this user"),
    "--where": ("where", "PATH=VALUE", "with this value in their message, such as payload.dcid=7"),
}  # fmt: skip
"""Option that may be repeated, to the field of a query, the word for its value, and its meaning."""

TIMES = {
    "--since": "submitted since then: an age (30s, 10m, 2h, 3d, 1w) or a local time (14:05, "
    "2026-11-29, 2026-11-29T14:05)",
    "--until": "submitted before then",
}


def declare_query(parser: argparse.ArgumentParser) -> None:
    """Declare the names of jobs, and the options that select jobs."""
    parser.add_argument(
        "JOB", nargs="*",
        help="job id, beginning of a token, or CLUSTER:JOB; -: those on standard input",
    )  # fmt: skip
    group = parser.add_argument_group(
        "options that select jobs", "A job has to fit all of them, and of a repeated one any."
    )
    for option, (field, word, meaning) in OPTIONS.items():
        group.add_argument(
            option, action="append", default=[], dest=field, metavar=word, help=f"jobs {meaning}"
        )
    for option, meaning in TIMES.items():
        group.add_argument(option, metavar="TIME", help=f"jobs {meaning}")
    group.add_argument(
        "--look", type=int, default=LOOK, metavar="N",
        help="look into the files of the newest N jobs for --program, --user and --where; default "
        "%(default)s",
    )  # fmt: skip


def declare_action(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a command that acts on jobs."""
    add = parser.add_argument
    add("--dry-run", action="store_true", help="show what would be done, and do none of it")
    add("--yes", action="store_true", help="act on all jobs that are selected without a question")
    add("--expect", type=int, metavar="N", help="act if exactly N jobs are selected")
    add("--reason", metavar="TEXT", default="", help="why; it is kept in the events of each job")


def query_of(options: argparse.Namespace) -> Query:
    """Return the query that parsed options mean.

    Raises:
        NoNamesError: The jobs on standard input are meant, and there are none.
        RequestError: A value has no meaning, or standard input holds no text.
        UnknownNameError: No job can have such a state.
    """
    if options.look < 1:
        raise RequestError(f"--look {options.look}: a number of jobs, from 1, is expected.")
    ids = [each for each in options.JOB if each != FROM_INPUT]
    if FROM_INPUT in options.JOB:
        ids += _from_input()
        if not ids:  # which must not mean all that fit the other options
            raise NoNamesError("Standard input names no job, so that none is meant.")
    fields = {field: getattr(options, field) for field, _, _ in OPTIONS.values()}
    return parse_query(
        ids=ids, since=options.since, until=options.until, look=options.look, **fields
    )


class NoNamesError(RequestError):
    """Standard input names no job."""


class Chosen(NamedTuple):
    """The jobs on which a command is about to act."""

    jobs: list[KnownJob]
    named: bool
    """True if a person named each of them, and thereby said how many."""


def chosen_jobs(
    ledger: Ledger,
    configuration: Configuration,
    options: argparse.Namespace,
    touched: Collection[Situation],
) -> Chosen:
    """Return the jobs that a command line selects, oldest first; those that are named, as named.

    Of jobs that are not named only those in one of the situations `touched` are chosen; how many
    others there are is told.

    Raises:
        RequestError: No job is named or selected, or one of the values has no meaning.
        MessageError: A name may mean several jobs.
        UnknownNameError: There is no such job.
    """
    try:
        query = query_of(options)
    except NoNamesError:
        return _none(options)
    if query.is_empty:
        raise RequestError("Name jobs, or select some: --state, --recipe, --dir and others.")
    answers = Answers(Clusters(configuration), tell=complain)
    named = bool(query.ids) and Query(ids=query.ids, look=query.look) == query
    if named:
        rows = list({row.token: row for row in (one_of(ledger, e) for e in query.ids)}.values())
        answers.turn_to(rows)
        return Chosen([job_of(row, answers) for row in rows], FROM_INPUT not in options.JOB)
    found = find(ledger, query, answers)
    tell_bound(found.last_looked, query)
    jobs = [job for job in found.jobs if situation_of(job) in touched]
    if left := len(found.jobs) - len(jobs):
        remark(f"{left} more {'is' if left == 1 else 'are'} selected, and left alone (--dry-run).")
    return Chosen(jobs, named=False) if jobs else _none(options)


def _none(options: argparse.Namespace) -> Chosen:
    """Say that no job is selected; RequestError if some were expected."""
    if options.expect:
        raise RequestError(f"0 jobs selected, --expect {options.expect}: none was touched.")
    say("No such jobs.")
    return Chosen([], named=False)


def show_effects(action: str, jobs: Sequence[KnownJob]) -> None:
    """Print what an action would do to each job; nothing is done."""
    for job in jobs:
        attempt, effect = job.attempt, EFFECTS[action][situation_of(job)]
        where = f"{attempt.job_name} on {attempt.cluster}"
        say(f"{name_of(attempt)} {where}, {job.state}: {effect}.")
    say(f"Dry run: {_jobs(len(jobs))}, none was touched.")


def may_act(
    action: str, jobs: Sequence[KnownJob], options: argparse.Namespace, *, named: bool
) -> bool:
    """Say how many jobs a command is about to act on, and return True if it may.

    Args:
        action: What it does, as a verb, such as ``cancel``.
        jobs: The jobs, at least one.
        options: Those of `declare_action`.
        named: True if a person named each.

    Raises RequestError if another number is expected, or nobody can be asked.
    """
    number = _jobs(len(jobs))
    if options.expect is not None and options.expect != len(jobs):
        raise RequestError(f"{number} selected, --expect {options.expect}: none was touched.")
    if named or len(jobs) == 1 or options.expect is not None:
        return True
    remark(f"To {action}: {number}.")
    for job in jobs[:SHOWN]:
        where = f"{job.attempt.job_name} on {job.attempt.cluster}"
        remark(f"  {name_of(job.attempt)} {where}, {job.state}")
    if len(jobs) > SHOWN:
        remark(f"  and {len(jobs) - SHOWN} more (--dry-run shows each)")
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise RequestError(
            f"To {action} {number} needs --yes or --expect {len(jobs)}, as there is no terminal "
            "to ask; none was touched."
        )
    with contextlib.suppress(EOFError):
        if input(f"{action} {number}? [y/N] ").strip().lower() in ("y", "yes"):
            return True
    say("None was touched.")
    return False


def note_action(ledger: Ledger, attempts: Sequence[Attempt], done: str, reason: str) -> None:
    """Keep as an event of each attempt what a person did, when, and why.

    Args:
        ledger: The ledger.
        attempts: The attempts.
        done: What was done, such as ``cancelled``: 40 characters at most.
        reason: The person's words; empty: none were given.
    """
    who = f"{user_name()}@{socket.gethostname()}"
    ledger.events.note([each.token for each in attempts], done, who, reason or None)


def _jobs(number: int) -> str:
    """Return a number of jobs in words."""
    return f"{number} job{'' if number == 1 else 's'}"


def name_of(attempt: Attempt) -> str:
    """Return the name of a job for people: its id, or the token of an attempt without one."""
    return attempt.job_id or attempt.token


def tell_bound(last_looked: Attempt | None, query: Query) -> None:
    """Say that older jobs were not looked into, if there are any."""
    if last_looked is not None:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(last_looked.created))
        complain(
            f"The files of the newest {query.look} jobs were looked into, back to {at}; older ones "
            "may fit, too. Narrow the search (--since, --name, --dir), or raise --look."
        )


def _from_input() -> list[str]:
    """Return the names on standard input: the first word of each line.

    Raises RequestError if it is no text, or too long.
    """
    try:
        text = read_stream(sys.stdin.buffer, TEXT_BYTES, "standard input").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The names of jobs on standard input cannot be read: {error}") from None
    words = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [each[0] for each in words if each and each[0] != "job"]
