"""Station "scheduler": how a batch system is asked, and how its answers are read.

A scheduler never runs anything and never sleeps. Each method returns a `Question`: the call to
make and the function that reads the reply. `zwrap.calls` makes the calls. An answer is
yes, no, or "could not ask" (`UnreachableError`); an empty or failed reply is never "finished".
"""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from zwrap.job import BatchJob, Cause, Interruption, JobRequest, JobStatus, Limits

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site says of one cluster to the code of its kind; kinds add fields."""

    environment: dict[str, str] = {}
    """For the batch system's programs: SLURM_CONF, SGE_ROOT and the like."""
    programs: str | None = None
    """Directory of the batch system's programs, if they are not on PATH."""
    settle_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """How long after an unknown submission the batch system may still create the job, seconds;
    None: what is right for an ordinary one."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Hard time limit of each call."""

    def surroundings(self) -> dict[str, str]:
        """Environment variables of the batch system's programs."""
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
    unset: tuple[str, ...] = ()
    """Variables of ours that it must not see."""
    only: bool = False
    """Whether it sees nothing of ours but `environment`."""


class DrmaaSubmission(msgspec.Struct, frozen=True, kw_only=True):
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
    """Of the helper process, not of the job."""
    timeout_s: float = 30.0
    libraries: tuple[str, ...] = ()
    """Usual places of the library, with ``$NAME`` for variables of its environment: the first that
    exists is loaded, unless DRMAA_LIBRARY_PATH names one."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a server; the reply's status is that of HTTP (RFC 9110)."""

    url: str
    """``http://...``, ``https://...``, or ``unix:/path/of/socket:/path/on/it``."""
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    """JSON."""
    timeout_s: float = 30.0


Call = Command | DrmaaSubmission | HttpRequest


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from a call."""

    status: int | None
    """Exit status; None: no answer within the time limit, or no such program."""
    output: str = ""
    error: str = ""
    unsent: bool = False
    """The call certainly did not reach anybody."""


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
    """The batch system did not take the job now: as many as may be are there."""

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


class Scheduler(Protocol):
    """A batch system as a submitting host sees it: the outside half.

    `tests/contract/test_scheduler.py` is the contract in executable form.
    """

    name: str

    options_type: ClassVar[type[Any]]
    """A kind of `Options`."""

    template: str
    """Name of the job script template."""

    options: Any
    """An `options_type`; templates see it, too."""

    arrays: ClassVar[ArrayForm | None]
    """None: it has no arrays."""

    concurrency: ClassVar[int]
    """So many jobs are handed over at the same time."""

    settle_s: float
    """How long after an unknown submission the batch system may still create the job."""

    inside: ClassVar[str]
    """Name of its inside half (`Inside`), which the job script tells the job; may be missing: see
    `inside_of`."""

    error_patterns: ClassVar[Mapping[str, Cause]]
    """Regular expression for a line of a job's error output to the cause of death that such a line
    proves of a job that was killed; may be missing: see `error_patterns_of`."""

    def __init__(self, name: str, options: Any) -> None: ...

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Hand over a job, or an array of `tasks`; `script` is a file that is whole."""

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """What the batch system says to a job without taking it; RejectedError if it refuses."""

    def find(self, name: str) -> Question[list[JobStatus]]:
        """All jobs, live or ended, of that full name, as far as anything remembers them."""

    def states(self) -> Question[dict[str, JobStatus]]:
        """All live jobs, by job id; a job that is not among them is gone."""

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        """How ended jobs ended, by job id, as far as it is recorded."""

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """End jobs."""

    def limits(self) -> Question[Limits]:
        """What the batch system allows."""


def inside_of(scheduler: Scheduler, kind: str) -> str:
    """Return the name of the inside half of a batch system; without its own word that of its kind.

    `kind` is the name of the outside half in the entry point group ``zwrap.schedulers``.
    """
    name: str = getattr(scheduler, "inside", kind)
    return name


def error_patterns_of(scheduler: Scheduler) -> Mapping[str, Cause]:
    """Return the lines of error output that prove a cause of death; without its own word none."""
    patterns: Mapping[str, Cause] = getattr(scheduler, "error_patterns", {})
    return patterns


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
