"""Causes of death on Slurm, told apart: memory, time, nodes, other jobs, and what never starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .ends import (
    Wait,
    claim_of,
    concluded,
    described,
    one_is_tried_again,
    processes,
    second_attempt,
    submit,
    submit_together,
    told,
)
from .jobs import jobs

pytestmark = pytest.mark.slow

ALLOCATES = """python3 -c 'x = bytearray(300 << 20); __import__("time").sleep(3)'"""


@pytest.fixture
def on_slurm(site: Site, slurm: dict[str, Any]) -> Site:
    """Return a site whose steps run on Slurm, with a Watcher at work."""
    return watched(site, slurm)


def watched(site: Site, told_of: dict[str, Any]) -> Site:
    described(site, "slurm", {"SLURM_CONF": told_of["SLURM_CONF"]})
    site.service("Watcher")
    return site


def slurm_says(site: Site, *command: str) -> str:
    environment = site.sections["clusters"]["cluster"]["environment"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("kept_by", ["slurm", "slurm_cgroup"])
def test_out_of_memory(
    site: Site, request: pytest.FixtureRequest, wait_until: Wait, kept_by: str
) -> None:
    """The cause is the same whether Slurm finds the excess or the kernel.

    Slurm looks from time to time and kills the job; the kernel kills the program.
    """
    watched(site, request.getfixturevalue(kept_by))
    retry = {"on": ["out_of_memory"], "memory_factor": 3}
    submit(site, "w", f"{ALLOCATES} && echo x >>runs", {"retry": retry}, memory_per_node=200)
    first = concluded(site, wait_until, "w")
    assert first["outcome"] == "retried", first
    words = {
        "slurm": "it ran out of memory",
        "slurm_cgroup": "the kernel killed it for want of memory",
    }
    assert words[kept_by] in first["cause"]
    assert first["cause"].endswith("tried again as attempt 2 with memory_per_node 600.")
    second_attempt(site, wait_until)
    assert (site.directory / "w" / "runs").read_text() == "x\n"
    assert told(site).keys() == {"success", "completed"}


def test_a_wrapper_that_is_the_kernel_s_victim(
    site: Site, slurm_cgroup: dict[str, Any], wait_until: Wait
) -> None:
    """The wrapper is killed, so only the batch system can tell the cause."""
    watched(site, slurm_cgroup)
    victim = "echo -500 >/proc/$$/oom_score_adj; echo 1000 >/proc/$PPID/oom_score_adj"
    submit(site, "w", f"{victim}; {ALLOCATES}", memory_per_node=200)
    job = concluded(site, wait_until, "w")
    assert (job["outcome"], job["witness"]) == ("failure", "cluster cluster"), job
    assert "it ran out of memory" in job["cause"]
    assert told(site)["failure"] == [job["cause"]]


def test_one_task_of_an_array_is_tried_again(
    site: Site, slurm_cgroup: dict[str, Any], wait_until: Wait
) -> None:
    """It is tried by itself, with more memory; the other tasks have succeeded."""
    on_slurm = watched(site, slurm_cgroup)
    names = ["w0", "w1", "w2"]
    command = f"if [ $(basename $PWD) = w1 ]; then {ALLOCATES}; fi && echo x >>runs"
    retry = {"on": ["out_of_memory"], "memory_factor": 3}
    submit_together(on_slurm, names, command, {"retry": retry}, memory_per_node=200)
    first = [job for job in jobs(on_slurm) if job["token"].endswith("-1")]
    assert ["_" in str(job["job_id"]) for job in first] == [False, True, True]
    one_is_tried_again(on_slurm, wait_until, names, "memory_per_node 600.")


WHOLE = {"nodes": 2, "exclusive": True}


def test_a_preempted_program_goes_on_from_what_it_saved(on_slurm: Site, wait_until: Wait) -> None:
    # Slurm signals all processes: its child may end before the shell hears of that.
    saves = (
        "trap 'touch saved; exit 85' TERM; echo x >>runs;"
        " until test -e saved; do sleep 600 & wait; done"
    )
    submit(on_slurm, "w", saves, program={"checkpoint": {"signal": "TERM", "exit_status": [85]}},
           partition="yielding", **WHOLE)  # fmt: skip
    wait_until((on_slurm.directory / "w" / "runs").exists, seconds=60)
    submit(on_slurm, "other", "true", **WHOLE)
    first = concluded(on_slurm, wait_until, "w", attempt=1)
    assert (first["outcome"], first["witness"]) == ("retried", "wrapper"), first
    assert "It has saved what it had, and goes on as attempt 2" in first["cause"]
    second_attempt_of_two(on_slurm, wait_until)
    assert (on_slurm.directory / "w" / "runs").read_text() == "x\nx\n"
    assert told(on_slurm).keys() == {"success", "completed"}


def test_commands_that_another_job_preempts(on_slurm: Site, wait_until: Wait) -> None:
    submit(on_slurm, "bare", "true", commands="touch started; sleep 300", partition="yielding",
           **WHOLE)  # fmt: skip
    wait_until((on_slurm.directory / "bare" / "started").exists, seconds=60)
    submit(on_slurm, "other", "true", **WHOLE)
    job = concluded(on_slurm, wait_until, "bare")
    assert (job["outcome"], job["witness"]) == ("failure", "cluster cluster")
    assert "it was preempted by another job" in job["cause"]


def test_a_job_that_another_preempts(on_slurm: Site, wait_until: Wait) -> None:
    """A preempted job is cancelled for good: its policy has it tried again."""
    submit(on_slurm, "w", "echo x >>runs; test $(wc -l <runs) -gt 1 || sleep 600",
           {"retry": {"on": ["preempted"]}}, partition="yielding", **WHOLE)  # fmt: skip
    wait_until((on_slurm.directory / "w" / "runs").exists, seconds=60)
    submit(on_slurm, "other", "true", **WHOLE)
    first = concluded(on_slurm, wait_until, "w", attempt=1)
    assert first["outcome"] == "retried", first
    assert "preempted it for another job" in first["cause"]
    second_attempt_of_two(on_slurm, wait_until)
    assert {queue: len(each) for queue, each in told(on_slurm).items()} == {
        "success": 2, "completed": 2,
    }  # fmt: skip


def second_attempt_of_two(site: Site, wait_until: Wait) -> None:
    assert site.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    wait_until(lambda: [job["outcome"] for job in jobs(site)].count("success") == 2, seconds=90)


def test_a_node_that_dies(on_slurm: Site, slurm: dict[str, Any], wait_until: Wait) -> None:
    """A job on a node that died is tried again on another node.

    The node's slurmd does not answer any more, and all that ran there is gone; the job must not be
    requeued.
    """
    command = "echo $SLURMD_NODENAME >>nodes; test $(wc -l <nodes) -gt 1 || sleep 600"
    retry = {"on": ["node_fail"], "exclude_node": True}
    submit(on_slurm, "w", command, {"retry": retry})
    claim = wait_until(lambda: claim_of(on_slurm, "w"), seconds=60)
    nodes = on_slurm.directory / "w" / "nodes"
    node = wait_until(lambda: nodes.exists() and nodes.read_text().strip(), seconds=30)
    [job] = jobs(on_slurm)
    slurm_says(on_slurm, "scontrol", "update", f"jobid={job['job_id']}", "requeue=0")
    place = str(Path(slurm["SLURM_CONF"]).parent)
    [slurmd] = processes("slurmd", node, place)
    os.kill(slurmd, signal.SIGSTOP)
    try:
        for pid in [*processes("slurmstepd", f"[{job['job_id']}.", place),
                    int(claim["process"].split("-")[-2])]:  # fmt: skip
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        first = concluded(on_slurm, wait_until, "w", seconds=150)
        assert (first["outcome"], first["witness"]) == ("retried", "cluster cluster")
        assert "its node failed" in first["cause"]
        assert f"exclude {node}" in first["cause"]
        second_attempt(on_slurm, wait_until)
        assert len(set(nodes.read_text().split())) == 2
    finally:
        os.kill(slurmd, signal.SIGCONT)
        nodes_are_back(on_slurm, wait_until)


def nodes_are_back(site: Site, wait_until: Wait) -> None:
    """They come again by themselves (ReturnToService)."""
    wait_until(lambda: "down" not in slurm_says(site, "sinfo", "-h", "-o", "%t"), seconds=60)


def test_a_node_that_is_taken_down(on_slurm: Site, wait_until: Wait) -> None:
    """Its wrapper lives, and learns why it is stopped."""
    submit(on_slurm, "w", "touch started; sleep 300")
    wait_until((on_slurm.directory / "w" / "started").exists, seconds=60)
    [job] = jobs(on_slurm)
    node = slurm_says(on_slurm, "squeue", "-h", "-j", job["job_id"], "-o", "%N").strip()
    slurm_says(on_slurm, "scontrol", "update", f"jobid={job['job_id']}", "requeue=0")
    slurm_says(on_slurm, "scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        ended = concluded(on_slurm, wait_until, "w")
        assert (ended["outcome"], ended["witness"]) == ("failure", "wrapper")
        assert "its node failed, or was taken down" in ended["cause"]
    finally:
        nodes_are_back(on_slurm, wait_until)


def test_the_time_limit(on_slurm: Site, wait_until: Wait) -> None:
    """One job has a wrapper that gets the signal, the other has no wrapper."""
    submit(on_slurm, "wrapped", "sleep 300", time_limit="0:01:00")
    submit(on_slurm, "bare", "true", time_limit="0:01:00", commands="sleep 300")
    wrapped = concluded(on_slurm, wait_until, "wrapped", seconds=180)
    assert (wrapped["outcome"], wrapped["witness"]) == ("failure", "wrapper")
    assert "at the batch system's time limit of 60 s" in wrapped["cause"]
    bare = concluded(on_slurm, wait_until, "bare")
    assert (bare["outcome"], bare["witness"]) == ("failure", "cluster cluster")
    assert "it exceeded its time limit before its wrapper began" in bare["cause"]


def test_what_will_never_come(on_slurm: Site, wait_until: Wait) -> None:
    """Its time is over the partition's limit, which Slurm takes and never starts."""
    submit(on_slurm, "w", "touch started", partition="short", time_limit="0:10:00")
    job = concluded(on_slurm, wait_until, "w")
    assert job["outcome"] == "failure"
    assert "it can never start (PartitionTimeLimit)" in job["cause"]
    assert told(on_slurm)["failure"] == [job["cause"]]
    assert slurm_says(on_slurm, "squeue", "-h") == ""
    assert not (on_slurm.directory / "w" / "started").exists()


@pytest.mark.parametrize("how", ["requeue", "node", "preempted"])
def test_a_job_that_is_run_again_has_not_ended(on_slurm: Site, wait_until: Wait, how: str) -> None:
    """A person, a failed node or preemption requeues it; its second run tells how it ended."""
    runs = on_slurm.directory / "runs"
    command = f"echo $SLURMD_NODENAME >>{runs}; test $(wc -l <{runs}) -gt 1 || sleep 90"
    submit(on_slurm, "w", command, partition="requeued", nodes=1)
    node = wait_until(lambda: runs.exists() and runs.read_text().strip(), seconds=60)
    [job] = jobs(on_slurm)
    if how == "preempted":
        submit(on_slurm, "other", "true", nodes=2, exclusive=True)
    else:
        act = ["requeue", job["job_id"]]
        if how == "node":
            act = ["update", f"nodename={node}", "state=down", "reason=test"]
        slurm_says(on_slurm, "scontrol", *act)
    job = concluded(on_slurm, wait_until, "w", seconds=150)
    assert (job["outcome"], job["witness"]) == ("success", "wrapper")
    assert len(runs.read_text().split()) == 2
    count = 2 if how == "preempted" else 1
    assert {queue: len(each) for queue, each in told(on_slurm).items()} == {
        "success": count, "completed": count,
    }  # fmt: skip
