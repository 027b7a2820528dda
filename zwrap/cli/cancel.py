"""`zwrap cancel`: end jobs by hand."""

from __future__ import annotations

import argparse

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.listing import Listing
from zwrap.attempt.record import CANCELLED, REJECTED, WAITING, Attempt
from zwrap.calls.ask import ask
from zwrap.cli.common import say
from zwrap.cli.joblist import ledger_of
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.monitor.finding import one_of
from zwrap.submission.clusters import Cluster, Clusters


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("JOB", nargs="+", help="job id, or the beginning of a token")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """End the jobs; all names are resolved before the first job is ended."""
    with ledger_of(configuration) as ledger:
        return _end(ledger, configuration, options.JOB)


def _end(ledger: Ledger, configuration: Configuration, names: list[str]) -> int:
    """End the jobs that are named."""
    chosen = [one_of(ledger, name) for name in names]
    waiting = [each for each in chosen if each.state == WAITING]
    chosen = [each for each in chosen if each.state != WAITING]
    for attempt in chosen:
        if attempt.job_id is None:
            raise MessageError(f"{attempt.token} is not a job: it is {attempt.state}.")
    if waiting:
        _end_wait(ledger, waiting)
    clusters = Clusters(configuration)
    for name in {attempt.cluster for attempt in chosen}:
        _cancel(clusters.get(name), [each for each in chosen if each.cluster == name])
    return 0


def _end_wait(ledger: Ledger, attempts: list[Attempt]) -> None:
    """Let the Submitter refuse steps that wait, instead of making them jobs."""
    ours = {row.token for row in ledger.reserve(attempts)}
    refused = {"state": REJECTED, "reason": CANCELLED, "held": None}
    ledger.record(dict.fromkeys(ours, refused))
    for attempt in attempts:
        if attempt.token in ours:
            say(f"{attempt.token} waits no longer; the Submitter will make it a dead letter.")
        else:
            say(f"{attempt.token} is being submitted now; cancel the job when it has one.")


def _cancel(cluster: Cluster, attempts: list[Attempt]) -> None:
    """Ask a cluster to end those of the jobs that are live, and report on each job."""
    live = Listing(ask(cluster.scheduler.states()))
    job_ids = [str(each.job_id) for each in attempts if live.of(each)]
    if job_ids:
        ask(cluster.scheduler.cancel(job_ids))
        say(f"Cluster {cluster.name} was asked to end {', '.join(job_ids)}.")
    for gone in [str(each.job_id) for each in attempts if not live.of(each)]:
        say(f"Job {gone} is not on cluster {cluster.name} any more.")
