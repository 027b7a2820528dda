"""`zwrap jobs`: show the jobs that were submitted, and how they ended."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import msgspec

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.query import Selection
from zwrap.attempt.record import Attempt
from zwrap.cli.advice import RECENT, advise
from zwrap.cli.common import say, say_json
from zwrap.cli.heard import heartbeat_of
from zwrap.cli.joblist import Answers, KnownJob, in_state, job_of, ledger_of, one_of
from zwrap.cli.output import show
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.job import State
from zwrap.message.jsontext import decode
from zwrap.submission.clusters import Clusters
from zwrap.transport.spool.views import held

COLUMNS = {
    "job_id": "job", "job_name": "name", "recipe_id": "recipe", "step": "node",
    "cluster": "cluster", "state": "state", "submitted": "submitted", "cause_label": "label",
    "cause": "cause",
}  # fmt: skip
CAUSE_WIDTH = 80
"""Longest cause in a table, in characters."""

ADVICE_COLUMNS = {
    "job_name": "name", "cluster": "cluster", "asked": "asks for", "succeeded": "succeeded",
    "other": "other", "median_s": "median s", "longest_s": "longest s", "peak_mib": "peak MiB",
    "time_limit": "time_limit", "memory_per_node": "memory_per_node",
}  # fmt: skip


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "JOB", nargs="?",
        help="job id, or the beginning of a token: show this job in full; `advise`: show the needs "
        "of earlier jobs of each name, and a proposal for the next",
    )  # fmt: skip
    add("--recipe", metavar="ID", help="only jobs of this recipe")
    add("--cluster", metavar="NAME", help="only jobs of this cluster")
    add("--state", metavar="STATE", help="only jobs in this state, such as running or failure")
    add("-n", "--number", type=int, default=50, metavar="N", help="the last N, default %(default)s")
    add("--json", action="store_true", help="one JSON object a line")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Show one job in full, a list of jobs, or advice."""
    if options.number < 1:
        raise MessageError(f"-n {options.number}: the number of jobs to show, from 1, is expected.")
    with ledger_of(configuration) as ledger:
        if options.JOB == "advise":
            _show_advice(ledger, options)
        elif options.JOB:
            _show_one(ledger, configuration, options.JOB)
        else:
            _show(_chosen(ledger, configuration, options), as_json=options.json)
    return 0


def _chosen(
    ledger: Ledger, configuration: Configuration, options: argparse.Namespace
) -> list[KnownJob]:
    """Return the jobs that the options select, oldest first."""
    selection = Selection(recipe_id=options.recipe, cluster=options.cluster)
    answers = Answers(Clusters(configuration))
    if options.state is not None:
        return in_state(ledger, options.state, selection, options.number, answers)
    attempts = ledger.queries.newest(options.number, selection)
    answers.turn_to(attempts)
    return [job_of(each, answers) for each in attempts]


def _show_one(ledger: Ledger, configuration: Configuration, given: str) -> None:
    """Print all that is known of one job."""
    attempt = one_of(ledger, given)
    answers = Answers(Clusters(configuration), [attempt])
    job = job_of(attempt, answers)
    full = {**_in_full(job, answers), "attempts": _family(ledger.queries.family(attempt))}
    if job.live and job.live.state is State.RUNNING:
        full["heartbeat"] = heartbeat_of(attempt.token, configuration)
    if kept := ledger.remote.get(attempt.token):
        full |= {"verdict": msgspec.to_builtins(kept.verdict), "late": _decoded(kept.late)}
    say_json(full)


def _show(jobs: list[KnownJob], *, as_json: bool) -> None:
    """Print jobs; in a table the cause is cut to `CAUSE_WIDTH`."""
    if not jobs and not as_json:
        say("No jobs.")
        return
    facts = [_facts(job) for job in jobs]
    if not as_json:
        for each in facts:
            each["cause"] = "".join(str(each["cause"]).splitlines()[:1])[:CAUSE_WIDTH]
    show(facts, COLUMNS, as_json=as_json)


def _show_advice(ledger: Ledger, options: argparse.Namespace) -> None:
    """Print the advice for each name of jobs."""
    found = advise(ledger.queries.needs(RECENT, options.cluster))
    if not found and not options.json:
        say("No job has ended yet, as far as a Watcher has seen.")
        return
    show([each._asdict() for each in found], ADVICE_COLUMNS, as_json=options.json)


def _facts(job: KnownJob) -> dict[str, object]:
    """Return the keys that the list and the full form of a job share."""
    attempt = job.attempt
    return {
        "token": attempt.token,
        "job_id": attempt.job_id,
        "job_name": attempt.job_name,
        "recipe_id": attempt.recipe_id,
        "step": attempt.step,
        "cluster": attempt.cluster,
        "state": job.state,
        "cause": job.cause,
        "cause_label": (job.verdict.cause_label if job.verdict else attempt.cause_label) or None,
        "corrected": (job.verdict.corrected if job.verdict else _corrected(attempt)) or None,
        "witness": job.verdict.witness if job.verdict else attempt.witness,
        "outcome": attempt.outcome,
        "submitted": _time(attempt.created),
        "job_directory": attempt.job_directory,
    }


def _in_full(job: KnownJob, clusters: Answers) -> dict[str, object]:
    """Return all facts, with the batch system's answer and the last messages of the step."""
    told = job.live
    if told is None and job.attempt.job_id:
        told = clusters.ended(job.attempt)
    status = msgspec.to_builtins(told) if told else None
    verdict = job.verdict
    return {
        **_facts(job), "history": _history(job.attempt), "batch_system": status,
        "verdict": verdict, "unsent": _unsent(job),
    }  # fmt: skip


def _corrected(attempt: Attempt) -> object:
    """Return the corrections that were made for an attempt whose directory is gone."""
    with contextlib.suppress(MessageError):  # of a row that another program wrote
        return _decoded(attempt.corrected)
    return None


def _decoded(text: str | None) -> object:
    """Return the value of a JSON text; None for no text."""
    value: object = None if text is None else decode(text.encode())
    return value


def _history(attempt: Attempt) -> list[dict[str, str]]:
    """Return the known events of an attempt, oldest first."""
    seen = f"{attempt.seen_state}: {attempt.seen_reason or 'no reason given'}"
    array = f", task {attempt.task} of array {attempt.array_token}" if attempt.task else ""
    events = [
        (attempt.created, "taken up"),
        (attempt.tried, f"handed over to cluster {attempt.cluster}{array}"),
        (attempt.pending, "began to wait in the batch system"),
        (attempt.missing, "not known to the batch system any more"),
        (attempt.seen, seen),
        (attempt.ended, "known to have ended"),
    ]
    return [{"time": _time(at), "what": what} for at, what in events if at]


def _unsent(job: KnownJob) -> int:
    """Return the number of messages that wait in the outbox of the wrapper."""
    return held(Path(job.attempt.job_directory, "outbox"))


def _family(attempts: list[Attempt]) -> list[dict[str, object]]:
    """Return what is shown of all attempts at the same message."""
    keys = ("token", "job_id", "state", "outcome", "cause", "cause_label")
    return [{key: getattr(each, key) for key in keys} for each in attempts]


def _time(at: float) -> str:
    """Return a time, in seconds since the epoch, as local time in the form of ISO 8601."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
    except (ValueError, OverflowError, OSError):  # of a row that another program wrote
        return "?"
