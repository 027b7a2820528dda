"""One attempt at a step: its row in the ledger, and the record of its submission."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import msgspec

from zwrap.configuration.clusters import Policy
from zwrap.errors import MessageError
from zwrap.job import JobStatus, Resources
from zwrap.message import ATTEMPT_HEADER, ID_HEADER, Message, attempt_of, decode, encode

INTENDED, SUBMITTED, REJECTED, WAITING = "intended", "submitted", "rejected", "waiting"
"""States of an attempt. A rejected attempt, and one that waits for other jobs to end, has no
job."""

GONE, LOST, STUCK, STALLED = "gone", "lost", "hopeless", "stalled"
"""States of a job besides those of batch systems: neither live nor recorded; the same for longer
than `lost_s`, so that no record is expected any more; pending for a reason that never passes;
running, without heartbeats of its wrapper."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger."""

    token: str
    recipe_id: str | None
    step: int | None
    cluster: str
    job_name: str
    job_directory: str
    job_id: str | None = None
    state: str = INTENDED
    reason: str | None = None
    created: float = 0.0
    """Time at which the intent was written, in seconds since the epoch."""
    tried: float = 0.0
    """Time just before the last submission to the batch system, in seconds since the epoch."""
    array_token: str | None = None
    """Token of the array in which its job was last submitted; None: a single job."""
    task: int | None = None
    """Number of the task in that array, from 1."""
    seen_state: str | None = None
    """State of the job when the Watcher last saw a change: a value of `zwrap.job.State`, or `GONE`,
    `LOST` or `STUCK`."""
    seen_reason: str | None = None
    seen: float | None = None
    """Time of that change, in seconds since the epoch."""
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    ended: float | None = None
    """Time at which the Watcher learned that the job will never run again, in seconds since the
    epoch."""
    stalled: float | None = None
    """Time of the last sign of its wrapper, which is silent although the job runs, in seconds since
    the epoch."""
    outcome: str | None = None
    """A value of `zwrap.job.Outcome`; None until all messages of the attempt were sent."""
    cause: str | None = None
    witness: str | None = None
    elapsed_s: float | None = None
    """Run time of the program, in seconds; None: its wrapper reported none."""
    peak_memory_mib: float | None = None

    @property
    def full_name(self) -> str:
        """Name of the job, or of its array, in the batch system."""
        return f"{self.job_name}.{self.array_token or self.token}"

    def gone_s(self, now: float) -> float:
        """Return the time since the job was first seen to be gone, in seconds; 0.0: never yet.

        Infinity for a job that the Watcher knows to have ended: no record of it is awaited. `now`:
        seconds since the epoch.
        """
        if self.ended is not None:
            return math.inf
        return now - self.seen if self.seen_state == GONE and self.seen else 0.0

    def of(self, statuses: Mapping[str, JobStatus]) -> JobStatus | None:
        """Return the status of the attempt's job; `statuses` has them by job id.

        None if there is none, or if that job has another name: a controller that lost its state
        gives numbers again.
        """
        status = statuses.get(str(self.job_id))
        return status if status is not None and status.name == self.full_name else None


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """State of a job when the Watcher saw a change."""

    state: str
    """A state of `zwrap.job.State`, or one of `GONE`, `LOST`, `STUCK`."""
    reason: str | None = None
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    ended: float | None = None
    """Time at which the Watcher learned that the job will never run again, in seconds since the
    epoch."""
    peak_memory_mib: float | None = None


class AskedResources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Resources of the job that a retry may raise, as keys of the `cluster` block."""

    memory_per_node: int | None = None
    """Memory per node, in MiB."""
    min_memory_per_cpu: int | None = None
    """Memory per processor, in MiB."""
    time_limit: int | None = None
    """Time limit, in seconds."""
    exclude: str | None = None
    """Nodes that the job must not use, separated by commas."""


class KeptSubmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a submission: an exported dead letter, resources and retry policy."""

    header: dict[str, object]
    message: object
    exported: dict[str, object] = {}
    asked: AskedResources = AskedResources()
    retry: Policy | None = None


def encode_submission(
    message: Message, queue: str, resources: Resources, policy: Policy | None
) -> bytes:
    """Return the JSON text of the record of a submission.

    `message` was received from `queue`, and became a job with these resources.
    """
    header = {**message.headers, ID_HEADER: message.id, ATTEMPT_HEADER: attempt_of(message.headers)}
    header["original-destination"] = f"/queue/{queue}"
    asked = AskedResources(
        resources.memory_mib, resources.memory_per_cpu_mib, resources.walltime_s, resources.exclude
    )
    return encode(KeptSubmission(header=header, message=message.body, asked=asked, retry=policy))


def parse_submission(content: bytes, where: str) -> KeptSubmission:
    """Return the submission in a JSON text; `where` names its place in errors.

    Raises:
        MessageError: The text does not hold a submission.
    """
    found = decode(content, where)
    try:
        return msgspec.convert(found, KeptSubmission)
    except msgspec.ValidationError as error:
        wrong = error
    with contextlib.suppress(msgspec.ValidationError):  # without the policy a failure is still told
        if isinstance(found, dict):
            return msgspec.convert({**found, "retry": None}, KeptSubmission)
    raise MessageError(f"{where} does not hold a submission: {wrong}.")
