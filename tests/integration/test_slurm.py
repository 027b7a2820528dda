"""Recipe steps as jobs of a real Slurm: what it takes, refuses and says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import UNANSWERED
from zwrap.calls.ask import ask
from zwrap.errors import RejectedError, RequestError, UnknownOutcomeError
from zwrap.job import Resources, State
from zwrap.scheduler import Accepted, Rejected

from .batch import (
    DAILY,
    Batch,
    attempt_of,
    daily_keys,
    emptied,
    request_in,
    run_step,
    shown_by_scontrol,
    submit_once,
)
from .conftest import Site

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


@pytest.fixture
def batch(slurm: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    yield from emptied(Batch("slurm", {}))


def test_a_recipe_step_is_a_job_of_slurm(batch: Batch, site: Site, wait_until: Wait) -> None:
    working = site.directory / "w"
    site.settings["scheduler"] = "slurm"
    site.write_config()
    run_step(
        site, "echo on $SLURM_CPUS_PER_TASK >said", {"SLURM_CONF": os.environ["SLURM_CONF"]},
        job_name="hello", partition="main", cpus_per_task=2, memory_per_node=200,
        time_limit="0:05:00",
    )  # fmt: skip
    [submitted] = site.take("submitted")
    assert submitted["payload"]["scheduler"] == "slurm"
    job_id = str(submitted["payload"]["jobid"])
    [ended] = site.take("ended", seconds=60)
    assert ended["recipe-path"] == [1]
    assert ended["payload"] == "Finished processing", site.logs()
    status = wait_until(lambda: batch.recorded(job_id).get(job_id))
    assert (status.state, status.exit_code) == (State.COMPLETED, 0)
    assert status.name.startswith("hello.")
    assert (working / "said").read_text() == "on 2\n"


def test_render_lets_slurm_check_the_job(batch: Batch, site: Site) -> None:
    environment = {"SLURM_CONF": os.environ["SLURM_CONF"]}
    step = {"commands": "true", "scheduler": "slurm", "partition": "main"}
    recipe = {
        "start": [[1, []]],
        "1": {
            "queue": "cluster.submission",
            "parameters": {"cluster": step, "workingdir": str(site.directory)},
        },
    }
    file = site.recipes / "r.json"
    file.write_text(json.dumps(recipe))
    done = site.run("zwrap", "render", str(file), "--check", env=environment)
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --partition=main\n" in done.stdout
    assert "cluster slurm says: Job" in done.stderr
    file.write_text(json.dumps(recipe).replace('"main"', '"nope"'))
    done = site.run("zwrap", "render", str(file), "--check", env=environment)
    assert done.returncode == 100
    assert "Slurm would refuse the job: invalid partition specified: nope" in done.stderr


def test_awkward_names_and_paths(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    cluster = batch.scheduler
    directory = tmp_path / "with blanks, 100%j 'quotes' \"$HOME\" #and more"
    request = request_in(directory, environment={"A": "x y\n'z' $HOME %j"})
    request = replace(request, commands='echo "$A"; pwd')
    answer = ask(cluster.submit(request, batch.script_of(request)))
    assert isinstance(answer, Accepted), answer
    wait_until(lambda: batch.recorded(answer.job_id).get(answer.job_id))
    assert (directory / "out").read_text() == f"x y\n'z' $HOME %j\n{directory}\n"


def test_a_backslash_in_an_output_file_is_refused(batch: Batch, tmp_path: Path) -> None:
    cluster = batch.scheduler
    request = request_in(tmp_path / "a\\b")
    with pytest.raises(RequestError, match="takes a backslash"):
        cluster.submit(request, batch.script_of(request))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(partition="nope"), "Invalid partition name specified"),
        (Resources(memory_mib=10**7), "Requested node configuration is not available"),
        (Resources(cpus_per_task=9), "Requested node configuration is not available"),
        (Resources(constraints="nope"), "Invalid feature specification"),
        (Resources(gpus=9), "Requested node configuration is not available"),
    ],
)
def test_what_slurm_refuses_is_refused_with_its_words(
    batch: Batch, tmp_path: Path, resources: Resources, words: str
) -> None:
    cluster = batch.scheduler
    request = request_in(tmp_path / "w", resources=resources)
    answer = ask(cluster.submit(request, batch.script_of(request)))
    assert isinstance(answer, Rejected), answer
    assert words in answer.reason
    assert "\n" not in answer.reason


def a_node() -> str:
    argv = ["sinfo", "-h", "-N", "-o", "%N"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True)
    return listed.stdout.split()[0]


def test_what_a_step_asks_for_reaches_slurm(batch: Batch, tmp_path: Path) -> None:
    node = a_node()
    asked = replace(daily_keys(node), options={"spread-job": "", "wckey": "w"})
    shown = shown_by_scontrol(batch.submit(request_in(tmp_path / "w", resources=asked)))
    assert [text for text in (*DAILY, f"ReqNodeList={node}") if text not in shown] == [], shown


@pytest.mark.parametrize("zone", ["@", ""])
def test_a_job_does_not_start_before_its_time(batch: Batch, tmp_path: Path, zone: str) -> None:
    """A time without a zone is that of the cluster, here as in this process."""
    at = int(time.time()) + 7200
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
    asked = Resources(begin=f"@{at}" if zone else local)
    shown = shown_by_scontrol(batch.submit(request_in(tmp_path / "w", resources=asked)))
    assert f"StartTime={local}" in shown


def test_a_reservation_is_used(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    made = ["reservation=mine", "user=root", "starttime=now", "duration=5", f"nodes={a_node()}"]
    subprocess.run(["scontrol", "create", *made], check=True, capture_output=True)
    try:
        request = request_in(
            tmp_path / "w", commands="true", resources=Resources(reservation="mine")
        )
        job_id = batch.submit(request)
        assert "Reservation=mine" in shown_by_scontrol(job_id)
        wait_until(lambda: batch.recorded(job_id).get(job_id), seconds=60)
    finally:
        subprocess.run(["scontrol", "delete", "reservation=mine"], check=True)


def test_the_commands_hear_the_signal_before_the_end(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    """Slurm tells the shell of the job only."""
    heard = "trap 'echo heard; exit 7' USR1; touch ready; while :; do sleep 0.1; done"
    commands = f'bash -c "{heard}"; echo "status $?"; exit 3'
    asked = Resources(signal="USR1@60", walltime_s=600)
    job_id = batch.submit(request_in(tmp_path / "w", commands=commands, resources=asked))
    wait_until((tmp_path / "w" / "ready").exists, seconds=30)
    subprocess.run(["scancel", "-b", "-s", "USR1", job_id], check=True)
    status = wait_until(lambda: batch.recorded(job_id).get(job_id), seconds=60)
    assert (tmp_path / "w" / "out").read_text() == "heard\nstatus 7\n"
    assert (status.state, status.exit_code) == (State.FAILED, 3)


def test_a_job_past_its_time_limit(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    cluster = batch.scheduler
    request = request_in(tmp_path / "w", commands="sleep 120")
    answer = ask(cluster.submit(request, batch.script_of(request)))
    assert isinstance(answer, Accepted)
    job_id = answer.job_id
    wait_until(lambda: ask(cluster.states())[job_id].state is State.RUNNING)
    subprocess.run(["scontrol", "update", f"jobid={job_id}", "EndTime=now+1"], check=True)
    status = wait_until(lambda: batch.recorded(job_id).get(job_id), seconds=60)
    assert status.state is State.TIMEOUT


def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(
    batch: Batch, tmp_path: Path
) -> None:
    """A front that takes the job and then says that it timed out, as a hung controller does."""
    front = tmp_path / "bin" / "sbatch"
    front.parent.mkdir()
    front.write_text(
        f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null\necho >>{tmp_path}/calls\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv "
        "operation' >&2\nexit 1\n"
    )
    front.chmod(0o755)
    request = request_in(tmp_path / "w")
    script, ledger = batch.script_of(request), Ledger.in_file(tmp_path / "ledger")
    lossy = Batch("slurm", {}, programs=str(front.parent), settle_s=1).scheduler
    with pytest.raises(UnknownOutcomeError, match="Socket timed out"):
        submit_once(ledger, lossy, request, script, attempt_of(request))
    with pytest.raises(UnknownOutcomeError, match="may still be under way"):
        submit_once(ledger, lossy, request, script, attempt_of(request))
    time.sleep(1.1)
    job_id = submit_once(ledger, lossy, request, script, attempt_of(request))
    assert batch.jobs_named(request) == [job_id]
    assert (tmp_path / "calls").read_text().count("\n") == 1
    assert submit_once(ledger, lossy, request, script, attempt_of(request)) == job_id
    ledger.close()


def test_a_refusal_whose_answer_is_lost_is_a_refusal_when_it_is_asked_again(
    batch: Batch, tmp_path: Path
) -> None:
    """Slurm keeps a failed record of a job that it refused, which is no job."""
    request = request_in(tmp_path / "w", resources=Resources(memory_mib=10**7))
    script, ledger = batch.script_of(request), Ledger.in_file(tmp_path / "ledger")
    attempt = attempt_of(request)
    ledger.reserve([attempt])
    ledger.record({request.token: {"state": UNANSWERED}})  # its submitter did not get the answer
    ask(batch.scheduler.submit(request, script))
    assert batch.jobs_named(request) == []
    impatient = Batch("slurm", {}, settle_s=0).scheduler
    with pytest.raises(UnknownOutcomeError, match="looked for once more"):
        submit_once(ledger, impatient, request, script, attempt)
    with pytest.raises(RejectedError, match="Requested node configuration"):
        submit_once(ledger, impatient, request, script, attempt)
    ledger.close()


def test_what_the_cluster_allows(batch: Batch) -> None:
    cluster = batch.scheduler
    assert ask(cluster.limits()).array_size == 10000


def test_what_the_controller_forgot_is_in_the_accounting(
    slurm_accounting: dict[str, Any], tmp_path: Path, wait_until: Wait
) -> None:
    batch = Batch("slurm", {"SLURM_CONF": slurm_accounting["SLURM_CONF"]})
    good = request_in(tmp_path / "good", commands="true")
    bad = request_in(tmp_path / "bad", commands="exit 200")
    job_ids = [batch.submit(each) for each in (good, bad)]
    wait_until(lambda: len(batch.recorded(*job_ids)) == 2)
    assert batch.recorded(*job_ids)[job_ids[1]].exit_code == 200, "while it is in memory"
    wait_until(lambda: batch.recorded(*job_ids)[job_ids[1]].exit_code is None, seconds=90)
    ended = batch.recorded(*job_ids)
    assert [ended[each].state for each in job_ids] == [State.COMPLETED, State.FAILED]
    assert [ended[each].exit_code for each in job_ids] == [0, None], "200 is recorded as 72"
    assert batch.jobs_named(bad) == [job_ids[1]]
    assert batch.jobs_named(request_in(tmp_path / "other")) == []


def test_a_job_does_not_wait_for_a_login_shell(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    """Start-up files of the user's shell cannot hold a job up, and it sees what it is told."""
    request = request_in(tmp_path / "w", commands="env")
    job_id = batch.submit(request)
    wait_until(lambda: batch.recorded(job_id).get(job_id))
    told = dict(
        line.split("=", 1)
        for line in (tmp_path / "w" / "out").read_text().splitlines()
        if "=" in line
    )
    foreign = set(told) - {"HOME", "USER", "LOGNAME", "PATH", "PWD", "SHLVL", "_", "TMPDIR"}
    assert {name for name in foreign if not name.startswith("SLURM")} <= {
        "ENVIRONMENT",
        "HOSTNAME",
        "OLDPWD",
    }
    assert told["PATH"].endswith("/bin:/usr/local/bin:/usr/bin:/bin")


def test_gpus_are_given(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    request = request_in(
        tmp_path / "w", commands="echo $SLURM_JOB_GPUS", resources=Resources(gpus_per_node=2)
    )
    job_id = batch.submit(request)
    wait_until(lambda: batch.recorded(job_id).get(job_id))
    assert (tmp_path / "w" / "out").read_text() == "0,1\n"
