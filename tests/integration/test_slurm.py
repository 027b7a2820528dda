"""Recipe steps as jobs of a real Slurm: each exactly once, whatever the controller does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from zwrap.errors import RequestError, UnknownOutcomeError, UnreachableError
from zwrap.job import JobRequest, Resources, State
from zwrap.ledger import Attempt, Ledger
from zwrap.scheduler import Accepted, Rejected, Scheduler, Unknown
from zwrap.submission import ask, load_scheduler, submit_once
from zwrap.template import Templates

from .conftest import Site

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


@pytest.fixture
def cluster(slurm: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    system = load_scheduler("slurm")
    yield system
    subprocess.run(["scancel", "--me"], check=False)
    deadline = time.monotonic() + 20
    while ask(system.states()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def request_in(directory: Path, name: str = "job", **values: Any) -> JobRequest:
    directory.mkdir(exist_ok=True)
    return JobRequest(
        **{
            "cluster": "slurm",
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


def script_of(request: JobRequest) -> Path:
    script = request.job_directory / "script"
    script.write_text(Templates().render("slurm.sh.j2", request))
    return script


def jobs_named(request: JobRequest) -> list[str]:
    told = subprocess.run(
        ["squeue", "-h", "-t", "all", f"--name={request.full_name}", "-o", "%i"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return told.stdout.split()


def attempt_of(request: JobRequest) -> Attempt:
    return Attempt(
        token=request.token, recipe_id="r", step=1, cluster="slurm", job_name=request.job_name,
        job_directory=str(request.job_directory),
    )  # fmt: skip


def test_a_recipe_step_is_a_job_of_slurm(cluster: Scheduler, site: Site, wait_until: Wait) -> None:
    working = site.directory / "w"
    site.settings["scheduler"] = "slurm"
    site.write_config()
    recipe = {
        "start": [[1, []]],
        "1": {
            "queue": "cluster.submission",
            "parameters": {
                "cluster": {
                    "commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP",
                    "job_name": "hello",
                    "partition": "main",
                    "cpus_per_task": 2,
                    "memory_per_node": 200,
                    "time_limit": "0:05:00",
                },
                "workingdir": str(working),
            },
            "job_parameters": {
                "command": ["sh", "-c", f"echo on $SLURM_CPUS_PER_TASK >{working}/said"]
            },
            "output": {"job_submitted": 2, "success": 3, "failure": 3},
        },
        "2": {"queue": "submitted"},
        "3": {"queue": "ended"},
    }
    (site.recipes / "r.json").write_text(json.dumps(recipe))
    environment = {"SLURM_CONF": os.environ["SLURM_CONF"]}
    site.run("zocalo.go", "--no-dcid", "-r", "r")
    site.run("zocalo.service", "-s", "Dispatcher", "--once")
    site.run("zocalo.service", "-s", "Submitter", "--once", env=environment)
    [submitted] = site.take("submitted")
    assert submitted["payload"]["scheduler"] == "slurm"
    job_id = str(submitted["payload"]["jobid"])
    [ended] = site.take("ended", seconds=60)
    assert ended["recipe-path"] == [1]
    assert ended["payload"] == "Finished processing", site.logs()
    status = wait_until(lambda: ask(cluster.accounting([job_id])).get(job_id))
    assert (status.state, status.exit_code) == (State.COMPLETED, 0)
    assert status.name.startswith("hello.")
    assert (working / "said").read_text() == "on 2\n"


def test_render_lets_slurm_check_the_job(cluster: Scheduler, site: Site) -> None:
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


def test_awkward_names_and_paths(cluster: Scheduler, tmp_path: Path, wait_until: Wait) -> None:
    directory = tmp_path / "with blanks, 100%j 'quotes' \"$HOME\" #and more"
    request = request_in(directory, environment={"A": "x y\n'z' $HOME %j"})
    request = replace(request, commands='echo "$A"; pwd')
    answer = ask(cluster.submit(request, script_of(request)))
    assert isinstance(answer, Accepted), answer
    wait_until(lambda: ask(cluster.accounting([answer.job_id])).get(answer.job_id))
    assert (directory / "out").read_text() == f"x y\n'z' $HOME %j\n{directory}\n"


def test_a_backslash_in_an_output_file_is_refused(cluster: Scheduler, tmp_path: Path) -> None:
    request = request_in(tmp_path / "a\\b")
    with pytest.raises(RequestError, match="takes a backslash"):
        cluster.submit(request, script_of(request))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(partition="nope"), "Invalid partition name specified"),
        (Resources(memory_mib=10**7), "Requested node configuration is not available"),
        (Resources(cpus_per_task=9), "Requested node configuration is not available"),
        (Resources(constraints="nope"), "Invalid feature specification"),
        (Resources(gpus=1), "Invalid generic resource (gres) specification"),
    ],
)
def test_what_slurm_refuses_is_refused_with_its_words(
    cluster: Scheduler, tmp_path: Path, resources: Resources, words: str
) -> None:
    request = request_in(tmp_path / "w", resources=resources)
    answer = ask(cluster.submit(request, script_of(request)))
    assert isinstance(answer, Rejected), answer
    assert words in answer.reason
    assert "\n" not in answer.reason


def test_a_job_past_its_time_limit(cluster: Scheduler, tmp_path: Path, wait_until: Wait) -> None:
    request = request_in(tmp_path / "w", commands="sleep 120")
    answer = ask(cluster.submit(request, script_of(request)))
    assert isinstance(answer, Accepted)
    job_id = answer.job_id
    wait_until(lambda: ask(cluster.states())[job_id].state is State.RUNNING)
    subprocess.run(["scontrol", "update", f"jobid={job_id}", "EndTime=now+1"], check=True)
    status = wait_until(lambda: ask(cluster.accounting([job_id])).get(job_id), seconds=60)
    assert status.state is State.TIMEOUT


def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(
    cluster: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A front that takes the job and then says that it timed out, as a hung controller does."""
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout
    front = tmp_path / "bin" / "sbatch"
    front.parent.mkdir()
    front.write_text(
        f'#!/bin/sh\n{real.strip()} "$@" >/dev/null\necho >>{tmp_path}/calls\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv "
        "operation' >&2\nexit 1\n"
    )
    front.chmod(0o755)
    request = request_in(tmp_path / "w")
    script, ledger = script_of(request), Ledger.in_file(tmp_path / "ledger")
    monkeypatch.setattr(cluster, "settle_s", 1.0)
    with monkeypatch.context() as lost:
        lost.setenv("PATH", f"{front.parent}:{os.environ['PATH']}")
        with pytest.raises(UnknownOutcomeError, match="Socket timed out"):
            submit_once(ledger, cluster, request, script, attempt_of(request))
        with pytest.raises(UnknownOutcomeError, match="may still be under way"):
            submit_once(ledger, cluster, request, script, attempt_of(request))
        time.sleep(1.1)
        job_id = submit_once(ledger, cluster, request, script, attempt_of(request))
    assert jobs_named(request) == [job_id]
    assert (tmp_path / "calls").read_text().count("\n") == 1
    assert submit_once(ledger, cluster, request, script, attempt_of(request)) == job_id
    ledger.close()


SUBMITTER = """
import sys
from pathlib import Path
from zwrap.job import JobRequest
from zwrap.ledger import Attempt, Ledger
from zwrap.submission import load_scheduler, submit_once
import msgspec
place = Path(sys.argv[1])
request = msgspec.convert(msgspec.json.decode((place / "request.json").read_bytes()), JobRequest,
    strict=False, dec_hook=lambda kind, value: kind(value))
attempt = Attempt(token=request.token, recipe_id="r", step=1, cluster="slurm",
    job_name=request.job_name, job_directory=str(place))
scheduler = load_scheduler("slurm")
scheduler.settle_s = 1.0  # this controller answers at once
print("ready", flush=True)
print(submit_once(Ledger.in_file(place / "ledger"), scheduler, request, place / "script", attempt))
"""


def test_a_submitter_that_is_killed_anywhere_submits_once(
    cluster: Scheduler, tmp_path: Path
) -> None:
    without = 0
    for delay_ms in (0, 2, 4, 6, 8, 10, 12, 15, 20, 30):
        request = request_in(tmp_path / f"w{delay_ms}")
        script_of(request)
        text = msgspec.json.encode(request, enc_hook=str)
        (request.job_directory / "request.json").write_bytes(text)
        command = [sys.executable, "-c", SUBMITTER, str(request.job_directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
            assert killed.stdout
            assert killed.stdout.readline() == "ready\n"
            time.sleep(delay_ms / 1000)
            killed.kill()
        without += not jobs_named(request)
        deadline = time.monotonic() + 20
        while True:
            again = subprocess.run(command, capture_output=True, text=True, check=False)
            if again.returncode == 0:
                break
            assert "may still be under way" in again.stderr, again.stderr
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert jobs_named(request) == [again.stdout.split()[-1]], f"killed after {delay_ms} ms"
    assert without, "no kill came before the job was there"


def test_a_controller_that_hangs_is_not_an_answer(
    slurm: dict[str, Any], cluster: Scheduler, tmp_path: Path, wait_until: Wait
) -> None:
    pid = int((Path(slurm["SLURM_CONF"]).parent / "run" / "slurmctld.pid").read_text())
    request = request_in(tmp_path / "w")
    script = script_of(request)
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = ask(cluster.submit(request, script))
        assert isinstance(answer, Unknown)
        assert "Socket timed out" in answer.reason
        with pytest.raises(UnreachableError, match="Slurm could not be asked"):
            ask(cluster.states())
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: len(jobs_named(request)) == 1)
    [found] = ask(cluster.find(request.full_name))
    assert [found.job_id] == jobs_named(request)


def test_what_the_cluster_allows(cluster: Scheduler) -> None:
    assert ask(cluster.limits()).array_size == 10001


def test_what_the_controller_forgot_is_in_the_accounting(
    slurm_accounting: dict[str, Any], tmp_path: Path, wait_until: Wait, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm_accounting["SLURM_CONF"])
    system = load_scheduler("slurm")
    good = request_in(tmp_path / "good", commands="true")
    bad = request_in(tmp_path / "bad", commands="exit 200")
    answers = [ask(system.submit(each, script_of(each))) for each in (good, bad)]
    job_ids = [answer.job_id for answer in answers if isinstance(answer, Accepted)]
    wait_until(lambda: len(ask(system.accounting(job_ids))) == 2)
    assert ask(system.accounting(job_ids))[job_ids[1]].exit_code == 200, "while it is in memory"
    wait_until(lambda: not jobs_named(good) and not jobs_named(bad), seconds=90)
    ended = ask(system.accounting(job_ids))
    assert [ended[each].state for each in job_ids] == [State.COMPLETED, State.FAILED]
    assert [ended[each].exit_code for each in job_ids] == [0, None], "200 is recorded as 72"
    assert [job.job_id for job in ask(system.find(bad.full_name))] == [job_ids[1]]
    assert ask(system.find(f"job.{os.urandom(16).hex()}-1")) == []
