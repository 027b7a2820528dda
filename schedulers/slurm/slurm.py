"""Slurm over its command line (slurm.schedmd.com): sbatch, squeue, sacct, scancel, scontrol."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from zwrap.errors import RequestError
from zwrap.job import Cause, JobRequest, JobStatus, Limits
from zwrap.scheduler import ArrayForm, Command, Options, Question, Reply, Scheduler, Submission

from ..users import job_environment, user_name
from .directives import refuse_parts
from .replies import (
    SACCT,
    SQUEUE,
    ended,
    live,
    read_cancelled,
    read_limits,
    read_sacct,
    read_squeue,
    read_submission,
    read_verdict,
    taken,
)

MESSAGE_TIMEOUT_S = 10.0
"""Slurm's default of MessageTimeout, in seconds (slurm.conf(5)): a client gives up after that time,
and its request may still be carried out."""


VARIABLES = ("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_")
"""Beginnings of the names of variables that change what Slurm's programs do: options of a person,
or of a job around this process. With ``SCANCEL_STATE``, say, scancel(1) ends few jobs."""


class SlurmOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `slurm`."""


class Slurm(Scheduler):
    """One Slurm cluster, selected by its environment (SLURM_CONF)."""

    options_type = SlurmOptions
    template = "slurm.sh.j2"
    arrays: ClassVar[ArrayForm] = ArrayForm("_", "SLURM_ARRAY_TASK_ID", prefix="#SBATCH")
    settle_s = MESSAGE_TIMEOUT_S + 5.0
    error_patterns: ClassVar[Mapping[str, Cause]] = {
        # If Slurm checks memory only now and then (OverMemoryKill, slurm.conf(5)), the state is
        # that of any killed job, and only the error output tells the cause.
        r"slurmstepd.*(exceeded memory limit|oom.kill event)": Cause.OUT_OF_MEMORY,
    }

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Ask sbatch to take a job. Names and paths are arguments; resources are in the script."""
        _refuse(request, script)
        how = ("--parsable", f"--array=1-{tasks}") if tasks else ("--parsable",)
        return Question(self._sbatch(request, script, *how), read_submission)

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """Ask the controller when and where the job would start."""
        _refuse(request, script)
        return Question(self._sbatch(request, script, "--test-only"), read_verdict)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask for all jobs of that name in the controller's memory, else in the accounting."""
        recorded = Question(
            self._sacct("-S", "now-60days", f"--name={name}"),
            lambda reply: taken(read_sacct(reply)),
        )
        return Question(
            self._squeue(f"--name={name}"), lambda reply: taken(read_squeue(reply)) or recorded
        )

    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for all live jobs of this user."""
        return Question(self._squeue(), lambda reply: live(read_squeue(reply)))

    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended: from memory, which knows exit codes, then from the accounting."""

        def in_memory(reply: Reply) -> dict[str, JobStatus] | Question[dict[str, JobStatus]]:
            known = read_squeue(reply)
            over = ended(known, gone_s)
            left = sorted({self.arrays.array_of(each) for each in set(gone_s) - set(known)})
            if not left:
                return over
            return Question(
                self._sacct(f"--jobs={','.join(left)}"),
                lambda answer: {**over, **ended(read_sacct(answer), gone_s)},
            )

        return Question(self._squeue(), in_memory)

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask scancel to end jobs, single ones only of this user.

        With a user, scancel 22.05 ends a whole array that waits if it is asked to end one task.
        """
        tasks = [each for each in job_ids if self.arrays.mark in each]
        single = [each for each in job_ids if each not in tasks]
        of_tasks = Question(self._command("scancel", *tasks), read_cancelled)

        def read(reply: Reply) -> Question[None] | None:
            read_cancelled(reply)
            return of_tasks if tasks else None

        mine = f"--user={user_name()}"
        return Question(self._command("scancel", mine, *single), read) if single else of_tasks

    def limits(self) -> Question[Limits]:
        """Ask scontrol for the limits of slurm.conf(5)."""
        return Question(self._command("scontrol", "show", "config"), read_limits)

    def _command(self, *argv: str) -> Command:
        """Return a call on which variables of a job around this process have no influence."""
        of_slurm = [name for name in os.environ if name.startswith(VARIABLES)]
        environment = {"TZ": "UTC", "LC_ALL": "C.UTF-8", **self.options.surroundings()}
        unset = tuple(name for name in of_slurm if name != "SLURM_CONF")
        limit = self.options.timeout_s
        return Command(argv=[*argv], environment=environment, unset=unset, timeout_s=limit)

    def _sbatch(self, request: JobRequest, script: Path, *how: str) -> Command:
        """Return a call of sbatch, which passes all variables that it sees on to the job.

        With a list of names (`--export=HOME,...`) Slurm would add what a login shell of the user
        sets. Each job would wait for that shell, for minutes if one of its start-up files hangs.
        """
        arguments = [
            "sbatch",
            *how,
            f"--job-name={request.full_name}",
            f"--chdir={request.working_directory}",
            f"--output={literal(request.standard_output)}",
            f"--error={literal(request.standard_error)}",
            "--open-mode=append",  # a job that is requeued keeps the output of its first run
            "--export=ALL",
            str(script),
        ]
        limit = self.options.timeout_s
        # sbatch is run in an environment without the PATH of this process.
        path = self.options.surroundings().get("PATH") or os.environ.get("PATH", os.defpath)
        return Command(
            argv=arguments, environment=self._handed, only=True, timeout_s=limit, path=path
        )

    @functools.cached_property
    def _handed(self) -> dict[str, str]:
        """Variables that sbatch sees."""
        where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
        return {**where, **self.options.environment, **job_environment()}

    def _squeue(self, *more: str) -> Command:
        """Return a call that lists the jobs in memory, live and ended, with each task of arrays.

        Without ``-a`` those in hidden partitions would be missing.
        """
        return self._command("squeue", "--me", "-a", "-h", "-r", "-t", "all", *more, "-O", SQUEUE)

    def _sacct(self, *which: str) -> Command:
        """Return a call that lists jobs in the accounting, without their steps."""
        return self._command("sacct", "-X", "-P", "-n", *which, "-o", SACCT)


def _refuse(request: JobRequest, script: Path) -> None:
    """Raise RequestError for what Slurm would change, or zwrap cannot follow."""
    refuse_backslashes(request)
    with contextlib.suppress(OSError):  # sbatch says why it cannot be read
        refuse_parts(script.read_text(errors="replace"))


def refuse_backslashes(request: JobRequest) -> None:
    """Raise RequestError for names of output files with a backslash, which Slurm would change."""
    for path in (request.standard_output, request.standard_error):
        if "\\" in str(path):
            raise RequestError(
                f"Slurm takes a backslash in the name of an output file as an escape character, so "
                f"{path} cannot be one. Choose a working directory, or 'standard_output' and "
                "'standard_error', without a backslash."
            )


def literal(path: Path) -> str:
    """Return a path as a pattern in which sbatch replaces nothing (sbatch(1), FILENAME PATTERN)."""
    return str(path).replace("%", "%%")
