"""Values that describe a job: its request, its name, its state and its end."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zwrap.plugins.former import tell
from zwrap.units import LARGEST_MIB

Count = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_MIB)]
"""A whole number above 0; no batch system counts further."""

Amount = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_MIB)]
"""A whole number that may be 0."""

Niceness = Annotated[int, msgspec.Meta(ge=-2147483645, le=2147483645)]
"""What is taken from a job's priority (sbatch(1), ``--nice``)."""

Priority = Annotated[int, msgspec.Meta(ge=0, le=4294967294)]
"""Priority of a job (sbatch(1), ``--priority``)."""


class State(enum.Enum):
    """State of a job in its batch system."""

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
    UNKNOWN = "unknown"
    """The batch system gives it a state that is not known here; the job counts as a live one."""

    @property
    def is_final(self) -> bool:
        """True if the job will never run again."""
        return self not in (State.PENDING, State.RUNNING, State.SUSPENDED, State.UNKNOWN)


class Cause(enum.Enum):
    """Cause of death of a job, by its name in retry policies."""

    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    LOST = "lost"
    """Neither its wrapper nor its batch system knows how the job ended."""


class Interruption(msgspec.Struct, frozen=True, kw_only=True):
    """Interruption of a program from outside: who asked for it, and its cause.

    Without values: the program ended by itself.
    """

    by: str = ""
    """Name of the signal, or the part of zwrap that asked the program to end; empty: none did."""
    cause: Cause | None = None
    """Cause; None: a person cancelled the job, or the batch system could not be asked."""
    words: str = ""
    """The cause as a clause for people, such as "its node failed"."""
    runs_again: bool = False
    """True if the batch system will run the same job again, so that this is not its end."""


class BatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """The batch job around a process, as the process itself sees it."""

    system: str = "none"
    """Name of the batch system, such as ``slurm``; ``none``: there is no batch job."""
    job_id: str | None = None
    restarts: int = 0
    """Number of times that the batch system has restarted this job, as far as it tells."""
    fields: dict[str, str] = {}
    """Fields that status messages get."""
    node: str | None = None
    """Name of the node, in the form that the batch system accepts in a list of excluded nodes."""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Resources that a job asks for. None: the default of the batch system."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: Count | None = None
    tasks: Count | None = None
    cpus_per_task: Count | None = None
    ntasks_per_node: Count | None = None
    max_slots: Count | None = None
    """Largest number of slots (tasks times processors of each) that is of use, for a batch system
    that can choose; others give the least number."""
    memory_mib: Amount | None = None
    """Memory per node, in MiB; 0: all memory of a node."""
    memory_per_cpu_mib: Count | None = None
    """Memory per processor, in MiB."""
    gpus: Count | None = None
    gpus_per_node: Count | None = None
    walltime_s: Count | None = None
    """Time limit, in seconds."""
    exclusive: bool | Literal["user"] = False
    """True if no other job runs on the nodes; ``user``: none of another user."""
    constraints: str | None = None
    prefer: str | None = None
    exclude: str | None = None
    """Nodes on which the job must not run, separated by commas."""
    nodelist: str | None = None
    """Nodes of which the job gets all, separated by commas."""
    gres: str | None = None
    """Generic resources of each node, such as ``gpu:a100:2``, separated by commas."""
    licenses: str | None = None
    """Licences, such as ``matlab:2``, separated by commas."""
    reservation: str | None = None
    begin: str | None = None
    """Earliest start: ``+N``, in seconds after the submission; ``@N``, in seconds since the epoch;
    or a local time of the batch system, ``YYYY-MM-DDTHH:MM:SS``."""
    nice: Niceness | None = None
    priority: Priority | None = None
    requeue: bool | None = None
    """True if the batch system may run the job again, False if it must not."""
    signal: str | None = None
    """Signal that warns the job, and the time before its end, in seconds: ``USR1@300``."""
    mail: str | None = None
    """Mail addresses, separated by commas."""
    mail_on: str | None = None
    """Events of which a mail tells, separated by commas: begin, end, fail, requeue, time_limit."""
    comment: str | None = None
    options: dict[str, str] = {}
    """Further options of the batch system by name, without dashes; empty: without a value."""


class ArrayTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a step that has several; each is a job of its own."""

    number: int
    """Number of the task, as the step gives it."""
    count: int
    """Number of tasks of the step."""
    first: int
    last: int
    rank: int
    """Number of tasks of the step that come before."""
    throttle: int | None = None
    """Largest number of tasks that are submitted and have not ended; None: any."""


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
    """True if the job may be submitted as a task of an array."""
    values: dict[str, object] = {}
    """Values of the step for the site's own job script template."""
    task: ArrayTask | None = None
    """Task of the step for which the job is; None: the step is one job."""
    after: dict[int, int] = {}
    """Step that must have succeeded before, to the number of its jobs."""
    below: tuple[str, ...] = ()
    """Directories out of which no link may lead when the batch system opens the paths of the job,
    for one that can see to that; empty: anywhere."""

    @property
    def full_name(self) -> str:
        """Name of the job in the batch system, which ends in the token."""
        return f"{self.job_name}.{self.token}"


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of one job, as its batch system reports it."""

    job_id: str
    name: str
    state: State
    exit_code: int | None = None
    signal: int | None = None
    node: str | None = None
    reason: str | None = None
    stuck: bool = False
    """True if the job waits for something that will never come, as `reason` says, or runs on a host
    that does not answer."""
    starts: float | None = None
    """Expected start, in seconds since the epoch."""
    hopeless: bool | None = None
    """Former name of `stuck`; None: not set."""

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


class ArrayForm(msgspec.Struct, frozen=True):
    """The way in which a batch system names the tasks of an array, which count from 1."""

    mark: str
    """Text between the id of the array and the number of the task in a job id."""
    variable: str
    """Environment variable that holds the number of a task."""
    prefix: str = ""
    """Beginning of a directive line, such as ``#SBATCH``; empty: jobs are not joined to arrays."""
    anywhere: bool = False
    """True if directives are also valid after the first command of a script."""
    end: str = ""
    """Text after the number: where it is ``]``, and `mark` is ``[``, the third task of array
    ``12[].server`` is ``12[3].server``."""

    def job_id(self, array: str, task: int) -> str:
        """Return the job id of a task."""
        head, _, rest = array.partition(self.mark + self.end) if self.end else (array, "", "")
        return f"{head}{self.mark}{task}{self.end}{rest}"

    def array_of(self, job_id: str) -> str:
        """Return the id of the array of a task; a job id of a single job is returned unchanged."""
        head, mark, task = job_id.partition(self.mark)
        if not (mark and self.end):
            return head
        return f"{head}{mark}{self.end}{task.partition(self.end)[2]}"


class Outcome(enum.Enum):
    """End of an attempt."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRIED = "retried"
    """The attempt failed, and another attempt follows."""
    UNKNOWN = "unknown"
    """Neither wrapper nor batch system knows how the attempt ended."""
