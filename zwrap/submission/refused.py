"""Ledger rows of steps that are refused before they have a job, for steps that wait for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from zwrap.attempt.directory import job_directory
from zwrap.attempt.ledger.fitting import UnstorableError, check_storable
from zwrap.attempt.record import Attempt
from zwrap.errors import RequestError
from zwrap.message.content import Message
from zwrap.message.identity import child_id
from zwrap.recipe.envelope import Envelope
from zwrap.submission.clusters import Clusters
from zwrap.submission.dependency import run_of
from zwrap.submission.recognition import Recognized
from zwrap.submission.request import safe_job_name
from zwrap.submission.tasks import TRUTH, task_in, tasks_of, whole_of

NOWHERE = Path("/")
"""Working directory of a step whose own one cannot be used."""


def refused_attempt(
    envelope: Envelope, message: Message, whose: Recognized, clusters: Clusters
) -> Attempt:
    """Return the row of a step that has no job, as far as its parameters can be read."""
    given = envelope.step.get("parameters")
    parameters: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    cluster = parameters.get("cluster")
    block: Mapping[str, object] = cluster if isinstance(cluster, Mapping) else {}
    name, named = block.get("job_name"), block.get("scheduler")
    working = parameters.get("workingdir")
    row = Attempt(
        token=whose.token,
        recipe_id=envelope.recipe_id,
        step=envelope.pointer,
        cluster=named if isinstance(named, str) and named in clusters.names() else clusters.default,
        job_name=safe_job_name(name or envelope.task or "zwrap"),
        job_directory=str(job_directory(NOWHERE, whose.token)),
        digest=whose.digest,
        run=run_of(envelope),
        task_rank=_rank(envelope, message, block),
        task_of=_whole(message, block),
    )
    if not isinstance(working, str) or not working.startswith("/"):
        return row
    try:
        own = str(job_directory(Path(working), whose.token))
        return check_storable(replace(row, job_directory=own))
    except (UnstorableError, ValueError):
        return row


def _whole(message: Message, block: Mapping[str, object]) -> str | None:
    """Return what a task has in common with the others, or the tasks of a whole step; None: none.

    A step that is refused as a whole takes the place of none of its tasks, by which it is told from
    a step that is one job.
    """
    given = block.get("array")
    if task_in(message) is not None or given is None or str(given).strip().lower() in TRUTH:
        return whole_of(message)
    return child_id(message.id, "tasks")


def _rank(envelope: Envelope, message: Message, block: Mapping[str, object]) -> int | None:
    """Return the number of tasks that come before that of a message; None: it is for none."""
    number = task_in(message)
    if number is None:
        return None
    try:
        tasks = tasks_of(block.get("array"), "array", envelope.limits)
        return None if isinstance(tasks, bool) else tasks.task(number, "array").rank
    except RequestError:
        return None
