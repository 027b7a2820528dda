"""`zwrap jobs`: show the jobs that were submitted, and how they ended."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.cli.advice import RECENT, advise
from zwrap.cli.common import complain, say, say_json, say_values
from zwrap.cli.jobcolumns import COLUMNS, Shown, chosen_columns, facts, rows
from zwrap.cli.joblist import ledger_of
from zwrap.cli.onejob import full, show_one
from zwrap.cli.output import show, show_columns
from zwrap.cli.selecting import FROM_INPUT, declare_query, query_of, tell_bound
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, UnknownNameError
from zwrap.monitor.finding import FIELDS, count, find, one_of
from zwrap.monitor.selection import Query
from zwrap.monitor.states import Answers, KnownJob, job_of
from zwrap.submission.clusters import Clusters

ADVISE = "advise"
"""Word in the place of a job's name: show advice instead of jobs."""

NUMBER = 50
"""Number of jobs that are listed unless another is wanted."""

WHOLE = ("job", "recipe", "step", "state", "age", "token", "id")
"""Columns that are never cut: what they show can be pasted, or is short."""

ADVICE_COLUMNS = {
    "job_name": "name", "cluster": "cluster", "asked": "asks for", "succeeded": "succeeded",
    "other": "other", "median_s": "median s", "longest_s": "longest s", "peak_mib": "peak MiB",
    "time_limit": "time_limit", "memory_per_node": "memory_per_node",
}  # fmt: skip


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    declare_query(parser)
    add = parser.add_argument
    add("-n", "--number", type=int, metavar="N", help=f"the newest N, default {NUMBER}")
    add("--count", action="store_true", help="only the number of jobs")
    add(
        "--by", metavar="FIELDS",
        help=f"the number of jobs for each value of some of: {', '.join(FIELDS)}",
    )  # fmt: skip
    add("--json", action="store_true", help="one JSON object a line; one job: in full")
    add("--tsv", action="store_true", help="a line a job, with tabs between values")
    add("--columns", metavar="NAMES", help=f"columns, some of: {', '.join(COLUMNS)}")
    parser.epilog = (
        "`zwrap jobs JOB` shows one job; `zwrap jobs advise` the needs of earlier jobs of each "
        "name, and a proposal for the next. Exit status: 0; 100: a name or option has no meaning; "
        "111: the ledger cannot be used now."
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Show one job, a list of jobs, numbers of them, or advice."""
    if options.number is not None and options.number < 1:
        raise MessageError(f"-n {options.number}: the number of jobs to show, from 1, is expected.")
    with ledger_of(configuration) as ledger:
        if options.JOB == [ADVISE]:
            _show_advice(ledger, options)
            return 0
        query = query_of(options)
        answers = Answers(Clusters(configuration), tell=complain)
        if options.count or options.by:
            _count(ledger, query, answers, options)
        elif _is_one(query) and FROM_INPUT not in options.JOB and not _listed(options):
            _show_one(ledger, configuration, query.ids[0], answers, as_json=options.json)
        else:
            found = find(ledger, query, answers, options.number or NUMBER)
            _show(found.jobs, ledger, options)
            tell_bound(found.last_looked, query)
    return 0


def _is_one(query: Query) -> bool:
    """Return True if one job is named, and nothing else is said of it that it may not fit."""
    return len(query.ids) == 1 and query == Query(ids=query.ids, look=query.look)


def _listed(options: argparse.Namespace) -> bool:
    """Return True if a line is wanted of a job, whatever the number of jobs."""
    return bool(options.tsv or options.columns)


def _show_one(
    ledger: Ledger, configuration: Configuration, given: str, answers: Answers, *, as_json: bool
) -> None:
    """Print what is known of one job: in about ten lines, or in full as JSON."""
    attempt = one_of(ledger, given)
    answers.turn_to([attempt])
    job = job_of(attempt, answers)
    if as_json:
        say_json(full(job, ledger, answers, configuration))
    else:
        show_one(job, ledger, configuration)


def _show(jobs: list[KnownJob], ledger: Ledger, options: argparse.Namespace) -> None:
    """Print a line for each job."""
    columns = chosen_columns(options.columns, jobs)
    if options.json:
        now = ledger.now()
        for job in jobs:
            told: Mapping[str, object] = facts(job)
            if options.columns:
                told = {name: COLUMNS[name](Shown(job, ledger, now)) for name in columns}
            say_json(told, indent=-1)
    elif options.tsv:
        say_values(columns)
        for row in rows(jobs, ledger, columns):
            say_values(row)
    elif jobs:
        show_columns(columns, rows(jobs, ledger, columns), whole=WHOLE)
    else:
        say("No jobs.")


def _count(ledger: Ledger, query: Query, answers: Answers, options: argparse.Namespace) -> None:
    """Print the number of jobs, or the numbers of jobs by what they differ in, largest first."""
    by = [each.strip() for each in (options.by or "").split(",") if each.strip()]
    for name in by:
        if name not in FIELDS:
            raise UnknownNameError("field", name, FIELDS, "--by")
    counted, last_looked = count(ledger, query, answers, by)
    lines = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    if not by:
        total = sum(counted.values())
        say_json({"jobs": total}, indent=-1) if options.json else say(str(total))
    elif options.json:
        for values, number in lines:
            say_json({"jobs": number, **dict(zip(by, values, strict=True))}, indent=-1)
    elif options.tsv:
        say_values(["jobs", *by])
        for values, number in lines:
            say_values([number, *values])
    else:
        show_columns(["jobs", *by], [[number, *values] for values, number in lines])
    tell_bound(last_looked, query)


def _show_advice(ledger: Ledger, options: argparse.Namespace) -> None:
    """Print the advice for each name of jobs."""
    found = advise(ledger.queries.needs(RECENT, *options.clusters[:1]))
    if not found and not options.json:
        say("No job has ended yet, as far as a Watcher has seen.")
        return
    show([each._asdict() for each in found], ADVICE_COLUMNS, as_json=options.json)
