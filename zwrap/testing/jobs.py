"""Jobs for tests of a batch system, made as the Submitter makes them and ended with their test."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from zwrap.calls.ask import ask
from zwrap.configuration.site import Configuration
from zwrap.job import JobRequest, JobStatus, State
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import Accepted
from zwrap.submission.clusters import Clusters
from zwrap.submission.script import Renderer

T = TypeVar("T")

POLL_S = 0.25
"""Poll interval of a batch system, in seconds."""


class Job(NamedTuple):
    """A job, or an array, that was submitted."""

    job_id: str
    name: str
    """Full name of the job in the batch system."""


class Jobs:
    """The jobs of one test on one cluster.

    `limit_s`: longest wait for anything, in seconds.
    """

    def __init__(
        self, configuration: Configuration, cluster: str, directory: Path, limit_s: float
    ) -> None:
        self.cluster = Clusters(configuration).get(cluster)
        self.scheduler = self.cluster.scheduler
        self.directory = directory
        self._limit_s = limit_s
        self._renderer = Renderer(configuration)
        self._names: set[str] = set()

    def prepare(self, commands: str, block: Mapping[str, object]) -> tuple[JobRequest, Path]:
        """Return the request and the script of a job that works in the directory.

        Its output goes to the files ``out`` and ``err`` there. `block`: further keys of the cluster
        block.
        """
        step = {
            "queue": "cluster.submission",
            "parameters": {
                "workingdir": str(self.directory), "standard_output": "out",
                "standard_error": "err",
                "cluster": {
                    "scheduler": self.cluster.name, "commands": commands, "job_name": "contract",
                    **block,
                },
            },
        }  # fmt: skip
        envelope = Envelope(Recipe({"start": [[1, []]], "1": step}, "of a test"), 1)
        prepared, cluster = self._renderer.prepare(envelope, f"{uuid.uuid4().hex}-1")
        request = prepared.request
        request.job_directory.mkdir(parents=True)
        script = request.job_directory / "script"
        script.write_text(self._renderer.script(request, cluster))
        script.chmod(0o750)
        self._names.add(request.full_name)
        return request, script

    def submit(
        self, commands: str, block: Mapping[str, object] | None = None, tasks: int | None = None
    ) -> Job:
        """Submit a job, or an array of `tasks`."""
        request, script = self.prepare(commands, block or {})
        answer = ask(self.scheduler.submit(request, script, tasks))
        assert isinstance(answer, Accepted), answer
        return Job(answer.job_id, request.full_name)

    def live(self) -> dict[str, JobStatus]:
        """Return the jobs of this test that are live, by job id."""
        states = ask(self.scheduler.states())
        return {key: job for key, job in states.items() if job.name in self._names}

    def await_listed(self, expected: Set[str]) -> None:
        """Wait until exactly these jobs are live; an error names those that differ, with states."""
        seen: dict[str, JobStatus] = {}

        def same() -> bool:
            seen.clear()
            seen.update(self.live())
            return seen.keys() == expected

        def difference() -> str:
            more = {key: job.state.value for key, job in seen.items() if key not in expected}
            return f"jobs were listed: besides them {more}, not {sorted(expected - seen.keys())}"

        self.wait(same, difference)

    def running(self, job_id: str) -> JobStatus:
        """Wait until a job runs; return its status."""

        def runs() -> JobStatus | None:
            status = self.live().get(job_id)
            return status if status and status.state is State.RUNNING else None

        return self.wait(runs, f"job {job_id} runs")

    def ended(self, job_id: str) -> JobStatus:
        """Wait until a job is gone and recorded, as the Watcher does; return its status."""
        since: list[float] = []

        def recorded() -> JobStatus | None:
            if job_id in self.live():
                return None
            since.append(time.monotonic())
            return self.recorded(job_id, gone_s=since[-1] - since[0]).get(job_id)

        return self.wait(recorded, f"job {job_id} is recorded")

    def recorded(self, *job_ids: str, gone_s: float = 0.0) -> dict[str, JobStatus]:
        """Return the recorded ends of jobs that have been gone for `gone_s` seconds, by job id."""
        return ask(self.scheduler.accounting(dict.fromkeys(job_ids, gone_s)))

    def wait(self, condition: Callable[[], T | None], words: str | Callable[[], str]) -> T:
        """Wait until a condition returns a true value; return it. `words` describe it in errors."""
        deadline = time.monotonic() + self._limit_s
        while not (result := condition()):
            if time.monotonic() >= deadline:
                said = words if isinstance(words, str) else words()
                pytest.fail(f"{self._limit_s:g} s passed before {said}")
            time.sleep(POLL_S)
        return result

    def close(self) -> None:
        """Cancel the live jobs of this test, and wait until they are gone."""
        if left := self.live():
            ask(self.scheduler.cancel(list(left)))
            self.wait(lambda: not self.live(), "cancelled jobs are gone")
