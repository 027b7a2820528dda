"""Values of a job: the request, its name, its state, and how it ended."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import msgspec

from zwrap.renamed import tell

Count = Annotated[int, msgspec.Meta(ge=1)]
"""A whole number above 0."""


class State(enum.Enum):
    """State of a job with its batch system."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    PREEMPTED = "preempted"

    @property
    def is_final(self) -> bool:
        """True if the job will never run again."""
        return self not in (State.PENDING, State.RUNNING, State.SUSPENDED)


class Cause(enum.Enum):
    """Reason why a job ended that could have gone on, by the names of retry policies."""

    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    LOST = "lost"
    """Neither its wrapper nor its batch system can say."""


class Interruption(msgspec.Struct, frozen=True, kw_only=True):
    """The end that a program was put to from outside."""

    by: str = ""
    """Name of the signal, or what of zwrap asked the program to end; empty: nothing did."""
    cause: Cause | None = None
    """None: a person cancelled the job, or nobody could be asked."""
    words: str = ""
    """The cause as a clause for people, such as "its node failed"."""
    runs_again: bool = False
    """True if the batch system runs the same job again, so that this is not its end."""


class BatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """The batch job around a process, as the process itself sees it."""

    system: str = "none"
    """Name of the batch system, such as ``slurm``; ``none``: there is no batch job."""
    job_id: str | None = None
    restarts: int = 0
    """Number of times that the batch system began this job again, as far as it says."""
    fields: dict[str, str] = {}
    """Fields for status messages."""
    node: str | None = None
    """Name of the node, as the batch system takes it in a list of nodes to leave out."""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Resources that a job asks of its batch system. None: whatever the system gives."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: Count | None = None
    tasks: Count | None = None
    cpus_per_task: Count | None = None
    memory_mib: Count | None = None
    """Memory per node, in MiB."""
    memory_per_cpu_mib: Count | None = None
    """Memory per processor, in MiB."""
    gpus: Count | None = None
    gpus_per_node: Count | None = None
    walltime_s: Count | None = None
    """Time limit, in seconds."""
    exclusive: bool = False
    constraints: str | None = None
    prefer: str | None = None
    exclude: str | None = None
    """Nodes that it must not run on, separated by commas."""


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One job, independent of any batch system."""

    cluster: str
    job_name: str
    token: str
    working_directory: Path
    job_directory: Path
    """Directory of claim, verdict, outbox, script and output of this attempt."""
    commands: str
    """Shell text, run in the working directory."""
    environment: dict[str, str] = {}
    resources: Resources = Resources()
    standard_output: Path
    standard_error: Path
    array: bool = True
    """True if it may be a task of an array."""

    @property
    def full_name(self) -> str:
        """Name under which the batch system knows the job; it ends in the token."""
        return f"{self.job_name}.{self.token}"


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of one job as its batch system tells it."""

    job_id: str
    name: str
    state: State
    exit_code: int | None = None
    signal: int | None = None
    node: str | None = None
    reason: str | None = None
    stuck: bool = False
    """True if it waits for something that will never come, as `reason` says."""
    starts: float | None = None
    """Expected start, in seconds since the epoch."""
    hopeless: bool | None = None
    """Former name of `stuck`; None: a plug-in that does not use it."""

    def __post_init__(self) -> None:
        if self.hopeless is not None:
            tell("zwrap.job.JobStatus", "hopeless", "stuck")
            msgspec.structs.force_setattr(self, "stuck", self.hopeless)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a batch system. None: no limit is known."""

    array_size: int | None = None
    """Largest number of tasks of an array."""
    submitted_jobs: int | None = None
    """Largest number of jobs of this user that wait or run."""


class Outcome(enum.Enum):
    """How an attempt ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRIED = "retried"
    """It failed, and another attempt follows."""
    UNKNOWN = "unknown"
    """Nobody could be told how it ended."""
