"""Jobs that run although the list of their batch system does not show them, or shows another id."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.record import Attempt
from zwrap.calls.ask import ask

from .batch import Batch
from .conftest import Site
from .ends import Wait, concluded, described, submit, told
from .jobs import attempts, jobs, run

pytestmark = pytest.mark.slow

HETEROGENEOUS = """\
#!/bin/sh
for script; do :; done
awk '/^#SBATCH/ || NR == 1 { print; next }
     !parted { print "#SBATCH hetjob\\n#SBATCH --ntasks=1"; parted = 1 } { print }' \\
    "$script" >"$script.parts"
count=$(($# - 1))
while [ $count -gt 0 ]; do set -- "$@" "$1"; shift; count=$((count - 1)); done
shift
exec sbatch "$@" "$script.parts"
"""
"""Front of sbatch that makes a second part, as a site's template could before it was refused."""

UNTIL = "touch begun; until [ -e ended ]; do sleep 0.1; done"


@pytest.fixture
def on_slurm(site: Site, slurm: dict[str, Any]) -> Site:
    front = site.directory / "front" / "sbatch"
    front.parent.mkdir()
    front.write_text(HETEROGENEOUS)
    front.chmod(0o755)
    described(site, "slurm", {"SLURM_CONF": slurm["SLURM_CONF"]})
    more = {"programs": str(front.parent), "lost_s": 1, "stalled_s": 0.5}
    site.sections["clusters"]["cluster"] |= more
    site.write_config()
    site.service("Watcher")
    return site


def says(site: Site, *command: str) -> subprocess.CompletedProcess[str]:
    environment = site.sections["clusters"]["cluster"]["environment"]
    path = f"{environment.get('PATH', '/bin')}:{os.environ['PATH']}"
    return subprocess.run(
        command, env={**os.environ, **environment, "PATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def looks(site: Site, wait_until: Wait, seconds: float) -> list[Attempt]:
    """Return what the ledger says of the one job, again and again, from its begin on."""
    wait_until((site.directory / "w" / "begun").exists, seconds=60)
    wait_until(lambda: attempts(site)[0].seen_state == "running", seconds=20)
    end, seen = time.monotonic() + seconds, []
    while time.monotonic() < end:
        seen += attempts(site)
        time.sleep(0.3)
    return seen


def test_a_heterogeneous_job_of_yesterday_runs_and_ends_under_its_name(
    on_slurm: Site, wait_until: Wait
) -> None:
    """Slurm lists it as 7+0 and 7+1, and said 7 when it was submitted."""
    submit(on_slurm, "w", UNTIL, time_limit="0:05:00")
    seen = looks(on_slurm, wait_until, 8)
    listed = says(on_slurm, "squeue", "-h", "-o", "%i", "--me").stdout.split()
    job_id = seen[0].job_id
    assert sorted(listed) == [f"{job_id}+0", f"{job_id}+1"]
    assert {(each.seen_state, each.missing) for each in seen} == {("running", None)}
    assert {each.seen_reason for each in seen} == {None}
    assert jobs(on_slurm)[0]["state"] in ("running", "stalled")  # its wrapper is rarely heard
    (on_slurm.directory / "w" / "ended").touch()
    job = concluded(on_slurm, wait_until, "w")
    assert (job["outcome"], job["witness"]) == ("success", "wrapper"), job
    assert told(on_slurm).keys() == {"success", "completed"}
    assert list(Path(job["job_directory"]).glob("late-*")) == []


def test_a_heterogeneous_job_can_be_ended(on_slurm: Site, wait_until: Wait) -> None:
    submit(on_slurm, "w", UNTIL, time_limit="0:05:00")
    looks(on_slurm, wait_until, 0)
    job_id = attempts(on_slurm)[0].job_id
    assert f"asked to end {job_id}" in run(on_slurm, "cancel", str(job_id)).stdout
    assert concluded(on_slurm, wait_until, "w")["outcome"] == "failure"
    wait_until(lambda: not says(on_slurm, "squeue", "-h", "--me").stdout, seconds=60)


@pytest.mark.parametrize("kind", ["slurm", "slurmrest"])
def test_the_job_of_another_user_is_not_cancelled(
    slurm: dict[str, Any], wait_until: Wait, kind: str
) -> None:
    """It may have been given the id of a job that a controller forgot."""
    told_of = {key: slurm[key] for key in ("url", "user_token")} if kind == "slurmrest" else {}
    batch = Batch(kind, {"SLURM_CONF": slurm["SLURM_CONF"]}, **told_of)
    environment = {**os.environ, "SLURM_CONF": slurm["SLURM_CONF"]}

    def says(*command: str) -> str:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout

    with tempfile.TemporaryDirectory() as place:  # that another user can enter
        Path(place).chmod(0o777)
        mine = ["sbatch", "--parsable", "--hold", f"--chdir={place}", "--wrap=sleep 60"]
        own, other = says(*mine).strip(), says(*mine, "--uid=daemon").strip()
        try:
            ask(batch.scheduler.cancel([own, other, "999999"]))
            listed = ["squeue", "-h", "-o", "%i"]
            wait_until(lambda: says(*listed).split() == [other], seconds=30)
            assert says(*listed).split() == [other]
        finally:
            says("scancel", other)


@pytest.fixture(params=["-l arch=none"])
def hidden(site: Site, sge: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[Site]:
    """Yield a site whose options of qstat hide the jobs in long.q."""
    environment = {name: text for name, text in sge.items() if isinstance(text, str)}
    described(site, "sge", environment)
    site.sections["clusters"]["cluster"] |= {"lost_s": 2, "stalled_s": 5}
    site.write_config()
    options = Path(environment["SGE_ROOT"], "default", "common", "sge_qstat")
    options.write_text(f"{request.param}\n")
    try:
        yield site
    finally:
        options.unlink()
        for attempt in attempts(site):
            with contextlib.suppress(OSError):
                says(site, "qdel", str(attempt.job_id))


@pytest.mark.parametrize("hidden", ["-q all.q"], indirect=True)
def test_jobs_in_queues_that_the_site_leaves_out_of_qstat_are_listed(
    hidden: Site, wait_until: Wait
) -> None:
    """A job that waits sends no heartbeats, so it would be lost."""
    hidden.service("Watcher")
    submit(hidden, "w", UNTIL, partition="long.q")
    says(hidden, "qmod", "-d", "*")
    try:
        submit(hidden, "waits", UNTIL, partition="long.q")
        looks(hidden, wait_until, 12)
        seen = {each.job_name: (each.seen_state, each.missing) for each in attempts(hidden)}
    finally:
        says(hidden, "qmod", "-e", "*")
    assert seen["waits"] == ("pending", None)
    assert seen["w"] == ("running", None)


def test_a_job_that_qstat_does_not_list_runs_as_long_as_its_wrapper_is_heard(
    hidden: Site, wait_until: Wait
) -> None:
    hidden.service("Watcher")
    submit(hidden, "w", UNTIL, partition="long.q")
    seen = looks(hidden, wait_until, 12)
    assert {each.seen_state for each in seen} == {"running"}
    assert "its wrapper is heard" in str(seen[-1].seen_reason)
    assert (jobs(hidden)[0]["state"], jobs(hidden)[0]["cause"]) == (
        "running", seen[-1].seen_reason,
    )  # fmt: skip
    (hidden.directory / "w" / "ended").touch()
    job = concluded(hidden, wait_until, "w")
    assert (job["outcome"], job["witness"]) == ("success", "wrapper"), job
    assert told(hidden).keys() == {"success", "completed"}


def test_a_job_that_nobody_knows_of_is_ended_before_another_attempt_follows(
    hidden: Site, wait_until: Wait
) -> None:
    """It has no wrapper that could be heard."""
    hidden.service("Watcher")
    retry = {"retry": {"on": ["lost"]}}
    submit(hidden, "w", "true", retry, commands=UNTIL, partition="long.q")
    wait_until((hidden.directory / "w" / "begun").exists, seconds=60)
    job_id = str(attempts(hidden)[0].job_id)
    assert says(hidden, "qstat", "-j", job_id).returncode == 0
    job = concluded(hidden, wait_until, "w")
    assert job["outcome"] == "retried", job
    assert "the batch system knows nothing of it any more" in job["cause"]
    assert says(hidden, "qstat", "-j", job_id).returncode != 0, "it does not run any more"
