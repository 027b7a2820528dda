"""`zwrap jobs` and `zwrap cancel`: what became of each submission, and an end to it by hand."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from zwrap.attempt.record import Attempt
from zwrap.calls.ask import ask
from zwrap.cli.advice import advise
from zwrap.cli.common import say
from zwrap.cli.joblist import Answers, KnownJob, attempts_of, job_of, kept_of, one_of
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.message import encode
from zwrap.submission.clusters import Clusters


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of the command that the parser is for."""
    add = parser.add_argument
    if parser.prog.endswith("cancel"):
        add("JOB", nargs="+", help="job id, or the beginning of a token")
        return
    add(
        "JOB", nargs="?",
        help="job id, or the beginning of a token: this one in full; `advise`: what jobs of each "
        "name needed, and what the next should ask for",
    )  # fmt: skip
    add("--recipe", metavar="ID", help="only jobs of this recipe")
    add("--cluster", metavar="NAME", help="only jobs of this cluster")
    add("--state", metavar="STATE", help="only jobs in this state, such as running or failure")
    add("-n", "--number", type=int, default=50, metavar="N", help="the last N, default %(default)s")
    add("--json", action="store_true", help="one JSON object a line")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry the command out."""
    attempts = attempts_of(configuration)
    if options.command == "cancel":
        return _cancel(Clusters(configuration), attempts, options.JOB)
    if options.JOB == "advise":
        _show_advice(attempts, options)
        return 0
    clusters = Answers(Clusters(configuration))
    if options.JOB:
        job = job_of(one_of(attempts, options.JOB), clusters)
        full = {**_in_full(job, clusters), "attempts": _family(job, attempts)}
        if kept := kept_of(job.attempt, configuration):
            full |= {"verdict": msgspec.to_builtins(kept.verdict), "late": _decoded(kept.late)}
        say(msgspec.json.format(encode(full), indent=2).decode())
        return 0
    chosen = [
        job for attempt in attempts for job in [job_of(attempt, clusters)] if _wanted(job, options)
    ]
    _show(chosen[-options.number :], options.json)
    return 0


def _wanted(job: KnownJob, options: argparse.Namespace) -> bool:
    pairs = [
        (options.recipe, job.attempt.recipe_id),
        (options.cluster, job.attempt.cluster),
        (options.state, job.state),
    ]
    return all(wanted in (None, found) for wanted, found in pairs)


def _show(jobs: list[KnownJob], as_json: bool) -> None:
    if as_json:
        for job in jobs:
            say(encode(_facts(job)).decode())
        return
    if not jobs:
        say("No jobs.")
        return
    table = Table("job", "name", "recipe", "node", "cluster", "state", "submitted", "cause")
    for job in jobs:
        facts = _facts(job)
        table.add_row(
            *(str(facts[key] or "") for key in ("job_id", "job_name", "recipe_id", "step")),
            *(str(facts[key]) for key in ("cluster", "state", "submitted")),
            job.cause.splitlines()[0][:80] if job.cause else "",
        )
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=200)).print(table)


def _show_advice(attempts: list[Attempt], options: argparse.Namespace) -> None:
    wanted = [each for each in attempts if options.cluster in (None, each.cluster)]
    found = advise(wanted)
    if options.json:
        for each in found:
            say(encode(each._asdict()).decode())
        return
    if not found:
        say("No job has ended yet, as far as a Watcher saw.")
        return
    table = Table(
        "name", "cluster", "succeeded", "other", "median s", "longest s", "peak MiB",
        "time_limit", "memory_per_node",
    )  # fmt: skip
    for each in found:
        table.add_row(*("" if value is None else str(value) for value in each))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=200)).print(table)


def _facts(job: KnownJob) -> dict[str, Any]:
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
        "witness": job.verdict.witness if job.verdict else attempt.witness,
        "outcome": attempt.outcome,
        "submitted": _time(attempt.created),
        "job_directory": attempt.job_directory,
    }


def _in_full(job: KnownJob, clusters: Answers) -> dict[str, Any]:
    """Everything, with what the batch system says and the last messages of the step."""
    told = job.live
    if told is None and job.attempt.job_id:
        told = clusters.ended(job.attempt)
    status = msgspec.to_builtins(told) if told else None
    verdict = msgspec.to_builtins(job.verdict) if job.verdict else None
    return {
        **_facts(job), "history": _history(job.attempt), "batch_system": status,
        "verdict": verdict, "unsent": _unsent(job),
    }  # fmt: skip


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _history(attempt: Attempt) -> list[dict[str, str]]:
    """What is known of its course, oldest first."""
    seen = f"{attempt.seen_state}: {attempt.seen_reason or 'no reason given'}"
    array = f", task {attempt.task} of array {attempt.array_token}" if attempt.task else ""
    events = [
        (attempt.created, "taken up"),
        (attempt.tried, f"handed over to cluster {attempt.cluster}{array}"),
        (attempt.seen, seen),
        (attempt.ended, "known to have ended"),
    ]
    return [{"time": _time(at), "what": what} for at, what in events if at]


def _unsent(job: KnownJob) -> int:
    """Number of messages that the wrapper has still to send, or left."""
    outbox = Path(job.attempt.job_directory, "outbox")
    held = [*outbox.glob("incoming/[!.]*"), *outbox.glob("pending/*/[!.]*")]
    return len(held)


def _family(job: KnownJob, attempts: list[Attempt]) -> list[dict[str, Any]]:
    """All attempts of the same message."""
    message = job.attempt.token.rpartition("-")[0]
    keys = ("token", "job_id", "state", "outcome", "cause")
    alike = [each for each in attempts if each.token.rpartition("-")[0] == message]
    return [{key: getattr(each, key) for key in keys} for each in alike]


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))


def _cancel(clusters: Clusters, attempts: list[Attempt], names: list[str]) -> int:
    """End jobs; all names are understood before the first is ended."""
    chosen = [one_of(attempts, name) for name in names]
    for attempt in chosen:
        if attempt.job_id is None:
            raise MessageError(f"{attempt.token} is no job: it is {attempt.state}.")
    for cluster in {attempt.cluster for attempt in chosen}:
        scheduler = clusters.get(cluster).scheduler
        theirs = [each for each in chosen if each.cluster == cluster]
        live = ask(scheduler.states())
        job_ids = [str(each.job_id) for each in theirs if each.of(live)]
        if job_ids:
            ask(scheduler.cancel(job_ids))
            say(f"Cluster {cluster} was asked to end {', '.join(job_ids)}.")
        for gone in [str(each.job_id) for each in theirs if not each.of(live)]:
            say(f"Job {gone} is not on cluster {cluster} any more.")
    return 0
