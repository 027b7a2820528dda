"""One attempt at a step: its row in the ledger, and the record of its submission."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import msgspec

from zwrap.configuration.clusters import Policy
from zwrap.errors import MessageError
from zwrap.job import JobStatus, Resources
from zwrap.message.content import (
    ATTEMPT_HEADER,
    CONTINUED_HEADER,
    FOLLOWS_HEADER,
    ID_HEADER,
    ORIGIN_HEADER,
    RETRIES_HEADER,
    SIGNATURE_HEADER,
    Message,
)
from zwrap.message.identity import attempt_of, digest_of, origin_of_content, stated_origin
from zwrap.message.jsontext import decode, encode, typed

INTENDED, SUBMITTED, REJECTED, WAITING = "intended", "submitted", "rejected", "waiting"
"""States of an attempt. A rejected attempt, and one that its batch system does not take now, has no
job."""

UNANSWERED, NOT_FOUND = "unanswered", "not_found"
"""States of an intended attempt: its call is over, and it is not known whether the job was taken;
no such job was found, and it is looked for once more before it is submitted again."""

GONE, LOST, STALLED = "gone", "lost", "stalled"
"""States of a job besides those of batch systems: neither live nor recorded; the same for longer
than `lost_s`, so that no record is expected any more; running, without heartbeats of its
wrapper."""

IN_DOUBT = (INTENDED, UNANSWERED, NOT_FOUND)
"""States of an attempt of which it is not known whether it has a job."""

STUCK, NOT_STARTED = "hopeless", "not_started"
"""States of a job that is given up before its start: it waits for what never comes; it has been
pending for longer than `pending_s`."""

CANCELLED = "cancelled by hand while it waited"
"""Reason of a rejected attempt whose message is not given up yet."""

GIVEN_UP = "its message became a dead letter before it was known whether it has a job"
"""Reason of an attempt in doubt that nobody looks up any more."""

NOWHERE = "the batch system has neither a live job nor a record of it"
"""Reason of the states `GONE` and `LOST`."""


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
    held: float | None = None
    """Time since which its batch system does not take it, in seconds since the epoch; None: it was
    not asked yet, or has answered."""
    array_token: str | None = None
    """Token of the array in which its job was last submitted; None: a single job."""
    task: int | None = None
    """Number of the task in that array, from 1."""
    seen_state: str | None = None
    """State of the job when the Watcher last saw a change: a value of `zwrap.job.State`, or `GONE`,
    `LOST`, `STUCK` or `NOT_STARTED`."""
    seen_reason: str | None = None
    seen: float | None = None
    """Time of that change, in seconds since the epoch."""
    pending: float | None = None
    """Time since which the job is pending, in seconds since the epoch; None: it is not. A job that
    is requeued begins anew."""
    missing: float | None = None
    """Time since which the batch system has neither a live job nor a record of it, in seconds since
    the epoch; None: it has one, or was not asked yet."""
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
    digest: str | None = None
    """Digest of the content of its message (`zwrap.message.identity.digest_of`); None: an earlier
    release has written the row."""
    asked: str | None = None
    """What its job asked for besides memory and time (`kind_of`); None: an earlier release has
    written the row."""
    run: str | None = None
    """Digest by which the steps of one run of a recipe know each other; None: the step is in no
    run, or an earlier release has written the row."""
    task_rank: int | None = None
    """Number of tasks of its step that come before; None: the step is one job, or an earlier
    release has written the row."""
    task_of: str | None = None
    """What the tasks that one message named have in common; None: as `task_rank`."""
    cause_label: str | None = None
    """Label of the known error that explains a failure; None: none does, or an earlier release has
    written the row."""
    corrected: str | None = None
    """Corrections that were made for the attempt, as JSON text; None: there were none, or an
    earlier release has written the row."""

    @property
    def number(self) -> int:
        """Number of the attempt at its step, from 1."""
        last = self.token.rpartition("-")[2]
        return int(last) if last.isdecimal() else 1

    @property
    def family(self) -> str:
        """What the tokens of all attempts at the job of a message have in common."""
        return self.token.rpartition("-")[0]

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
        return now - self.missing_since if self.missing_since else 0.0

    @property
    def missing_since(self) -> float | None:
        """Time since which the job has been missing, in seconds since the epoch.

        None: it was not missing when the Watcher looked last. Earlier releases kept it only as the
        time since which the job is gone.
        """
        return self.missing or (self.seen if self.seen_state == GONE else None)

    def of(self, statuses: Mapping[str, JobStatus]) -> JobStatus | None:
        """Return the status of the attempt's job; `statuses` has them by job id.

        None if there is none, or if that job has another name: a controller that lost its state
        gives numbers again.
        """
        status = statuses.get(str(self.job_id))
        return status if status is not None and status.name == self.full_name else None


BESIDES = frozenset({
    "memory_mib", "memory_per_cpu_mib", "walltime_s",  # what is proposed for the next job
    "exclude",  # a node failed
    "account", "begin", "comment", "mail", "mail_on", "nice", "priority", "requeue", "signal",
})  # fmt: skip
"""Resources that do not tell jobs of one name apart whose needs differ."""


def kind_of(resources: Resources) -> str:
    """Return what a job asks for, of that by which the needs of jobs of one name may differ."""
    given = msgspec.to_builtins(resources)
    kept = {key: value for key, value in given.items() if key not in BESIDES}
    options = kept.pop("options", {})
    kept |= {f"options.{name}": value or True for name, value in options.items()}
    return " ".join(f"{key}={value}" for key, value in sorted(kept.items()))


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """State of a job when the Watcher saw a change."""

    state: str
    """A state of `zwrap.job.State`, or one of `GONE` and `LOST`."""
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
    """Memory per node, in MiB; 0: all memory of a node, more than which there is none."""
    min_memory_per_cpu: int | None = None
    """Memory per processor, in MiB."""
    time_limit: int | None = None
    """Time limit, in seconds."""
    exclude: str | None = None
    """Nodes that the job must not use, separated by commas."""
    nodelist: str | None = None
    """Nodes on which the job has to run, separated by commas."""


class KeptSubmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a submission: an exported dead letter, resources and retry policy."""

    header: dict[str, object]
    message: object
    exported: dict[str, object] = {}
    asked: AskedResources = AskedResources()
    retry: Policy | None = None
    cluster: str | None = None
    """Name of the job's cluster; None: an earlier release has kept it."""


def encode_submission(
    message: Message,
    queue: str,
    resources: Resources,
    policy: Policy | None,
    origin: str | None = None,
    follows: str | None = None,
    cluster: str | None = None,
) -> bytes:
    """Return the JSON text of the record of a submission.

    Args:
        message: The message that became a job.
        queue: The queue from which it came.
        resources: The resources of the job.
        policy: The policy of retries; None: there is none.
        origin: Origin of the message, which another attempt states; None: it is not proven.
        follows: Proof that the next attempt brings along; None: it brings none.
        cluster: Name of the job's cluster, to which another attempt goes, too.
    """
    number = attempt_of(message.headers)
    if origin is None:
        stated = stated_origin(message.headers) if number > 1 else None
        origin = stated or origin_of_content(digest_of(message.body))
    header = {**message.headers, ID_HEADER: message.id, ATTEMPT_HEADER: number}
    header |= {ORIGIN_HEADER: origin, "original-destination": f"/queue/{queue}"}
    header.pop(SIGNATURE_HEADER, None)  # which is that of this content, and no other's
    header.pop(FOLLOWS_HEADER, None)
    if follows is not None:
        header[FOLLOWS_HEADER] = follows
    if number <= 1:  # whoever sends a first attempt has no say in how often it is tried
        for counter in (RETRIES_HEADER, CONTINUED_HEADER):
            header.pop(counter, None)
    asked = AskedResources(
        resources.memory_mib, resources.memory_per_cpu_mib, resources.walltime_s,
        resources.exclude, resources.nodelist,
    )  # fmt: skip
    kept = KeptSubmission(header, message.body, asked=asked, retry=policy, cluster=cluster)
    return encode(kept)


def parse_submission(content: bytes, where: str) -> KeptSubmission:
    """Return the submission in a JSON text; `where` names its place in errors.

    Raises:
        MessageError: The text does not hold a submission.
    """
    found = decode(content, where, bounded=True)
    try:
        return typed(found, KeptSubmission)
    except msgspec.ValidationError as error:
        wrong = error
    with contextlib.suppress(msgspec.ValidationError):  # without the policy a failure is still told
        if isinstance(found, dict):
            return typed({**found, "retry": None}, KeptSubmission)
    raise MessageError(f"{where} does not hold a submission: {wrong}.")
