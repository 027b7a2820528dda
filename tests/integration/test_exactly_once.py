"""One job for each attempt, on real batch systems: whatever dies, hangs or is not answered."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.calls.ask import ask
from zwrap.errors import UnknownOutcomeError, UnreachableError
from zwrap.job import State
from zwrap.scheduler import Unknown

from .batch import Batch, attempt_of, emptied, request_in, submit_once

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


@pytest.fixture(params=["slurm", "slurmrest", "sge"])
def batch(request: pytest.FixtureRequest) -> Iterator[Batch]:
    kind = request.param
    rig = request.getfixturevalue(kind.removesuffix("rest"))
    if kind == "slurm":
        made = Batch(kind, {"SLURM_CONF": rig["SLURM_CONF"]}, settle_s=1, timeout_s=12)
    elif kind == "slurmrest":
        reach = {"url": rig["url"], "user_token": rig["user_token"]}
        made = Batch(kind, {}, settle_s=1, timeout_s=12, **reach)
    else:
        made = Batch(kind, rig, settle_s=1, timeout_s=12)
    yield from emptied(made)


class Controller:
    """The daemon that decides, which can be killed and comes again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._down = file.with_suffix(".down")

    @property
    def pid(self) -> int:
        return int(self._file.read_text())

    def kill(self) -> None:
        self._down.touch()
        os.kill(self.pid, signal.SIGKILL)

    def come_again(self) -> None:
        if not self._down.exists():
            return
        self._down.unlink()
        execd = self._file.with_name("execd.pid")
        if execd.exists():  # it would hear of a new qmaster half a minute later, or never
            os.kill(int(execd.read_text()), signal.SIGKILL)


@pytest.fixture
def controller(request: pytest.FixtureRequest, batch: Batch) -> Iterator[Controller]:
    rig = request.getfixturevalue(batch.kind.removesuffix("rest"))
    if batch.kind == "sge":
        found = Controller(Path(rig["SGE_ROOT"]).parent / "run" / "qmaster.pid")
    else:
        found = Controller(Path(rig["SLURM_CONF"]).parent / "run" / "slurmctld.pid")
    yield found
    found.come_again()
    deadline = time.monotonic() + 60
    while not answers(batch):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answers(batch: Batch) -> bool:
    with contextlib.suppress(UnreachableError):
        ask(batch.scheduler.states())
        return True
    return False


BEGINNING = """
import sys
from pathlib import Path
import msgspec
from msgspec.structs import replace
from zwrap.submission.clusters import Clusters
from zwrap.configuration.site import Configuration
from zwrap.job import JobRequest
from zwrap.attempt.record import Attempt
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.submission.pending import PendingJob
from zwrap.submission.submit import submit_all
place = Path(sys.argv[1])
request = msgspec.convert(msgspec.json.decode((place / "request.json").read_bytes()), JobRequest,
    strict=False, dec_hook=lambda kind, value: kind(value))
def job(token):
    attempt = Attempt(token=token, recipe_id="r", step=1, cluster="cluster",
        job_name=request.job_name, job_directory=str(place))
    return PendingJob(replace(request, token=token), place / "script", attempt)
def on_outcomes(outcomes):
    for _, outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        print(outcome)
site = Configuration.from_string((place / "site.yml").read_text()).activate()
scheduler = Clusters(site).get("cluster").scheduler
print("ready", flush=True)
ledger = Ledger.in_file(place / "ledger")
"""

SUBMITTER = f"""{BEGINNING}
submit_all(ledger, scheduler, [job(request.token)], on_outcomes)
"""

MOMENTS_MS = {
    "slurm": (0, 2, 4, 6, 8, 10, 12, 15, 20, 30),
    "slurmrest": (0, 10, 20, 40, 60, 80, 100, 120, 150, 200),
    "sge": (0, 5, 20, 40, 60, 80, 100, 120, 140, 160, 200, 300),  # its helper loads Python first
}


def of_its_own(place: Path) -> dict[str, str]:
    """Return the environment of a submitter whose host has no other one."""
    return {**os.environ, "ZWRAP_STATE": str(place / "state")}


def killed_after(delay_ms: float, program: str, place: Path) -> None:
    """Run a submitter, and kill it so long after it is ready."""
    command = [sys.executable, "-c", program, str(place)]
    env = of_its_own(place)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "ready\n"
        time.sleep(delay_ms / 1000)
        killed.kill()


def in_peace(program: str, place: Path) -> list[str]:
    """Run it until it can tell which jobs there are; their ids."""
    deadline = time.monotonic() + 60
    while True:
        again = subprocess.run(
            [sys.executable, "-c", program, str(place)],
            capture_output=True, text=True, check=False, env=of_its_own(place),
        )  # fmt: skip
        if again.returncode == 0:
            return again.stdout.split()[1:]
        waits = re.search("may still be under way|looked for once more|ended", again.stderr)
        assert waits, again.stderr
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_submitter_that_is_killed_anywhere_submits_once(batch: Batch, tmp_path: Path) -> None:
    without = 0
    for delay_ms in MOMENTS_MS[batch.kind]:
        request = request_in(tmp_path / f"w{delay_ms}")
        batch.script_of(request)
        text = msgspec.json.encode(request, enc_hook=str)
        (request.job_directory / "request.json").write_bytes(text)
        (request.job_directory / "site.yml").write_text(batch.site)
        killed_after(delay_ms, SUBMITTER, request.job_directory)
        without += not batch.jobs_named(request)
        submitted = in_peace(SUBMITTER, request.job_directory)
        assert batch.jobs_named(request) == submitted, f"{delay_ms} ms"
    assert without, "no kill came before the job was there"


ARRAY_SUBMITTER = f"""{BEGINNING}
jobs = [job(f"{{number:02d}}{{request.token[2:]}}") for number in range(10)]
submit_all(ledger, scheduler, jobs, on_outcomes, largest_array=100)
"""


def test_a_submitter_of_an_array_that_is_killed_anywhere_submits_each_once(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    without = 0
    for delay_ms in MOMENTS_MS[batch.kind]:
        request = request_in(tmp_path / f"w{delay_ms}", commands="sleep 60")
        batch.script_of(request)
        text = msgspec.json.encode(request, enc_hook=str)
        (request.job_directory / "request.json").write_bytes(text)
        (request.job_directory / "site.yml").write_text(batch.site)
        killed_after(delay_ms, ARRAY_SUBMITTER, request.job_directory)
        without += not ask(batch.scheduler.states())
        submitted = set(in_peace(ARRAY_SUBMITTER, request.job_directory))
        assert len(submitted) == 10
        assert ask(batch.scheduler.states()).keys() == submitted, f"{delay_ms} ms"
        ask(batch.scheduler.cancel(sorted(submitted)))
        wait_until(lambda: not ask(batch.scheduler.states()), seconds=60)
    assert without, "no kill came before the jobs were there"


LATE = """#!/bin/sh
[ -e {place}/slow ] || exec {real} "$@"
rm {place}/slow
echo $$ >{place}/began
{how}
"""

WAYS = {
    "begins late": 'sleep 4; exec {real} "$@"',
    "begins late, as a child": 'sleep 4; {real} "$@"; sleep 60',
    "is stopped before": '(sleep 4; kill -CONT $$) & kill -STOP $$; exec {real} "$@"',
    "does not end": '{real} "$@"; sleep 60',
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_submitter_had_called_submits_no_second_job(
    slurm: dict[str, Any], tmp_path: Path, wait_until: Wait, way: str
) -> None:
    """An sbatch may be a program of the site, and take its time."""
    real = shutil.which("sbatch")
    programs, request = tmp_path / "programs", request_in(tmp_path / "w", commands="sleep 1")
    programs.mkdir()
    how = WAYS[way].format(real=real)
    (programs / "sbatch").write_text(LATE.format(place=tmp_path, real=real, how=how))
    (programs / "sbatch").chmod(0o755)
    environment = {"SLURM_CONF": slurm["SLURM_CONF"]}
    batch = Batch("slurm", environment, settle_s=1, timeout_s=30, programs=str(programs))
    batch.script_of(request)
    text = msgspec.json.encode(request, enc_hook=str)
    (request.job_directory / "request.json").write_bytes(text)
    (request.job_directory / "site.yml").write_text(batch.site)
    (tmp_path / "slow").touch()
    command = [sys.executable, "-c", SUBMITTER, str(request.job_directory)]
    env = of_its_own(request.job_directory)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env) as killed:
        wait_until((tmp_path / "began").exists, seconds=30)
        time.sleep(0.5)
        killed.kill()
    submitted = in_peace(SUBMITTER, request.job_directory)
    time.sleep(5)
    assert batch.jobs_named(request) == submitted
    assert len(submitted) == 1


def test_a_controller_that_hangs_is_not_an_answer(
    batch: Batch, controller: Controller, tmp_path: Path, wait_until: Wait
) -> None:
    """Later it takes the job; the attempt finds it and submits no other."""
    request = request_in(tmp_path / "w", commands="sleep 1")
    script, ledger = batch.script_of(request), Ledger.in_file(tmp_path / "ledger")
    attempt = attempt_of(request)
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        with pytest.raises(UnknownOutcomeError, match="did not say whether it took the job"):
            submit_once(ledger, batch.scheduler, request, script, attempt)
        with pytest.raises(UnreachableError, match="could not be asked"):
            ask(batch.scheduler.states())
    finally:
        os.kill(controller.pid, signal.SIGCONT)
    job_id = wait_until(lambda: once(ledger, batch, request, script), seconds=60)
    assert wait_until(lambda: batch.jobs_named(request)) == [job_id]
    assert submit_once(ledger, batch.scheduler, request, script, attempt) == job_id
    ended = wait_until(lambda: batch.recorded(job_id), seconds=60)
    assert ended[job_id].state is State.COMPLETED
    assert batch.jobs_named(request) == [job_id]
    ledger.close()


def test_a_controller_that_is_killed_has_no_job_twice(
    batch: Batch, controller: Controller, tmp_path: Path, wait_until: Wait
) -> None:
    """Requests that a killed controller did not take are submitted once.

    The controller is away for seconds while messages come, and come again. What it took may be lost
    with it: Slurm saves its jobs every few seconds.
    """
    requests = [request_in(tmp_path / f"w{number}", commands="sleep 15") for number in range(5)]
    ledger = Ledger.in_file(tmp_path / "ledger")
    scripts = [batch.script_of(request) for request in requests]
    before = {
        request.token: once(ledger, batch, request, script)
        for request, script in zip(requests[:3], scripts[:3], strict=True)
    }
    assert all(before.values())
    controller.kill()
    for request, script in zip(requests, scripts, strict=True):
        assert once(ledger, batch, request, script) == before.get(request.token)
    controller.come_again()
    wait_until(lambda: answers(batch), seconds=60)
    for request, script in zip(requests, scripts, strict=True):
        wait_until(lambda each=request, file=script: once(ledger, batch, each, file), seconds=60)
    for request in requests:
        found = batch.jobs_named(request)
        lost = not found and request.token in before and batch.kind != "sge"
        assert lost or found == [ledger.get(request.token).job_id], request.token
    ledger.close()


def once(ledger: Ledger, batch: Batch, request: Any, script: Path) -> str | None:
    """Another try, as a redelivered message makes it."""
    try:
        return submit_once(ledger, batch.scheduler, request, script, attempt_of(request))
    except (UnknownOutcomeError, UnreachableError):
        return None


def test_a_cluster_that_is_not_there_takes_no_job_and_says_so(batch: Batch, tmp_path: Path) -> None:
    """Nobody listens: the answer is that nothing is known, and no job is there later."""
    environment = dict(batch.scheduler.options.environment)
    more = {}
    if batch.kind == "slurmrest":
        more["url"] = "http://127.0.0.1:1"
    elif batch.kind == "slurm":
        text = Path(environment["SLURM_CONF"]).read_text()
        file = tmp_path / "slurm.conf"
        file.write_text(text.replace("SlurmctldPort=", "SlurmctldPort=1 #"))
        environment["SLURM_CONF"] = str(file)
    else:
        environment["SGE_QMASTER_PORT"] = "1"
    away = Batch(batch.kind, environment, settle_s=0, **more)
    request = request_in(tmp_path / "w")
    question = away.scheduler.submit(request, away.script_of(request))
    assert isinstance(ask(question), Unknown)
    for question in (away.scheduler.states(), away.scheduler.find("x"), away.scheduler.limits()):
        with pytest.raises(UnreachableError, match="could not be asked"):
            ask(question)
    assert batch.jobs_named(request) == []
