"""Causes of death that Grid Engine tells apart: memory, crashed hosts and silent hosts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
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

ALLOCATES = """python3 -c 'x = bytearray({mib} << 20); __import__("time").sleep(4)'"""
THREE = " & ".join([ALLOCATES.format(mib=300)] * 3) + " & wait"


@pytest.fixture
def on_sge(site: Site, sge: dict[str, Any]) -> Site:
    """Return a site whose steps run on Grid Engine, with a Watcher at work."""
    described(site, "sge", {name: text for name, text in sge.items() if isinstance(text, str)})
    site.sections["clusters"]["cluster"] |= {"silent_hosts_s": 1, "stalled_s": 5, "give_up_s": 3}
    site.write_config()
    site.service("Watcher")
    return site


def says(site: Site, *command: str) -> str:
    environment = site.sections["clusters"]["cluster"]["environment"]
    path = f"{environment['PATH']}:{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, **environment, "PATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_processes_that_have_too_much_memory_together(on_sge: Site, wait_until: Wait) -> None:
    """Each has less than `h_vmem`; the job is ended as if its time were over. Tried with more."""
    retry = {"on": ["out_of_memory"], "memory_factor": 3}
    submit(on_sge, "w", f"{THREE}; echo x >>runs", {"retry": retry}, memory_per_node=700)
    first = concluded(on_sge, wait_until, "w")
    assert (first["outcome"], first["witness"]) == ("retried", "wrapper"), first
    assert "had more memory than the job may have" in first["cause"]
    assert first["cause"].endswith("tried again as attempt 2 with memory_per_node 2100.")
    second_attempt(on_sge, wait_until)
    assert (on_sge.directory / "w" / "runs").read_text() == "x\n"
    assert told(on_sge).keys() == {"success", "completed"}


def test_commands_that_have_too_much_memory(on_sge: Site, wait_until: Wait) -> None:
    """Only the accounting can tell the cause."""
    submit(on_sge, "bare", "true", commands=THREE, memory_per_node=700)
    job = concluded(on_sge, wait_until, "bare")
    assert job["outcome"] == "failure"
    assert "it ran out of memory before its wrapper began" in job["cause"]


def test_a_process_that_is_not_given_memory(on_sge: Site, wait_until: Wait) -> None:
    """`h_vmem` is a limit of its address space, too: it fails by itself."""
    submit(on_sge, "w", ALLOCATES.format(mib=900), memory_per_node=700)
    job = concluded(on_sge, wait_until, "w")
    assert (job["outcome"], job["witness"]) == ("failure", "wrapper")
    assert job["cause"].endswith("it exited with status 1, its last words: MemoryError")


def test_one_task_of_an_array_is_tried_again(on_sge: Site, wait_until: Wait) -> None:
    """It is tried by itself, with more time; the other tasks have succeeded."""
    names = ["w0", "w1", "w2"]
    command = "if [ $(basename $PWD) = w1 ]; then sleep 9; fi; echo x >>runs"
    retry = {"on": ["timeout"], "walltime_factor": 5}
    submit_together(on_sge, names, command, {"retry": retry}, time_limit=6)
    first = [job for job in jobs(on_sge) if job["token"].endswith("-1")]
    assert ["." in str(job["job_id"]) for job in first] == [False, True, True]
    one_is_tried_again(on_sge, wait_until, names, "time_limit 30.")


def end_all_of(site: Site, job_id: str, claim: dict[str, Any]) -> None:
    """Kill who watches over the job, its shell and its wrapper, as when the power is cut."""
    root = site.sections["clusters"]["cluster"]["environment"]["SGE_ROOT"]
    for pid in [
        *processes("sge_shepherd-" + job_id, root),
        *processes("/bin/bash", f"job_scripts/{job_id}", root),
        int(claim["process"].split("-")[-2]),
    ]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


RUNS_TWICE = "echo x >>runs; test $(wc -l <runs) -gt 1 || sleep 300"


def test_a_host_that_crashes_and_comes_again(on_sge: Site, wait_until: Wait) -> None:
    submit(on_sge, "w", RUNS_TWICE, {"retry": {"on": ["node_fail"]}})
    claim = wait_until(lambda: claim_of(on_sge, "w"), seconds=60)
    wait_until((on_sge.directory / "w" / "runs").exists, seconds=30)
    [job] = jobs(on_sge)
    end_all_of(on_sge, job["job_id"], claim)
    first = concluded(on_sge, wait_until, "w")
    assert (first["outcome"], first["witness"]) == ("retried", "cluster cluster"), first
    assert "its node failed" in first["cause"]
    second_attempt(on_sge, wait_until)
    assert told(on_sge).keys() == {"success", "completed"}


@pytest.fixture
def impatient(on_sge: Site, wait_until: Wait) -> Iterator[Site]:
    """Let the qmaster call a host silent after seconds, not after five minutes."""
    before = says(on_sge, "qconf", "-sconf")
    file = on_sge.directory / "global"

    def give(text: str) -> None:
        file.write_text(text)
        says(on_sge, "qconf", "-Mconf", str(file))

    give(re.sub(r"(max_unheard +)\S+", r"\g<1>00:00:10", before))
    yield on_sge
    give(before)
    wait_until(lambda: "<state>" not in says(on_sge, "qstat", "-f", "-qs", "u", "-xml"), seconds=60)


def test_a_host_that_does_not_answer_any_more(impatient: Site, wait_until: Wait) -> None:
    """Grid Engine says to the end of all days that the job runs."""
    submit(impatient, "w", RUNS_TWICE, {"retry": {"on": ["node_fail"]}})
    claim = wait_until(lambda: claim_of(impatient, "w"), seconds=60)
    wait_until((impatient.directory / "w" / "runs").exists, seconds=30)
    [job] = jobs(impatient)
    root = impatient.sections["clusters"]["cluster"]["environment"]["SGE_ROOT"]
    [execd] = processes("/usr/lib/gridengine/sge_execd", root)
    os.kill(execd, signal.SIGSTOP)
    try:
        end_all_of(impatient, job["job_id"], claim)
        [claimed] = (impatient.directory / "w" / ".zwrap").glob("*/claim.json")
        an_hour_ago = time.time() - 3600  # as of a job that runs for long
        os.utime(claimed, (an_hour_ago, an_hour_ago))
        first = concluded(impatient, wait_until, "w", seconds=120)
        assert (first["outcome"], first["witness"]) == ("retried", "cluster cluster"), first
        assert "its node failed (host" in first["cause"]
        assert "does not answer" in first["cause"]
    finally:
        os.kill(execd, signal.SIGCONT)
    second_attempt(impatient, wait_until)
    assert told(impatient).keys() == {"success", "completed"}
