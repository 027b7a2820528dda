"""Station "scheduler": how a batch system is asked, and how its answers are read.

A scheduler never runs anything, never sleeps and keeps no state. Its methods return a `Question`:
the call to make and the function that reads the reply. `zwrap.calls` makes the calls. An answer is
yes, no, or "could not ask" (`UnreachableError`); an empty or failed reply is never "finished".
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

from zwrap.job import BatchJob, Cause, Interruption, JobRequest, JobStatus, Limits
from zwrap.renamed import Former, adopt, adopt_parameter, tell

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster in the site file that every batch system takes; each adds some."""

    environment: dict[str, str] = {}
    """Variables for the batch system's programs: SLURM_CONF, SGE_ROOT and the like."""
    programs: str | None = None
    """Directory of the batch system's programs; None: they are found on PATH."""
    settle_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """How long after an unknown submission the batch system may still create the job, in seconds;
    None: as long as is usual for it."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Hard time limit of each call, in seconds."""

    def surroundings(self) -> dict[str, str]:
        """Return the environment variables of the batch system's programs."""
        if self.programs is None:
            return self.environment
        path = f"{self.programs}:{os.environ.get('PATH', os.defpath)}"
        return {**self.environment, "PATH": path}


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run, without a shell and without input.

    Nothing is handed over on standard input: a submitting process that is killed half-way would
    leave its child with the first half, and the batch system with a job that does half.
    """

    argv: list[str]
    timeout_s: float = 30.0
    environment: dict[str, str] = {}
    """Variables that are set, or replaced, in the environment of this process."""
    unset: tuple[str, ...] = ()
    """Variables of this process that the program must not see."""
    only: bool = False
    """Whether the program sees `environment` and no variable of this process."""


class DrmaaCall(msgspec.Struct, frozen=True, kw_only=True):
    """A job for the DRMAA library (OGF GFD.133), which a helper process loads.

    The reply holds the job id; its status is 0, or the number of a DRMAA error.
    """

    script: str
    name: str
    working_directory: str
    standard_output: str
    standard_error: str
    native: str
    """Native specification: options of the batch system."""
    tasks: int | None = None
    """Size of an array, whose tasks count from 1; the reply holds the number of the array."""
    environment: dict[str, str] = {}
    """Variables of the helper process, not of the job."""
    timeout_s: float = 30.0
    libraries: tuple[str, ...] = ()
    """Usual places of the library, with ``$NAME`` for variables of its environment: the first that
    exists is loaded, unless DRMAA_LIBRARY_PATH names one."""


class DrmaaSubmission(DrmaaCall, frozen=True, kw_only=True):
    """Former name of `DrmaaCall`; without DRMAA_LIBRARY_PATH it needs `libraries` now."""

    def __post_init__(self) -> None:
        tell("zwrap.scheduler", "DrmaaSubmission", "DrmaaCall(..., libraries=...)")


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a server; the reply's status is that of HTTP (RFC 9110)."""

    url: str
    """``http://...``, ``https://...``, or ``unix:/path/of/socket:/path/on/it``."""
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    """JSON."""
    timeout_s: float = 30.0


Call = Command | DrmaaCall | HttpRequest


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Reply to a call."""

    status: int | None
    """Exit status, HTTP status or DRMAA error; None: no answer within the time limit, or nobody
    there to give one."""
    output: str = ""
    error: str = ""
    unsent: bool = False
    """Whether it is certain that the call did not reach anybody."""


class Question(msgspec.Struct, Generic[T], frozen=True):
    """A call and the function that reads its reply, which may lead to another question."""

    call: Call
    read: Callable[[Reply], T | Question[T]]


class Accepted(msgspec.Struct, frozen=True):
    """The batch system took the job."""

    job_id: str


class Rejected(msgspec.Struct, frozen=True):
    """The batch system refused the job and will refuse it again."""

    reason: str


class Unknown(msgspec.Struct, frozen=True):
    """The job may or may not be there; look it up by its token before anything else."""

    reason: str


class Busy(msgspec.Struct, frozen=True):
    """The batch system has as many jobs as it takes; the same job may be taken later."""

    reason: str


Submission = Accepted | Rejected | Unknown | Busy


class ArrayForm(msgspec.Struct, frozen=True):
    """The way in which a batch system names the tasks of an array, which count from 1."""

    mark: str
    """Text between the id of the array and the number of the task, in a job id."""
    variable: str
    """Environment variable that tells a task its number."""
    prefix: str = ""
    """Text with which a directive line of a job script begins, such as ``#SBATCH``; empty: it is
    not known, and jobs are never joined to arrays."""
    anywhere: bool = False
    """Whether directives count after the first command of a script, too."""

    def job_id(self, array: str, task: int) -> str:
        """Return the job id of a task."""
        return f"{array}{self.mark}{task}"

    def array_of(self, job_id: str) -> str:
        """Return the id of the array that a task belongs to."""
        return job_id.partition(self.mark)[0]


class Scheduler(ABC):
    """The outside half of a batch system: how a submitting host sees it.

    A class of its own, found by name in the entry point group ``zwrap.schedulers``, with five
    methods; what else it inherits from here it may replace. Its objects run nothing, wait for
    nothing and remember nothing between questions: two of them with the same options give the same
    answers. `zwrap.testing` holds the contract in executable form.

    Functions that read replies raise UnreachableError wherever a reply is not an answer: a time
    limit, an exit status that tells of a failure, no output where there must be some, output that
    is cut off, a word that is not known. Nobody then knows anything about jobs. Reading an empty
    or failed reply as "no jobs" would let jobs that run be taken for ended.
    """

    options_type: ClassVar[type[Options]] = Options
    """Type of the keys under which a site file describes such a cluster."""

    template: ClassVar[str]
    """File name of the job script template."""

    arrays: ClassVar[ArrayForm | None] = None
    """Form in which tasks of arrays are named; None: the batch system has no arrays."""

    concurrency: ClassVar[int] = 4
    """Number of submissions that are handed over at the same time."""

    at_once = Former("concurrency")

    settle_s: float = 60.0
    """How long after an unknown submission the batch system may still create the job, in seconds.
    A job that `find` does not find after that time is submitted again."""

    inside: ClassVar[str] = ""
    """Name of the inside half (`Inside`), which the job script tells the job; empty: the name of
    the outside half in the entry point group."""

    error_patterns: ClassVar[Mapping[str, Cause]] = {}
    """Regular expression for a line of a job's error output to the cause of death that such a line
    proves of a job that was killed."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adopt(cls, {"at_once": "concurrency"})
        adopt_parameter(cls, "accounting", "job_ids", "gone_s")

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        """Name of the cluster in the site file, for complaints."""
        self.options = options
        """An `options_type`; templates see it, too."""
        if options.settle_s is not None:
            self.settle_s = options.settle_s

    @abstractmethod
    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Ask the batch system to take a job.

        `script` is a file that is complete, and executable. `tasks`: submit an array of that many
        tasks, which count from 1, under one name; None: a single job.

        The answer is `Accepted` only where the reply holds a job id. It is `Rejected` only where
        the batch system says what is wrong with the job, `Busy` where jobs that end make room, and
        `Unknown` otherwise: for a reply that is empty, late or not understood, too.

        Raises RequestError, and nobody is asked, for what cannot be expressed: a resource that the
        batch system does not have, a path that it would change, an array where there are none.
        """

    @abstractmethod
    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for all live jobs of this user: pending, running and suspended ones, by job id.

        A job that is not in the answer is gone. So is the task of an array; tasks that wait are in
        the answer one by one. `JobStatus.stuck` marks jobs that wait for what will never come, and
        those that run on a host which does not answer. The reader raises UnreachableError.
        """

    @abstractmethod
    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask for all jobs of that full name, live or ended, as far as anything remembers them.

        An answer without jobs lets the job be submitted again. So the accounting is asked, too, and
        a record that stays of a job which was refused does not count. Of an array, its live tasks
        are in the answer. The reader raises UnreachableError.
        """

    @abstractmethod
    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended that are not among the live ones, by job id.

        `gone_s`: job id to seconds since the job was first seen to be gone; 0.0: just now. Who asks
        remembers that, where the batch system needs time to tell "recorded later" from "never".

        The answer holds jobs that will never run again (`State.is_final`) and are recorded. A job
        that is not in it may be recorded later. The reader raises UnreachableError.
        """

    @abstractmethod
    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask the batch system to end jobs, at least one.

        Jobs that have ended, or are not known, are no error. An answer does not mean that the jobs
        have ended by now. The reader raises UnreachableError where they may not have been told.
        """

    def limits(self) -> Question[Limits] | Limits:
        """Ask what the batch system allows; Limits, where nobody need be asked; here: no limit.

        The reader raises UnreachableError.
        """
        return Limits()

    def verify(self, request: JobRequest, script: Path) -> Question[str] | None:
        """Ask what the batch system says to a job without taking it; None: it cannot be asked.

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
"""Signal to meaning."""

SIGNALS: Signals = {
    signal.SIGTERM: Meaning.STOP,
    signal.SIGINT: Meaning.STOP,
    signal.SIGXCPU: Meaning.STOP,
    signal.SIGHUP: Meaning.STOP,
    signal.SIGUSR1: Meaning.IGNORE,
    signal.SIGUSR2: Meaning.IGNORE,
}
"""Meanings of signals in any job; each batch system adds those of its own."""


class Inside(Protocol):
    """The inside half of a batch system: how a process in one of its jobs sees it.

    An object or a module with these names, found by name in the entry point group
    ``zwrap.schedulers.inside``. Its file imports nothing of zwrap but `zwrap.job` and this module,
    because every wrapper loads it.
    """

    signals: Signals
    """`SIGNALS` with what this batch system sends besides."""

    def job(self, environ: Mapping[str, str]) -> BatchJob | None:
        """Return the job that these environment variables tell of; None: there is none."""

    def why_stopped(
        self, job: BatchJob, began: float
    ) -> Question[Interruption] | Interruption | None:
        """Say why a job is being stopped, or how to ask about it; None: nobody can be asked.

        Called in the handler of the first signal that means `Meaning.STOP`, where it may measure,
        and must not wait; where only a warning stopped the program, after its end. A question is
        asked when the program has ended. `began`: when the wrapper started, seconds since the
        epoch.
        """
