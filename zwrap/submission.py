"""Asks batch systems, and submits each attempt exactly once.

Intent in the ledger, then the submission, then its answer: accepted, rejected or unknown. After
an unknown answer, a crash or a redelivery the job is looked up by its token, not before the
batch system can no longer act on the earlier call, and only then submitted again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TypeVar

from zwrap import plugins
from zwrap.errors import ClusterFullError, RejectedError, UnknownNameError, UnknownOutcomeError
from zwrap.job import JobRequest
from zwrap.ledger import REJECTED, SUBMITTED, Attempt, Ledger
from zwrap.scheduler import Accepted, Busy, Command, Question, Rejected, Reply, Scheduler
from zwrap.state import state_directory

T = TypeVar("T")

FULL_S = 30.0
"""So long nothing is tried with a batch system that has as many jobs as may be."""


def load_scheduler(name: str) -> Scheduler:
    """The batch system of that name."""
    options = {"directory": str(state_directory() / "localbatch")}
    kind = plugins.find(plugins.SCHEDULERS, name)
    if kind is None:
        raise UnknownNameError("scheduler", name, plugins.names(plugins.SCHEDULERS))
    scheduler: Scheduler = kind(name, options)
    return scheduler


def ask(question: Question[T]) -> T:
    """Make the call of a question and read the reply; so on with the question it leads to."""
    answer = question.read(run(question.call))
    while isinstance(answer, Question):
        answer = answer.read(run(answer.call))
    return answer


def run(command: Command) -> Reply:
    """Run a program with a hard time limit; past it the whole process group is killed."""
    kept = {name: text for name, text in os.environ.items() if name not in command.unset}
    environment = {**kept, **command.environment}
    try:
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return Reply(status=None, error=f"{command.argv[0]} cannot be run: {error.strerror}")
    try:
        output, complaint = process.communicate(timeout=command.timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        limit = f"no answer from {command.argv[0]} within {command.timeout_s:g} s"
        return Reply(status=None, error=limit)
    return Reply(status=process.returncode, output=output, error=complaint)


def submit_once(
    ledger: Ledger, scheduler: Scheduler, request: JobRequest, script: Path, attempt: Attempt
) -> str:
    """Submit the job of an attempt unless it is there; its job id.

    RejectedError: the batch system will not have it. UnknownOutcomeError: it is not known yet
    whether the job is there; come again after `retry_after_s`.
    """
    question = scheduler.submit(request, script)  # refuses what cannot be expressed
    row, is_new = ledger.intend(attempt)
    if row.state == SUBMITTED and row.job_id:
        return row.job_id
    if not is_new:
        # A refused attempt comes again only when a person put its dead letter back: no job of it
        # exists, and the batch system may think otherwise now.
        if row.state != REJECTED and (job_id := _look_up(ledger, scheduler, row)):
            return job_id
        if not ledger.try_again(row):
            raise UnknownOutcomeError(
                f"Another submitter is about to submit {row.token}.",
                retry_after_s=scheduler.settle_s,
            )
    answer = ask(question)
    if isinstance(answer, Accepted):
        ledger.record(row.token, SUBMITTED, job_id=answer.job_id)
        return answer.job_id
    if isinstance(answer, Rejected):
        ledger.record(row.token, REJECTED, reason=answer.reason)
        raise RejectedError(f"Cluster {request.cluster!r} refused the job: {answer.reason}")
    if isinstance(answer, Busy):
        raise ClusterFullError(
            f"Cluster {request.cluster!r} takes no job now: {answer.reason}.",
            retry_after_s=FULL_S,
        )
    raise UnknownOutcomeError(
        f"Cluster {request.cluster!r} did not say whether it took the job: {answer.reason}. "
        "It will be looked up before it is submitted again.",
        retry_after_s=scheduler.settle_s,
    )


def _look_up(ledger: Ledger, scheduler: Scheduler, row: Attempt) -> str | None:
    """Job id of an attempt that may have been submitted, once that can be told."""
    left_s = row.tried + scheduler.settle_s - time.time()
    if left_s > 0:
        raise UnknownOutcomeError(
            f"An earlier submission of {row.token} may still be under way.",
            retry_after_s=left_s + 0.05,
        )
    found = ask(scheduler.find(f"{row.job_name}.{row.token}"))
    if not found:
        return None
    job_id = found[0].job_id
    ledger.record(row.token, SUBMITTED, job_id=job_id)
    return job_id
