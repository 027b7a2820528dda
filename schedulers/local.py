"""The local batch system (`zwrap.localbatch`), talked to as any other: by its command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, Resources
from zwrap.scheduler import Accepted, Command, Question, Rejected, Reply, Submission, Unknown

REFUSED = ("gpus", "gpus_per_node", "exclusive", "constraints")
"""Cannot be kept here, and a job would suffer silently without them."""


class Local:
    """Jobs on this machine, as many at a time as there are processors."""

    template = "local.sh.j2"
    settle_s = 3.0

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._directory = Path(options["directory"])

    def _command(self, *arguments: str) -> Command:
        base = [sys.executable, "-m", "zwrap.localbatch", "--directory", str(self._directory)]
        return Command(argv=[*base, *arguments])

    def submit(self, request: JobRequest, script: Path) -> Question[Submission]:
        """Hand over a job; exit status 100 of the command is a refusal."""
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
