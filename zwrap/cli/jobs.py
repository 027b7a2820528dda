"""`zwrap jobs` and `zwrap cancel`: what became of each submission, and an end to it by hand.

What is known comes from the ledger, from the batch systems (one question
for each cluster, whatever the number of jobs) and from the verdicts in the job directories.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from zwrap.cli.common import complain, say
from zwrap.clusters import Clusters
from zwrap.configuration import Configuration
from zwrap.errors import MessageError, UnknownNameError, ZwrapError
from zwrap.job import JobStatus
from zwrap.jobdirectory import Verdict
from zwrap.ledger import SUBMITTED, Attempt, Ledger, default_file
from zwrap.message import encode
from zwrap.submission.calls import ask

GONE, UNKNOWN = "gone", "not known"
"""The batch system has no such live job and nobody has spoken; it cannot be asked."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of the command that the parser is for."""
    add = parser.add_argument
    if parser.prog.endswith("cancel"):
        add("JOB", nargs="+", help="job id, or the beginning of a token")
        return
    add("JOB", nargs="?", help="job id, or the beginning of a token: this one in full")
    add("--recipe", metavar="ID", help="only jobs of this recipe")
    add("--cluster", metavar="NAME", help="only jobs of this cluster")
    add("--state", metavar="STATE", help="only jobs in this state, such as running or failure")
    add("-n", "--number", type=int, default=50, metavar="N", help="the last N, default %(default)s")
    add("--json", action="store_true", help="one JSON object a line")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry the command out."""
    attempts = _attempts(configuration)
    if options.command == "cancel":
        return _cancel(Clusters(configuration), attempts, options.JOB)
    clusters = _Answers(Clusters(configuration))
    if options.JOB:
        job = _job(_one(attempts, options.JOB), clusters)
        say(msgspec.json.format(encode(_in_full(job, clusters)), indent=2).decode())
        return 0
    chosen = [
        job for attempt in attempts for job in [_job(attempt, clusters)] if _wanted(job, options)
    ]
    _show(chosen[-options.number :], options.json)
    return 0


def _attempts(configuration: Configuration) -> list[Attempt]:
    """All attempts of the site; looking makes no ledger."""
    if not configuration.ledger and not default_file().exists():
        return []
    with contextlib.closing(Ledger.of(configuration)) as ledger:
        return ledger.all()


class Job(msgspec.Struct):
    """One attempt, and what can be known of it."""

    attempt: Attempt
    state: str
    cause: str
    live: JobStatus | None
    verdict: Verdict | None


class _Answers:
    """Live jobs of each cluster; each is asked once, when its jobs are wanted."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters
        self._live: dict[str, dict[str, JobStatus] | None] = {}

    def live(self, cluster: str) -> dict[str, JobStatus] | None:
        """Live jobs by id; None if the cluster cannot be asked."""
        if cluster not in self._live:
            try:
                self._live[cluster] = ask(self._clusters.get(cluster).scheduler.states())
            except ZwrapError as error:
                complain(str(error))
                self._live[cluster] = None
        return self._live[cluster]

    def ended(self, attempt: Attempt) -> JobStatus | None:
        """How a job ended, as its batch system recorded it."""
        with contextlib.suppress(ZwrapError):
            scheduler = self._clusters.get(attempt.cluster).scheduler
            found = ask(scheduler.accounting([str(attempt.job_id)]))
            return found.get(str(attempt.job_id))
        return None


def _job(attempt: Attempt, clusters: _Answers) -> Job:
    verdict = _verdict(attempt)
    if verdict is not None:
        return Job(attempt, verdict.outcome.value, verdict.cause, None, verdict)
    if attempt.state != SUBMITTED or attempt.job_id is None:
        return Job(attempt, attempt.state, attempt.reason or "", None, None)
    live = clusters.live(attempt.cluster)
    if live is None:
        return Job(attempt, UNKNOWN, "the cluster cannot be asked", None, None)
    status = live.get(attempt.job_id)
    if status is None:
        return Job(attempt, GONE, "it left no verdict", None, None)
    return Job(attempt, status.state.value, status.reason or "", status, None)


def _verdict(attempt: Attempt) -> Verdict | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        content = Path(attempt.job_directory, "verdict.json").read_bytes()
        return msgspec.json.decode(content, type=Verdict)
    return None


def _wanted(job: Job, options: argparse.Namespace) -> bool:
    pairs = [
        (options.recipe, job.attempt.recipe_id),
        (options.cluster, job.attempt.cluster),
        (options.state, job.state),
    ]
    return all(wanted in (None, found) for wanted, found in pairs)


def _show(jobs: list[Job], as_json: bool) -> None:
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


def _facts(job: Job) -> dict[str, Any]:
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
        "submitted": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(attempt.created)),
        "job_directory": attempt.job_directory,
    }


def _in_full(job: Job, clusters: _Answers) -> dict[str, Any]:
    """Everything, with what the batch system says and the last messages of the step."""
    told = job.live
    if told is None and job.attempt.job_id:
        told = clusters.ended(job.attempt)
    status = msgspec.to_builtins(told) if told else None
    verdict = msgspec.to_builtins(job.verdict) if job.verdict else None
    return {**_facts(job), "batch_system": status, "verdict": verdict}


def _one(attempts: list[Attempt], given: str) -> Attempt:
    """The attempt that a job id or the beginning of a token means."""
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


def _cancel(clusters: Clusters, attempts: list[Attempt], names: list[str]) -> int:
    """End jobs; all names are understood before the first is ended."""
    chosen = [_one(attempts, name) for name in names]
    for attempt in chosen:
        if attempt.job_id is None:
            raise MessageError(f"{attempt.token} is no job: it is {attempt.state}.")
    for cluster in {attempt.cluster for attempt in chosen}:
        job_ids = [str(each.job_id) for each in chosen if each.cluster == cluster]
        ask(clusters.get(cluster).scheduler.cancel(job_ids))
        say(f"Cluster {cluster} was asked to end {', '.join(job_ids)}.")
    return 0
