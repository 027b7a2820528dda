"""One attempt at a step: the row that the ledger keeps, and what is kept of its submission."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.configuration.clusters import Policy
from zwrap.errors import MessageError
from zwrap.job import JobStatus, Resources
from zwrap.message import ATTEMPT_HEADER, ID_HEADER, JSON, Message, attempt_of, decode, encode

INTENDED, SUBMITTED, REJECTED, WAITING = "intended", "submitted", "rejected", "waiting"
"""States of an attempt. Of one that is rejected, or waits for others to end, there is no job."""


GONE, LOST, STUCK, STALLED = "gone", "lost", "hopeless", "stalled"
"""What a job may be besides the states of batch systems: neither live nor recorded; the same, for
so long that nothing will be heard of it any more; waiting for what will never come; running, but
nothing is heard of it."""


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
    """When the intent was written, seconds since the epoch."""
    tried: float = 0.0
    """When the batch system was last about to be asked to take it."""
    array_token: str | None = None
    """Token of the array that it was last submitted in; None: it was a job of its own."""
    task: int | None = None
    """Its number in that array, from 1 on."""
    seen_state: str | None = None
    """How the job stood when the Watcher last saw a change: a state, `gone` or `lost`."""
    seen_reason: str | None = None
    seen: float | None = None
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    ended: float | None = None
    """When the Watcher learned that the job will never run again."""
    stalled: float | None = None
    """Since when nothing is heard of its wrapper, although the job runs."""
    outcome: str | None = None
    """success or failure, once everything was sent; `unknown` where nobody could be told."""
    cause: str | None = None
    witness: str | None = None
    elapsed_s: float | None = None
    """Run time of the program, as far as its wrapper told."""
    peak_memory_mib: float | None = None

    @property
    def full_name(self) -> str:
        """Name under which the batch system knows what was submitted."""
        return f"{self.job_name}.{self.array_token or self.token}"

    def gone_s(self, now: float) -> float:
        """Return how long the job has been seen to be gone, in seconds; 0.0: it was not yet.

        Of a job that the Watcher knows to have ended, no record is waited for: infinity. `now`:
        seconds since the epoch.
        """
        if self.ended is not None:
            return math.inf
        return now - self.seen if self.seen_state == GONE and self.seen else 0.0

    def of(self, statuses: Mapping[str, JobStatus]) -> JobStatus | None:
        """The status of its job, among those by job id.

        A controller that lost its state gives numbers again: a job of another name is not ours.
        """
        status = statuses.get(str(self.job_id))
        return status if status is not None and status.name == self.full_name else None


class AskedResources(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the job was given of what a retry may raise, as keys of the `cluster` block."""

    memory_per_node: int | None = None
    min_memory_per_cpu: int | None = None
    time_limit: int | None = None
    exclude: str | None = None


class KeptSubmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a submission: an exported dead letter, and more."""

    header: dict[str, JSON]
    message: JSON
    exported: dict[str, JSON] = {}
    asked: AskedResources = AskedResources()
    retry: Policy | None = None


def encode_submission(
    message: Message, queue: str, resources: Resources, policy: Policy | None
) -> bytes:
    """What is kept of a submission, as JSON."""
    header = {**message.headers, ID_HEADER: message.id, ATTEMPT_HEADER: attempt_of(message.headers)}
    header["original-destination"] = f"/queue/{queue}"
    asked = AskedResources(
        resources.memory_mib, resources.memory_per_cpu_mib, resources.walltime_s, resources.exclude
    )
    return encode(KeptSubmission(header=header, message=message.body, asked=asked, retry=policy))


def read_submission(directory: JobDirectory) -> KeptSubmission:
    """What was kept; MessageError if it is not there."""
    file = directory.path / SUBMISSION
    try:
        return parse_submission(file.read_bytes(), str(file))
    except OSError as error:
        raise MessageError(f"{file} cannot be read: {error.strerror}.") from None


def parse_submission(content: bytes, where: str) -> KeptSubmission:
    """The submission in a JSON text; MessageError if it is none."""
    try:
        return msgspec.convert(decode(content, where), KeptSubmission)
    except msgspec.ValidationError as error:
        raise MessageError(f"{where} holds no submission: {error}.") from None
