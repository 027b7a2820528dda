"""`zwrap cancel`: end jobs by hand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.listing import Listing
from zwrap.attempt.record import CANCELLED, IN_DOUBT, INTENDED, REJECTED, WAITING, Attempt
from zwrap.calls.ask import ask
from zwrap.cli.common import complain, complain_of, say
from zwrap.cli.joblist import ledger_of
from zwrap.cli.selecting import (
    STATUSES,
    chosen_jobs,
    declare_action,
    declare_query,
    may_act,
    note_action,
    show_effects,
)
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, PermanentError, TemporaryError
from zwrap.monitor.actions import Situation
from zwrap.submission.clusters import Cluster, Clusters

TOUCHED = (Situation.WAITING, Situation.PENDING, Situation.RUNNING, Situation.MISSING)
"""Situations of selected jobs on which the command acts."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    declare_query(parser)
    declare_action(parser)
    parser.epilog = (
        "Examples: zwrap cancel 17 18; zwrap cancel --recipe d53fe2b2 --reason 'wrong sample'. "
        f"{STATUSES}"
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """End the jobs; all are found before the first one is ended."""
    with ledger_of(configuration) as ledger:
        chosen = chosen_jobs(ledger, configuration, options, TOUCHED)
        if options.dry_run:
            show_effects("cancel", chosen.jobs)
            return 0
        if not chosen.jobs or not may_act("cancel", chosen.jobs, options, named=chosen.named):
            return 0
        attempts = [job.attempt for job in chosen.jobs]
        return _end(ledger, configuration, attempts, options.reason)


def _end(
    ledger: Ledger, configuration: Configuration, chosen: Sequence[Attempt], reason: str
) -> int:
    """End jobs, and the wait of steps that have none yet; return the exit status.

    What is done on one cluster is noted before the next one is asked, and one that cannot be asked
    keeps no other from it. Raises what `Clusters.get` raises before anything is ended.
    """
    waiting = [each for each in chosen if each.state == WAITING]
    others = [each for each in chosen if each.state != WAITING]
    jobs = [each for each in others if each.job_id is not None]
    known = Clusters(configuration)
    clusters = [known.get(name) for name in sorted({each.cluster for each in jobs})]
    for attempt in others:
        if attempt.job_id is None:
            _leave(attempt, attempt.state)
    ended = _end_wait(ledger, waiting) if waiting else []
    note_action(ledger, ended, "cancelled", reason)
    status = 0 if ended or jobs else PERMANENT
    for cluster in clusters:
        try:
            there = _cancel(cluster, [each for each in jobs if each.cluster == cluster.name])
        except (PermanentError, TemporaryError) as error:
            complain_of(error)
            status = max(status, error.exit_status)
        else:
            note_action(ledger, there, "cancelled", reason)
    return status


def _leave(attempt: Attempt, state: str) -> None:
    """Say that an attempt without a job, which is in a state now, is left alone, and why."""
    if state in IN_DOUBT:
        why = "it is being submitted now; cancel it once it has a job"
    else:
        why = f"it has no job, and is {state}"
    complain(f"{attempt.token} is left alone: {why}.")


def _end_wait(ledger: Ledger, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Let the Submitter refuse steps that wait, instead of making them jobs; return these."""
    ours = {row.token for row in ledger.reserve(attempts)}
    refused = {"state": REJECTED, "reason": CANCELLED, "held": None}
    ledger.record(dict.fromkeys(ours, refused))
    for attempt in attempts:
        if attempt.token in ours:
            say(f"{attempt.token} waits no longer; the Submitter will make it a dead letter.")
        else:
            _leave(attempt, INTENDED)
    return [attempt for attempt in attempts if attempt.token in ours]


def _cancel(cluster: Cluster, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Ask a cluster to end those of the jobs that are live, and report on each; return these."""
    live = Listing(ask(cluster.scheduler.states()))
    there = [each for each in attempts if live.of(each)]
    job_ids = [str(each.job_id) for each in there]
    if job_ids:
        ask(cluster.scheduler.cancel(job_ids))
        say(f"Cluster {cluster.name} was asked to end {', '.join(job_ids)}.")
    for gone in [str(each.job_id) for each in attempts if not live.of(each)]:
        say(f"Job {gone} is not on cluster {cluster.name} any more.")
    return there
