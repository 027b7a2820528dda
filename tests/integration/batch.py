"""Real batch systems as a site describes them, and jobs for them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.calls.ask import ask
from zwrap.configuration.site import Configuration
from zwrap.job import JobRequest, JobStatus, Resources
from zwrap.scheduler import Accepted, Scheduler
from zwrap.submission.clusters import Clusters
from zwrap.submission.outcomes import Outcome
from zwrap.submission.pending import PendingJob
from zwrap.submission.submit import submit_all
from zwrap.submission.template import Templates

from .conftest import Site


class Batch:
    """One cluster, under the name `cluster` in a site's configuration."""

    def __init__(self, kind: str, environment: dict[str, str], **options: Any) -> None:
        self.kind = kind
        described = {"kind": kind, "environment": environment, **options}
        self.section = {"plugin": "clusters", "cluster": described}
        self.site = json.dumps(
            {"version": 1, "environments": {"default": ["c"]}, "c": self.section}
        )
        configuration = Configuration.from_string(self.site).activate()
        self.scheduler: Scheduler = Clusters(configuration).get("cluster").scheduler

    def script_of(self, request: JobRequest) -> Path:
        script = request.job_directory / "script"
        template = self.scheduler.template
        script.write_text(Templates().render(template, request, self.scheduler.options))
        return script

    def submit(self, request: JobRequest) -> str:
        answer = ask(self.scheduler.submit(request, self.script_of(request)))
        assert isinstance(answer, Accepted), answer
        return answer.job_id

    def recorded(self, *job_ids: str, gone_s: float = 0.0) -> dict[str, JobStatus]:
        """Return how jobs ended that are gone for that time, as far as it is recorded."""
        return ask(self.scheduler.accounting(dict.fromkeys(job_ids, gone_s)))

    def jobs_named(self, request: JobRequest) -> list[str]:
        """Every job of that name that anybody remembers."""
        return [status.job_id for status in ask(self.scheduler.find(request.full_name))]


def daily_keys(node: str) -> Resources:
    """Return resources of which each key was added for facilities; the job starts in an hour."""
    return Resources(
        gres="gpu:a100:1", licenses="xds:2", comment="i03", nice=5, requeue=False, tasks=1,
        ntasks_per_node=1, mail="nobody@localhost", mail_on="begin,fail", exclusive="user",
        begin="+3600", nodelist=node, signal="USR1@120", memory_mib=0, walltime_s=600,
    )  # fmt: skip


def shown_by_scontrol(job_id: str) -> str:
    """Return what Slurm knows of a job, in one line."""
    argv = ["scontrol", "show", "job", "-o", job_id]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


DAILY = (
    "TresPerNode=gres:gpu:a100:1", "Licenses=xds:2", "Comment=i03", "Nice=5", "Requeue=0",
    "NtasksPerN:B:S:C=1:", "MailUser=nobody@localhost", "MailType=BEGIN,FAIL",
    "OverSubscribe=USER", "MinMemoryNode=0", "Reason=BeginTime",
)  # fmt: skip
"""What Slurm says of a job with `daily_keys`."""


def emptied(batch: Batch) -> Iterator[Batch]:
    """Yield the batch system; remove its jobs at the end."""
    yield batch
    deadline = time.monotonic() + 90  # a killed qmaster hears of its hosts half a minute later
    while left := ask(batch.scheduler.states()):
        ask(batch.scheduler.cancel(list(left)))
        assert time.monotonic() < deadline
        time.sleep(0.2)


def request_in(directory: Path, name: str = "job", **values: Any) -> JobRequest:
    directory.mkdir(exist_ok=True)
    return JobRequest(
        **{
            "cluster": "cluster",
            "job_name": name,
            "token": f"{os.urandom(16).hex()}-1",
            "working_directory": directory,
            "job_directory": directory,
            "commands": "true",
            "standard_output": directory / "out",
            "standard_error": directory / "err",
            **values,
        }
    )


def attempt_of(request: JobRequest) -> Attempt:
    return Attempt(
        token=request.token, recipe_id="r", step=1, cluster="cluster", job_name=request.job_name,
        job_directory=str(request.job_directory),
    )  # fmt: skip


def submit_once(
    ledger: Ledger, scheduler: Scheduler, request: JobRequest, script: Path, attempt: Attempt
) -> str:
    """Submit the job of an attempt unless it is there; its job id, or the error is raised."""
    outcomes: list[tuple[str, Outcome]] = []
    submit_all(ledger, scheduler, [PendingJob(request, script, attempt)], outcomes.extend)
    [(_, outcome)] = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_step(site: Site, command: str, env: dict[str, str] | None = None, **block: Any) -> None:
    """Send, dispatch and submit a recipe whose only step runs a command on a cluster.

    Its messages come to queues `submitted` and `ended`; it works in directory `w` of the site.
    """
    step = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {
                "commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP",
                **block,
            },
            "workingdir": str(site.directory / "w"),
        },
        "job_parameters": {"command": ["sh", "-c", command]},
        "output": {"job_submitted": 2, "success": 3, "failure": 3},
    }
    recipe = {"start": [[1, []]], "1": step, "2": {"queue": "submitted"}, "3": {"queue": "ended"}}
    (site.recipes / "r.json").write_text(json.dumps(recipe))
    for line in (
        ["zocalo.go", "--no-dcid", "-r", "r"],
        ["zocalo.service", "-s", "Dispatcher", "--once"],
        ["zocalo.service", "-s", "Submitter", "--once"],
    ):
        assert site.run(*line, env=env or {}).returncode == 0
