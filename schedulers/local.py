"""The built-in batch system (`zwrap.pool`), talked to as any other: by its command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, Resources
from zwrap.scheduler import (
    Accepted,
    Command,
    Options,
    Question,
    Rejected,
    Reply,
    Scheduler,
    Submission,
    Unknown,
)

from .reading import complaint, output_of, quoted

LOCAL = "The local batch system"

REFUSED = (
    "gpus", "gpus_per_node", "gres", "exclusive", "constraints", "licenses", "reservation",
    "nodelist", "begin", "signal", "mail", "mail_on", "options",
)  # fmt: skip
"""Keys of resources that cannot be given here, and must not be dropped silently."""

REFUSALS = (
    2,  # the command line was not understood (argparse)
    100,  # a permanent error (zwrap.errors.PERMANENT)
)
"""Exit statuses of `zwrap.pool` that mean a refused job."""


class LocalOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `local`."""

    directory: str | None = None
    """Directory of the jobs, on a local disk; None: one in the state directory."""


class Local(Scheduler):
    """Jobs on this machine, as many at a time as there are processors."""

    options_type = LocalOptions
    options: LocalOptions
    template = "local.sh.j2"
    settle_s = 3.0

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Ask `zwrap.pool` to take a job; RequestError for arrays and for `REFUSED` resources."""
        if tasks:
            raise RequestError(f"Cluster {self.name!r} runs jobs on this machine, and no arrays.")
        resources = request.resources
        for key in REFUSED:
            if getattr(resources, key):
                raise RequestError(
                    f"Cluster {self.name!r} runs jobs on this machine and cannot give {key!r}. "
                    "Remove the key, or name another cluster under 'scheduler'."
                )
        return Question(
            self._command(
                "submit",
                *("--name", request.full_name),
                *("--chdir", str(request.working_directory)),
                *("--output", str(request.standard_output)),
                *("--error", str(request.standard_error)),
                *(("--time", str(resources.walltime_s)) if resources.walltime_s else ()),
                *("--cpus", str(_processors(resources))),
                *(f"--below={directory}" for directory in request.below),
                str(script),
            ),
            _read_submission,
        )

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """Ask whether `zwrap.pool` answers; it takes whatever `submit` does not refuse."""
        self.submit(request, script)

        def read(reply: Reply) -> str:
            output_of(reply, LOCAL)
            return "the local batch system would take it"

        return Question(self._command("list"), read)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """Ask for all jobs of that name."""
        return Question(
            self._command("list", "--ended", "--name", name),
            lambda reply: list(_read_jobs(reply).values()),
        )

    def states(self) -> Question[dict[str, JobStatus]]:
        """Ask for all live jobs."""
        return Question(self._command("list"), _read_jobs)

    def accounting(self, gone_s: Mapping[str, float]) -> Question[dict[str, JobStatus]]:
        """Ask how jobs ended; every job that has ended is recorded."""
        return Question(
            self._command("list", "--ended"),
            lambda reply: {
                job_id: status
                for job_id, status in _read_jobs(reply).items()
                if job_id in gone_s and status.state.is_final
            },
        )

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """Ask `zwrap.pool` to end jobs."""
        return Question(self._command("cancel", *job_ids), _read_nothing)

    def limits(self) -> Limits:
        """Return limits without arrays, and without a limit on waiting jobs."""
        return Limits(array_size=1)

    def _command(self, *arguments: str) -> Command:
        """Return a call of the command line of `zwrap.pool`."""
        directory = self.options.directory
        place = ("--directory", directory) if directory else ()
        return Command(
            argv=[sys.executable, "-P", "-m", "zwrap.pool", *place, *arguments],
            environment=self.options.surroundings(),
            timeout_s=self.options.timeout_s,
        )


def _processors(resources: Resources) -> int:
    """Return the number of processors that a job takes; it has one node."""
    tasks = resources.tasks or resources.ntasks_per_node or 1
    return tasks * (resources.cpus_per_task or 1)


def _read_submission(reply: Reply) -> Submission:
    """Return the answer to a submission; only an exit status in `REFUSALS` refuses the job."""
    text = reply.output.strip()
    if reply.status == 0 and text.isdecimal():
        return Accepted(text)
    return (Rejected if reply.status in REFUSALS else Unknown)(quoted(complaint(reply)))


def _read_jobs(reply: Reply) -> dict[str, JobStatus]:
    """Return the listed jobs, by job id; UnreachableError if the output is not a list of jobs."""
    text = output_of(reply, LOCAL)
    try:
        jobs = msgspec.json.decode(text, type=list[JobStatus])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreachableError(
            f"{LOCAL} answered {text[:80]!r}, which is not a list of jobs: {error}."
        ) from None
    return {job.job_id: job for job in jobs}


def _read_nothing(reply: Reply) -> None:
    """Raise UnreachableError unless the command succeeded."""
    output_of(reply, LOCAL)
