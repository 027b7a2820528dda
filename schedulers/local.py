"""The local batch system (`zwrap.pool`), talked to as any other: by its command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zwrap.errors import RequestError, UnreachableError
from zwrap.host.paths import state_directory
from zwrap.job import JobRequest, JobStatus, Limits, Resources
from zwrap.scheduler import (
    Accepted,
    Command,
    Options,
    Question,
    Rejected,
    Reply,
    Submission,
    Unknown,
)

REFUSED = ("gpus", "gpus_per_node", "exclusive", "constraints")
"""Cannot be kept here, and a job would suffer silently without them."""


class LocalOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a cluster of kind `local`."""

    directory: str | None = None
    """Where jobs are written down, on a local disk; default: in the state directory."""


class Local:
    """Jobs on this machine, as many at a time as there are processors."""

    options_type = LocalOptions
    template = "local.sh.j2"
    arrays = None
    concurrency = 4

    def __init__(self, name: str, options: LocalOptions) -> None:
        self.name = name
        self.options = options
        self.settle_s = 3.0 if options.settle_s is None else options.settle_s
        self._directory = options.directory or str(state_directory() / "localbatch")

    def _command(self, *arguments: str) -> Command:
        base = [sys.executable, "-m", "zwrap.pool", "--directory", self._directory]
        return Command(
            argv=[*base, *arguments],
            environment=self.options.surroundings(),
            timeout_s=self.options.timeout_s,
        )

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        """Hand over a job; exit status 100 of the command is a refusal."""
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
                *("--cpus", str(_cpus(resources))),
                str(script),
            ),
            _read_submission,
        )

    def verify(self, request: JobRequest, script: Path) -> Question[str]:
        """It takes whatever `submit` does not refuse."""
        self.submit(request, script)

        def told(reply: Reply) -> str:
            _check(reply)
            return "the local batch system would take it"

        return Question(self._command("list"), told)

    def find(self, name: str) -> Question[list[JobStatus]]:
        """All jobs of that name."""
        return Question(
            self._command("list", "--ended", "--name", name),
            lambda reply: list(_read_jobs(reply).values()),
        )

    def states(self) -> Question[dict[str, JobStatus]]:
        """All live jobs."""
        return Question(self._command("list"), _read_jobs)

    def accounting(self, job_ids: Sequence[str]) -> Question[dict[str, JobStatus]]:
        """How ended jobs ended."""
        wanted = set(job_ids)
        return Question(
            self._command("list", "--ended"),
            lambda reply: {
                job_id: status
                for job_id, status in _read_jobs(reply).items()
                if job_id in wanted and status.state.is_final
            },
        )

    def cancel(self, job_ids: Sequence[str]) -> Question[None]:
        """End jobs."""
        return Question(self._command("cancel", *job_ids), _read_nothing)

    def limits(self) -> Question[Limits]:
        """The local batch system has no arrays and no limit on waiting jobs."""
        return Question(self._command("list"), _read_limits)


def _cpus(resources: Resources) -> int:
    return (resources.cpus_per_task or 1) * (resources.tasks or 1)


def _check(reply: Reply) -> None:
    if reply.status != 0:
        raise UnreachableError(
            f"The local batch system could not be asked: {reply.error.strip() or 'no answer'} "
            f"(exit status {reply.status})."
        )


def _read_submission(reply: Reply) -> Submission:
    text = reply.output.strip()
    if reply.status == 0 and text.isdecimal():
        return Accepted(text)
    if reply.status in (2, 100):
        return Rejected(reply.error.strip())
    return Unknown(reply.error.strip() or "no answer")


def _read_jobs(reply: Reply) -> dict[str, JobStatus]:
    _check(reply)
    try:
        jobs = msgspec.json.decode(reply.output, type=list[JobStatus])
    except msgspec.DecodeError as error:
        raise UnreachableError(
            f"The local batch system answered {reply.output[:80]!r}, which is no list of jobs: "
            f"{error}."
        ) from None
    return {job.job_id: job for job in jobs}


def _read_limits(reply: Reply) -> Limits:
    _check(reply)
    return Limits(array_size=1)


def _read_nothing(reply: Reply) -> None:
    _check(reply)
