"""Recipe steps as jobs of a real Grid Engine: what it takes, refuses and says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.calls.ask import ask
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import Resources, State
from zwrap.scheduler import Accepted, Busy, Rejected

from .batch import Batch, emptied, request_in, run_step
from .conftest import Site
from .gridengine import configured

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


@pytest.fixture
def batch(sge: dict[str, str]) -> Iterator[Batch]:
    yield from emptied(Batch("sge", sge, accounting_lag_s=3))


def ended(batch: Batch, job_id: str, wait_until: Wait) -> Any:
    return wait_until(lambda: batch.recorded(job_id).get(job_id), seconds=60)


def running(batch: Batch, job_id: str, wait_until: Wait) -> None:
    def is_running() -> bool:
        status = ask(batch.scheduler.states()).get(job_id)
        return status is not None and status.state is State.RUNNING

    wait_until(is_running, seconds=30)


def with_step(site: Site, batch: Batch, command: str, **block: Any) -> None:
    """Write a site with this cluster, and a recipe whose only step runs a command on it."""
    site.settings["scheduler"] = "cluster"
    site.sections["clusters"] = batch.section
    site.write_config()
    run_step(site, command, **block)


def test_a_recipe_step_is_a_job_of_grid_engine(batch: Batch, site: Site, wait_until: Wait) -> None:
    with_step(
        site, batch, "echo on $NSLOTS in $QUEUE >said", job_name="hello", partition="long.q",
        cpus_per_task=2, memory_per_node=500, time_limit="0:05:00",
    )  # fmt: skip
    [submitted] = site.take("submitted")
    assert submitted["payload"]["scheduler"] == "cluster"
    job_id = str(submitted["payload"]["jobid"])
    [body] = site.take("ended", seconds=60)
    assert body["payload"] == "Finished processing", site.logs()
    status = ended(batch, job_id, wait_until)
    assert (status.state, status.exit_code) == (State.COMPLETED, 0)
    assert status.name.startswith("hello.")
    assert (site.directory / "w" / "said").read_text() == "on 2 in long.q\n"


def test_a_deleted_job_tells_its_recipe(batch: Batch, site: Site, wait_until: Wait) -> None:
    with_step(site, batch, "touch started; sleep 60")
    [submitted] = site.take("submitted")
    job_id = str(submitted["payload"]["jobid"])
    wait_until((site.directory / "w" / "started").exists, seconds=30)
    began = time.monotonic()
    ask(batch.scheduler.cancel([job_id]))
    [body] = site.take("ended", seconds=30)
    assert "SIGUSR2" in json.dumps(body["payload"])
    assert ended(batch, job_id, wait_until).state is State.CANCELLED
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(partition="nosuch.q"), 'job requests unknown queue "nosuch.q"'),
        (Resources(account="nosuch"), 'the requested project "nosuch" does not exist'),
        (Resources(constraints="nosuch=1"), 'unknown resource "nosuch"'),
        (Resources(gpus=3), "(-l gpu=3) cannot run at host"),
        (Resources(cpus_per_task=99), 'cannot run in PE "smp" because it only offers'),
        (Resources(constraints="mem_total=99999G"), "because it offers only hl:mem_total="),
    ],
)
def test_what_grid_engine_refuses_is_refused_with_its_words(
    batch: Batch, tmp_path: Path, resources: Resources, words: str
) -> None:
    request = request_in(tmp_path / "w", resources=resources)
    answer = ask(batch.scheduler.submit(request, batch.script_of(request)))
    assert isinstance(answer, Rejected), answer
    assert words in answer.reason
    assert "\n" not in answer.reason
    assert batch.jobs_named(request) == []


def test_what_a_site_calls_its_resources(sge: dict[str, str], tmp_path: Path) -> None:
    other = Batch("sge", sge, parallel_environment="nosuch")
    request = request_in(tmp_path / "w", resources=Resources(tasks=2))
    answer = ask(other.scheduler.submit(request, other.script_of(request)))
    assert isinstance(answer, Rejected)
    assert 'parallel environment "nosuch" does not exist' in answer.reason


def test_what_a_step_asks_for_reaches_grid_engine(
    batch: Batch, sge: dict[str, str], tmp_path: Path
) -> None:
    asked = Resources(
        cpus_per_task=2, max_slots=4, comment="i03", nice=5, requeue=True, mail="nobody@localhost",
        mail_on="begin,fail", begin="2036-11-28T20:00:00", licenses="gpu:1", options={"js": "7"},
    )  # fmt: skip
    job_id = batch.submit(request_in(tmp_path / "w", resources=asked))
    shown = subprocess.run(
        ["qstat", "-j", job_id], env={**os.environ, **sge}, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    expected = [
        r"parallel environment:\s+smp range: 2-4", r"context:\s+comment=i03", r"priority:\s+-5",
        r"restart:\s+y", r"mail_list:\s+nobody@localhost",
        r"execution_time:\s+\w+ Nov 28 20:00:00 2036",
        r"hard resource_list:.*gpu=1", r"jobshare:\s+7",
    ]  # fmt: skip
    assert [each for each in expected if not re.search(each, shown)] == [], shown


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(qos="high"), "no quality of service: remove the key 'qos'"),
        (Resources(prefer="x"), "remove the key 'prefer'"),
        (Resources(nodes=2), "remove the key 'nodes'"),
        (Resources(constraints="gpu&big"), "such as 'arch=lx-amd64,os=debian12'"),
        (Resources(memory_mib=1, memory_per_cpu_mib=1), "Give one of 'memory_per_node' and"),
    ],
)
def test_what_cannot_be_expressed_is_refused(
    batch: Batch, tmp_path: Path, resources: Resources, words: str
) -> None:
    request = request_in(tmp_path / "w", resources=resources)
    with pytest.raises(RequestError, match=words.replace("(", r"\(")):
        batch.scheduler.submit(request, batch.script_of(request))


def test_a_host_that_is_in_use_is_waited_for(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    """Grid Engine's own verification takes it for one that can never be had."""
    alone = request_in(tmp_path / "a", commands="sleep 60", resources=Resources(exclusive=True))
    first = batch.submit(alone)
    running(batch, first, wait_until)
    small = request_in(tmp_path / "b", resources=Resources(gpus=1))
    second = batch.submit(small)
    assert ask(batch.scheduler.states())[second].state is State.PENDING
    ask(batch.scheduler.cancel([first]))
    assert ended(batch, second, wait_until).state is State.COMPLETED


def test_awkward_paths_and_values(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    directory = tmp_path / "with blanks, co:lon 'quotes' \"double\" #and %more *\\"
    request = request_in(directory, environment={"A": "x y\n'z' $HOME"}, commands='echo "$A"; pwd')
    assert ended(batch, batch.submit(request), wait_until).state is State.COMPLETED
    assert (directory / "out").read_text() == f"x y\n'z' $HOME\n{directory}\n"


def test_a_path_that_would_be_changed_is_refused(batch: Batch, tmp_path: Path) -> None:
    request = request_in(tmp_path / "$USER")
    with pytest.raises(RequestError, match="replaces what follows"):
        batch.scheduler.submit(request, batch.script_of(request))


@pytest.mark.parametrize("code", [99, 100])
def test_an_exit_status_with_a_meaning_of_its_own_is_none(
    batch: Batch, tmp_path: Path, wait_until: Wait, code: int
) -> None:
    """99 would run the job again, 100 would keep it for a person."""
    request = request_in(tmp_path / "w", commands=f"echo ran; exit {code}")
    status = ended(batch, batch.submit(request), wait_until)
    assert (status.state, status.exit_code) == (State.FAILED, 1)
    assert (tmp_path / "w" / "out").read_text() == "ran\n"


def test_a_job_past_its_time_limit(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    limit = Resources(walltime_s=2)
    request = request_in(tmp_path / "w", commands="sleep 60", resources=limit)
    status = ended(batch, batch.submit(request), wait_until)
    assert status.state is State.TIMEOUT
    assert "h_rt" in status.reason


def test_an_output_that_cannot_be_written_says_so(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    """A job of DRMAA ends where one of qsub would wait for a person."""
    request = request_in(tmp_path / "w", standard_output=Path("/nonexistent/out"))
    status = ended(batch, batch.submit(request), wait_until)
    assert (status.state, status.reason) == (State.FAILED, "failed 26: opening input/output file")


def test_a_job_in_an_error_state_is_hopeless_and_says_why(
    batch: Batch, sge: dict[str, str], wait_until: Wait
) -> None:
    """`Eqw`: it waits for a person, for ever if none comes."""
    job_id = in_error(sge)
    status = wait_until(
        lambda: (job := ask(batch.scheduler.states()).get(job_id)) and job.stuck and job
    )
    assert status.state is State.PENDING
    assert status.reason == (
        'error state: error: can\'t open output file "/nonexistent/out": No such file or directory'
    )
    assert batch.recorded(job_id, gone_s=3600) == {}, "a person may still start it"


def in_error(sge: dict[str, str]) -> str:
    command = ["qsub", "-terse", "-b", "y", "-o", "/nonexistent/out", "true"]
    done = subprocess.run(
        command, env={**os.environ, **sge}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_many_jobs_are_asked_for_at_once(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    requests = [request_in(tmp_path / f"w{code}", commands=f"exit {code}") for code in range(5)]
    job_ids = [batch.submit(request) for request in requests]
    wait_until(lambda: len(batch.recorded(*job_ids)) == 5, seconds=60)
    found = batch.recorded(*job_ids, "999999")
    assert [found[job_id].exit_code for job_id in job_ids] == [0, 1, 2, 3, 4]


def test_a_limit_on_jobs_is_no_refusal(batch: Batch, sge: dict[str, str], tmp_path: Path) -> None:
    given = configured(sge, tmp_path, "max_u_jobs", "1")
    try:
        batch.submit(request_in(tmp_path / "a", commands="sleep 60"))
        request = request_in(tmp_path / "b")
        answer = ask(batch.scheduler.submit(request, batch.script_of(request)))
        assert isinstance(answer, Busy)
        assert "only 1 jobs are allowed per user" in answer.reason
        assert ask(batch.scheduler.limits()).submitted_jobs == 1
    finally:
        configured(sge, tmp_path, "max_u_jobs", given)
    assert ask(batch.scheduler.limits()).array_size == 75000
    assert isinstance(ask(batch.scheduler.submit(request, batch.script_of(request))), Accepted)


def test_without_the_library_no_message_is_lost(sge: dict[str, str], tmp_path: Path) -> None:
    """A broken installation on the submit host is no property of the message."""
    broken = Batch("sge", {**sge, "DRMAA_LIBRARY_PATH": "/nonexistent/libdrmaa.so"})
    request = request_in(tmp_path / "w")
    with pytest.raises(UnreachableError, match=r"DRMAA library cannot be loaded: .*nonexistent"):
        ask(broken.scheduler.submit(request, broken.script_of(request)))
