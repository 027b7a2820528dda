"""Station "scheduler": the contract of batch systems, seen from outside and from inside a job.

A scheduler runs nothing, never sleeps, and keeps nothing that changes an answer. Its methods return
a `Question`: the call to make and the function that reads the reply; `zwrap.calls` makes the calls.
Answers are yes, no, or "could not ask" (`UnreachableError`); no failed reply is ever "finished".
"""

from __future__ import annotations

import enum
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Generic, Protocol, TypeVar

import msgspec

from zwrap.job import (
    ArrayForm as ArrayForm,
    BatchJob,
    Cause,
    Interruption,
    JobRequest,
    JobStatus,
    Limits,
)
from zwrap.plugins.former import Former, adopt, adopt_parameter, tell

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster in the site file that every batch system has; each may add others."""

    environment: dict[str, str] = {}
    """Variables for the batch system's programs: SLURM_CONF, SGE_ROOT and the like."""
    programs: str | None = None
    """Directory of the batch system's programs; None: they are found on PATH."""
    settle_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Time within which the batch system may still create the job of an unknown submission, in
    seconds; None: `Scheduler.settle_s` of the batch system."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Hard time limit of each call, in seconds."""

    def surroundings(self) -> dict[str, str]:
        """Return the environment variables of the batch system's programs."""
        path = f"{self.programs}:{os.environ.get('PATH', os.defpath)}"
        return {**self.environment, "PATH": path} if self.programs else self.environment


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run, without a shell and without input.

    Nothing is passed on standard input: if a submitting process were killed while it wrote there,
    the batch system would get a job with the first half of its script.
    """

    argv: list[str]
    """Program, an absolute path or a name that is found on PATH, and its arguments."""
    timeout_s: float = 30.0
    """Hard time limit, in seconds."""
    environment: dict[str, str] = {}
    """Variables that are set, or replaced, in the environment of this process."""
    unset: tuple[str, ...] = ()
    """Variables of this process that the program must not see."""
    only: bool = False
    """True if the program sees `environment` and no variable of this process."""
    path: str | None = None
    """PATH on which the program is found; None: the one that the program sees."""


class DrmaaCall(msgspec.Struct, frozen=True, kw_only=True):
    """A job for DRMAA (OGF GFD.133), loaded in a helper process; the reply holds the job id."""

    script: str
    """Path of the job script."""
    name: str
    """Full name of the job."""
    working_directory: str
    standard_output: str
    standard_error: str
    native: str
    """Native specification: options of the batch system."""
    tasks: int | None = None
    """Number of tasks of an array, whose id is in the reply; None: a single job."""
    environment: dict[str, str] = {}
    """Variables of the helper process, which the batch system may hand on to the job."""
    only: bool = False
    """True if the session sees `environment`, without DRMAA_LIBRARY_PATH, and nothing else."""
    timeout_s: float = 30.0
    """Hard time limit, in seconds."""
    libraries: tuple[str, ...] = ()
    """Paths of the library, with ``$NAME`` for variables; DRMAA_LIBRARY_PATH goes before them."""


class DrmaaSubmission(DrmaaCall, frozen=True, kw_only=True):
    """Former name of `DrmaaCall`; without DRMAA_LIBRARY_PATH it needs `libraries` now."""

    def __post_init__(self) -> None:
        tell("zwrap.scheduler", "DrmaaSubmission", "DrmaaCall(..., libraries=...)")


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a server; the reply's status is that of HTTP (RFC 9110)."""

    url: str
    """``http://...``, ``https://...``, or ``unix:/path/of/socket:/path/of/request``."""
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    """JSON text; None: no content."""
    timeout_s: float = 30.0
    """Hard time limit of the whole exchange, in seconds."""


Call = Command | DrmaaCall | HttpRequest


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Reply to a call."""

    status: int | None
    """Exit status, HTTP status or DRMAA error; None: no answer within the time limit, or the call
    could not be made."""
    output: str = ""
    """Standard output, content of the HTTP response, or job id."""
    error: str = ""
    """Standard error, or the reason why there is no status."""
    unsent: bool = False
    """True if the call certainly did not reach the batch system."""


class Question(msgspec.Struct, Generic[T], frozen=True):
    """A call and the function that reads its reply, which may lead to another question."""

    call: Call
    read: Callable[[Reply], T | Question[T]]


class Accepted(msgspec.Struct, frozen=True):
    """The batch system accepted the job."""

    job_id: str


class Rejected(msgspec.Struct, frozen=True):
    """The batch system refused the job and will refuse it again."""

    reason: str


class Unknown(msgspec.Struct, frozen=True):
    """The job may or may not exist; it must be looked up by its name before anything else."""

    reason: str


class Busy(msgspec.Struct, frozen=True):
    """The batch system does not accept the job now, and may accept it later."""

    reason: str
    wait_s: float | None = None
    """Longest time for which that is waited for, in seconds; None: as long as the site wants."""


Submission = Accepted | Rejected | Unknown | Busy


class Scheduler(ABC):
    """The outside half of a batch system: how a submitting host sees it.

    A subclass is found by name in the entry point group ``zwrap.schedulers``. It defines five
    methods and may override the others. Its objects run nothing, wait for nothing and remember
    nothing between questions: two of them with the same options give the same answers.
    `zwrap.testing` holds the contract in executable form.

    Functions that read replies raise UnreachableError whenever a reply is not an answer: after the
    time limit, for an exit status that means a failure, for missing or truncated output. If such a
    reply were read as "no jobs", running jobs would be taken for ended. What is not understood of
    one job is `State.UNKNOWN` of that job, and hides no other.
    """

    options_type: ClassVar[type[Options]] = Options
    """Type of the keys with which a site file describes such a cluster."""
    template: ClassVar[str]
    """File name of the job script template."""
    template_directory: ClassVar[Path | None] = None
    """Directory of templates that come with the batch system; a template of the site of the same
    name goes before them, and they before those of zwrap."""
    arrays: ClassVar[ArrayForm | None] = None
    """Form of the names of tasks; None: the batch system has no arrays."""
    concurrency: ClassVar[int] = 4
    """Number of submissions that may be made at the same time."""
    at_once = Former("concurrency")
    settle_s: float = 60.0
    """Time within which the batch system may still create the job of an unknown submission, in
    seconds. A job that `find` does not find after that time is submitted again."""
    inside: ClassVar[str] = ""
    """Name of the inside half (`Inside`) for the job script; empty: that of the outside half."""
    error_patterns: ClassVar[Mapping[str, Cause]] = {}
    """Regular expression for a line of a killed job's error output, to the cause it proves."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adopt(cls, {"at_once": "concurrency"})
        adopt_parameter(cls, "accounting", "job_ids", "gone_s")

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        """Name of the cluster in the site file, for messages to people."""
        self.options = options
        """Options of the cluster, an `options_type`; templates see them, too."""
        if options.settle_s is not None:
            self.settle_s = options.settle_s

    @abstractmethod
    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Ask the batch system to accept a job.

        The answer is `Accepted` only if the reply holds a job id. It is `Rejected` only if the
        batch system tells what is wrong with the job itself, `Busy` if it certainly has not taken
        the job, and `Unknown` otherwise, also for a reply that is empty, late or not understood.

        Args:
            request: The job.
            script: Path of the job script, which is complete and executable.
            tasks: Number of tasks, counted from 1, of an array under one name; None: a single job.

        Raises:
            RequestError: The job cannot be expressed, and nothing is asked: the batch system lacks
                a resource, would change a path, or has no arrays.
        """

    @abstractmethod
    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for all live jobs of this user: pending, running and suspended ones, by job id.

        A job, or a task of an array, that is not in the answer is gone; each waiting task is in the
        answer. `JobStatus.stuck` marks jobs that wait for something that will never come, and jobs
        that run on a host which does not answer. The reader raises UnreachableError.
        """

    @abstractmethod
    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask for all jobs of a full name, live or ended, that the batch system remembers.

        `name`: that of a job (`JobRequest.full_name`), or of an array, whose live tasks are in the
        answer. After an answer without jobs the job is submitted again. So the accounting is asked,
        too, and the record of a refused job does not count. The reader raises UnreachableError.
        """

    @abstractmethod
    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended that are not live any more, by job id.

        The answer holds jobs that will never run again (`State.is_final`) and are recorded. A job
        that is not in the answer may be recorded later. The reader raises UnreachableError.

        Args:
            gone_s: Job id to the time since the job was first seen to be gone, in seconds; 0.0:
                just now. With it a batch system can tell "recorded later" from "never recorded",
                without any state of its own.
        """

    @abstractmethod
    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask the batch system to end jobs, at least one.

        Jobs that have ended, are not known, or are of another user, are left alone, without error.
        Others may still live after the answer. UnreachableError: the request may not have arrived.
        """

    def limits(self) -> Question[Limits] | Limits:
        """Ask for the limits of the batch system, or return known ones; this default has none."""
        return Limits()

    def verify(self, request: JobRequest, script: Path) -> Question[str] | None:
        """Ask whether the batch system would accept a job; None: it cannot be asked.

        The answer is a clause for people. Raises RequestError as `submit` does. The reader raises
        RejectedError, with the reasons, for a job that would be refused, and UnreachableError.
        """
        self.submit(request, script)
        return None


class Meaning(enum.Enum):
    """Meaning of a signal to a job: what its sender wants."""

    STOP = "stop"
    WARN = "warn"
    SUSPEND = "suspend"
    IGNORE = "ignore"


Signals = Mapping[signal.Signals, Meaning]
"""Signal to its meaning."""

SIGNALS: Signals = {
    signal.SIGTERM: Meaning.STOP,
    signal.SIGINT: Meaning.STOP,
    signal.SIGXCPU: Meaning.STOP,
    signal.SIGHUP: Meaning.STOP,
    signal.SIGUSR1: Meaning.IGNORE,
    signal.SIGUSR2: Meaning.IGNORE,
}
"""Meanings of signals in any job; each batch system may replace or add some."""


class Inside(Protocol):
    """The inside half of a batch system: how a process in one of its jobs sees it.

    An object or a module with these names is found by name in the entry point group
    ``zwrap.schedulers.inside``. Its file imports nothing of zwrap but `zwrap.job` and this module,
    because every wrapper loads it.
    """

    signals: Signals
    """`SIGNALS`, and the signals that this batch system sends."""

    def job(self, environ: Mapping[str, str]) -> BatchJob | None:
        """Return the job that environment variables describe; None: no job of this batch system."""

    def why_stopped(
        self, job: BatchJob, began: float
    ) -> Question[Interruption] | Interruption | None:
        """Return why a job is being stopped, or the question to ask; None: that cannot be known.

        The wrapper calls this in its handler of the first signal that means `Meaning.STOP`, where
        the method may measure and must not wait; if only a warning stopped the program, after the
        program's end. A question is asked when the program has ended.

        Args:
            job: The job around this process.
            began: Time at which the wrapper started, in seconds since the epoch.
        """
