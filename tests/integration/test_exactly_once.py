"""One job for each attempt, on real batch systems whose controller dies, hangs or is not there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    """No controller listens, so the outcome is unknown, and later there is no job."""
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
