"""Submitters as processes of their own, which are killed, and others that come after them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from zwrap.job import JobRequest

from .batch import Batch

PROGRAM = """
import sys
import time
from pathlib import Path
import msgspec
from msgspec.structs import replace
from zwrap.submission.clusters import Clusters
from zwrap.configuration.site import Configuration
from zwrap.errors import UnknownOutcomeError, UnreachableError
from zwrap.job import JobRequest
from zwrap.attempt.record import Attempt
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.submission.pending import PendingJob
from zwrap.submission.submit import submit_all
place, tasks = Path(sys.argv[1]), int(sys.argv[2])
request = msgspec.convert(msgspec.json.decode((place / "request.json").read_bytes()), JobRequest,
    strict=False, dec_hook=lambda kind, value: kind(value))
def job(token):
    attempt = Attempt(token=token, recipe_id="r", step=1, cluster="cluster",
        job_name=request.job_name, job_directory=str(place))
    return PendingJob(replace(request, token=token), place / "script", attempt)
jobs = [job(f"{number:02d}{request.token[2:]}") for number in range(tasks or 1)]
site = Configuration.from_string((place / "site.yml").read_text()).activate()
scheduler = Clusters(site).get("cluster").scheduler
ledger = Ledger.in_file(place / "ledger")
print("ready", flush=True)
while True:
    outcomes = []
    submit_all(ledger, scheduler, jobs, outcomes.extend, largest_array=100 if tasks else None)
    known = {outcome for _, outcome in outcomes if isinstance(outcome, str)}
    if len(known) == len(jobs):
        print(*sorted(known))
        break
    for _, outcome in outcomes:
        if not isinstance(outcome, (str, UnknownOutcomeError, UnreachableError)):
            raise outcome
    time.sleep(0.1)
"""
"""A Submitter of the jobs of one request, until it knows the id of each."""

KNOWN_S = 90.0
"""Time within which a Submitter knows which jobs there are, in seconds."""


def given(batch: Batch, request: JobRequest) -> Path:
    """Write what a Submitter needs; its directory."""
    batch.script_of(request)
    text = msgspec.json.encode(request, enc_hook=str)
    (request.job_directory / "request.json").write_bytes(text)
    (request.job_directory / "site.yml").write_text(batch.site)
    return request.job_directory


def submitter(place: Path, tasks: int) -> subprocess.Popen[str]:
    """Start a Submitter, whose host has no other one; it says `ready`.

    `tasks`: how many jobs there are, of one shape; 0: one, which is no array.
    """
    command = [sys.executable, "-P", "-c", PROGRAM, str(place), str(tasks)]
    env = {**os.environ, "ZWRAP_STATE": str(place / "state")}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def submitted(place: Path, tasks: int) -> list[str]:
    """Run a Submitter in peace; the ids of the jobs."""
    output, errors = submitter(place, tasks).communicate(timeout=KNOWN_S)
    assert output, errors
    return output.split()[1:]
