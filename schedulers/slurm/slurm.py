"""Slurm by its command line (slurm.schedmd.com): sbatch, squeue, sacct, scancel, scontrol."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from zwrap.errors import RequestError
from zwrap.job import Cause, JobRequest, JobStatus, Limits
from zwrap.scheduler import ArrayForm, Command, Options, Question, Reply, Submission

from .replies import (
    SACCT,
    SQUEUE,
    ended,
    read_limits,
    read_nothing,
    read_sacct,
    read_squeue,
    read_submission,
    read_verdict,
    taken,
)

MESSAGE_TIMEOUT_S = 10.0
"""Slurm's own default of MessageTimeout: after so long a client gives up, and its request may still
be carried out."""


class SlurmOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `slurm`."""


class Slurm:
    """One Slurm cluster, as its environment (SLURM_CONF) shows it."""

    options_type = SlurmOptions
    template = "slurm.sh.j2"
    arrays = ArrayForm("_", "SLURM_ARRAY_TASK_ID", prefix="#SBATCH")
    concurrency = 4
    error_patterns: ClassVar[Mapping[str, Cause]] = {
        # Of a job whose memory is only looked at now and then (OverMemoryKill, slurm.conf(5)): its
        # state is that of any job that was killed.
        r"slurmstepd.*(exceeded memory limit|oom.kill event)": Cause.OUT_OF_MEMORY,
    }

    def __init__(self, name: str, options: SlurmOptions) -> None:
        self.name = name
        self.options = options
        given = options.settle_s
        self.settle_s = MESSAGE_TIMEOUT_S + 5.0 if given is None else given

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Hand over a job. Names and paths are arguments, resources stand in the script."""
        refuse_backslashes(request)
        how = ("--parsable", f"--array=1-{tasks}") if tasks else ("--parsable",)
        return Question(self._sbatch(request, script, *how), read_submission)

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """What the controller says to the job: when and where it would start."""
        return Question(self._sbatch(request, script, "--test-only"), read_verdict)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """All jobs of that name: in the controller's memory, else in the accounting."""

        def in_memory(reply: Reply) -> list[JobStatus] | Question[list[JobStatus]]:
            return taken(read_squeue(reply)) or recorded

        recorded = Question(
            self._command(
                "sacct", "-X", "-P", "-n", "-S", "now-60days", f"--name={name}", "-o", SACCT
            ),
            lambda reply: taken(read_sacct(reply)),
        )
        return Question(self._squeue(f"--name={name}"), in_memory)

    def states(self) -> Question[dict[str, JobStatus]]:
        """All live jobs of this user, in one question."""
        return Question(
            self._squeue(),
            lambda reply: {
                job_id: status
                for job_id, status in read_squeue(reply).items()
                if not status.state.is_final
            },
        )

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        """How ended jobs ended: from memory, which knows exit codes, then from the accounting."""
        wanted = set(job_ids)

        def in_memory(
            reply: Reply,
        ) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            known = {key: each for key, each in read_squeue(reply).items() if key in wanted}
            over = ended(known, wanted)
            gone = sorted({self.arrays.array_of(each) for each in wanted - set(known)})
            if not gone:
                return over
            asked = self._command(
                "sacct", "-X", "-P", "-n", f"--jobs={','.join(gone)}", "-o", SACCT
            )
            return Question(asked, lambda answer: {**over, **ended(read_sacct(answer), wanted)})

        return Question(self._squeue(), in_memory)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """End jobs; those that are gone are no error."""
        return Question(self._command("scancel", *job_ids), read_nothing)

    def limits(self) -> Question[Limits]:
        """What slurm.conf(5) allows."""
        return Question(self._command("scontrol", "show", "config"), read_limits)

    def _command(self, *argv: str) -> Command:
        """A client that is not swayed by what a job around us was told."""
        swaying = [name for name in os.environ if name.startswith(("SBATCH_", "SQUEUE_", "SLURM_"))]
        environment = {"TZ": "UTC", "LC_ALL": "C.UTF-8", **self.options.surroundings()}
        unset = tuple(name for name in swaying if name != "SLURM_CONF")
        limit = self.options.timeout_s
        return Command(argv=[*argv], environment=environment, unset=unset, timeout_s=limit)

    def _sbatch(self, request: JobRequest, script: Path, *how: str) -> Command:
        """All that it sees goes on to the job.

        With a list of names (`--export=HOME,...`) Slurm would add what a login shell of the user
        sets, and each job would wait for that shell, for minutes if a start-up file of it hangs.
        """
        arguments = [
            self._program,
            *how,
            f"--job-name={request.full_name}",
            f"--chdir={request.working_directory}",
            f"--output={literal(request.standard_output)}",
            f"--error={literal(request.standard_error)}",
            "--open-mode=append",  # a job that is requeued keeps what its first run said
            "--export=ALL",
            str(script),
        ]
        return Command(
            argv=arguments, environment=self._handed, only=True, timeout_s=self.options.timeout_s
        )

    @functools.cached_property
    def _program(self) -> str:
        """`sbatch`: the environment in which it is run does not say where it is."""
        path = self.options.surroundings().get("PATH") or os.environ.get("PATH", os.defpath)
        return shutil.which("sbatch", path=path) or "sbatch"

    @functools.cached_property
    def _handed(self) -> dict[str, str]:
        where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
        return {**where, **self.options.environment, **job_environment()}

    def _squeue(self, *more: str) -> Command:
        return self._command("squeue", "--me", "-h", "-r", "-t", "all", *more, "-O", SQUEUE)


def job_environment(user: str | None = None) -> dict[str, str]:
    """What a job is told besides its script: whose it is, and where ordinary programs are."""
    name = user or getpass.getuser()
    known = {"PATH": "/usr/local/bin:/usr/bin:/bin", "USER": name, "LOGNAME": name}
    home = _home(name)
    return {**known, "HOME": home} if home else known


@functools.lru_cache(maxsize=16)
def _home(user: str) -> str | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user).pw_dir
    return None


def refuse_backslashes(request: JobRequest) -> None:
    """Raise RequestError for names of output files that Slurm would change."""
    for path in (request.standard_output, request.standard_error):
        if "\\" in str(path):
            raise RequestError(
                f"Slurm takes a backslash in the name of an output file as an order, so {path} "
                "cannot be one. Choose a working directory, or 'standard_output' and "
                "'standard_error', without."
            )


def literal(path: Path) -> str:
    """A file name in which sbatch is to replace nothing (sbatch(1), FILENAME PATTERN)."""
    return str(path).replace("%", "%%")
