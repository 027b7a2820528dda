"""Recipe steps as jobs of a real Slurm through a real slurmrestd."""

from __future__ import annotations

import base64
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from zwrap_schedulers.slurm.rest import SlurmRest

from zwrap.calls.ask import ask
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import Resources, State
from zwrap.scheduler import Accepted, Rejected

from .batch import DAILY, Batch, daily_keys, emptied, request_in, run_step, shown_by_scontrol
from .conftest import Site

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


def reach(slurm: dict[str, Any], **options: Any) -> Batch:
    """Return a cluster of which only the URL and the token are known."""
    return Batch("slurmrest", {}, **{k: slurm[k] for k in ("url", "user_token")} | options)


@pytest.fixture
def batch(slurm: dict[str, Any]) -> Iterator[Batch]:
    yield from emptied(reach(slurm))


def ended(batch: Batch, job_id: str, wait_until: Wait) -> Any:
    return wait_until(lambda: batch.recorded(job_id).get(job_id), seconds=60)


def test_the_section_of_zocalo_is_a_cluster(
    slurm: dict[str, Any], site: Site, wait_until: Wait
) -> None:
    """A site file of python-zocalo: plugin `slurm`, and steps that say so."""
    site.sections["slurm"] = {
        "plugin": "slurm", "url": slurm["url"], "api_version": slurm["api_version"],
        "user": "root",
        "user_token": slurm["user_token"],
    }  # fmt: skip
    site.write_config()
    run_step(
        site, "echo on $SLURM_CPUS_PER_TASK >said", scheduler="slurm", partition="main",
        cpus_per_task=2, memory_per_node=200, time_limit="0:05:00", exclusive=True,
    )  # fmt: skip
    [body] = site.take("ended", seconds=60)
    assert body["payload"] == "Finished processing", site.logs()
    assert (site.directory / "w" / "said").read_text() == "on 2\n"
    listed = site.run("zwrap", "jobs").stdout
    assert "success" in listed


def test_a_job_has_as_many_nodes_as_it_asks_for(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    request = request_in(
        tmp_path / "w", commands="echo $SLURM_NNODES", resources=Resources(nodes=2, exclusive=True)
    )
    assert ended(batch, batch.submit(request), wait_until).state is State.COMPLETED
    assert (tmp_path / "w" / "out").read_text() == "2\n"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(partition="nope"), "Invalid partition name specified"),
        (Resources(memory_mib=10**7), "Requested node configuration is not available"),
        (Resources(constraints="nope"), "Invalid feature specification"),
        (Resources(gpus=9), "Requested node configuration is not available"),
    ],
)
def test_what_slurm_refuses_is_refused_with_its_words(
    batch: Batch, tmp_path: Path, resources: Resources, words: str
) -> None:
    request = request_in(tmp_path / "w", resources=resources)
    answer = ask(batch.scheduler.submit(request, batch.script_of(request)))
    assert isinstance(answer, Rejected), answer
    assert words in answer.reason
    assert batch.jobs_named(request) == []


def test_what_a_step_asks_for_reaches_slurm(
    batch: Batch, slurm: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    node = slurm["nodes"][0]
    asked = replace(daily_keys(node), signal=None)
    shown = shown_by_scontrol(batch.submit(request_in(tmp_path / "w", resources=asked)))
    shown = shown.replace("TresPerNode=gres/", "TresPerNode=gres:")  # of later versions
    assert [text for text in (*DAILY, f"ReqNodeList={node}") if text not in shown] == [], shown
    at = int(time.time()) + 7200
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
    for number, begin in enumerate((f"@{at}", local)):
        request = request_in(tmp_path / f"b{number}", resources=Resources(begin=begin, priority=9))
        assert f"StartTime={local}" in shown_by_scontrol(batch.submit(request))


def test_what_a_template_adds_is_not_lost(batch: Batch, tmp_path: Path) -> None:
    request = request_in(tmp_path / "w")
    script = batch.script_of(request)
    script.write_text(script.read_text().replace("#!/bin/bash\n", "#!/bin/bash\n#SBATCH --hold\n"))
    with pytest.raises(RequestError, match="'#SBATCH --hold' of the job script cannot be given"):
        batch.scheduler.submit(request, script)


def test_awkward_names_and_paths(batch: Batch, tmp_path: Path, wait_until: Wait) -> None:
    directory = tmp_path / "with blanks, 100%j 'quotes' \"$HOME\" #and more"
    request = request_in(directory, environment={"A": "x y\n'z' $HOME %j"})
    request = replace(request, commands='echo "$A"; pwd')
    assert ended(batch, batch.submit(request), wait_until).state is State.COMPLETED
    assert (directory / "out").read_text() == f"x y\n'z' $HOME %j\n{directory}\n"


def token_until(expires: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(expires), "sun": "root"}).encode())
    return f"eyJhbGciOiJIUzI1NiJ9.{claims.decode().rstrip('=')}.c2lnbmF0dXJl"


def test_a_version_that_the_server_serves_no_longer_is_found_out_anew(
    batch: Batch, tmp_path: Path, wait_until: Wait
) -> None:
    rest = batch.scheduler
    assert isinstance(rest, SlurmRest)
    for ask_it in (rest.states, lambda: rest.find("nobody"), rest.limits):
        rest._version = "v0.0.30"  # found out before the server was upgraded
        ask(ask_it())
        assert rest._version != "v0.0.30"
    rest._version = "v0.0.30"
    job_id = batch.submit(request_in(tmp_path))
    assert ended(batch, job_id, wait_until)


def test_a_token_is_read_when_it_changes(slurm: dict[str, Any], tmp_path: Path) -> None:
    """An expired one is said to be that; nothing is sent, and the next message may go through."""
    file = tmp_path / "token"
    batch = reach(slurm, user_token=str(file))
    with pytest.raises(UnreachableError, match=rf"'cluster' in {file} cannot be read: No such"):
        ask(batch.scheduler.states())
    file.write_text(token_until(time.time() - 60))
    with pytest.raises(UnreachableError, match=rf"in {file} expired on .*`scontrol token"):
        ask(batch.scheduler.states())
    file.write_text("two words")
    with pytest.raises(UnreachableError, match="is not a valid token"):
        ask(batch.scheduler.states())
    file.write_text(f"SLURM_JWT={Path(slurm['user_token']).read_text()}")
    assert ask(batch.scheduler.states()) == {}


def test_a_token_that_slurm_does_not_take_is_no_refusal_of_the_job(
    slurm: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    token = token_until(time.time() + 3600)
    batch = reach(slurm, user_token=token, api_version=slurm["api_version"])
    request = request_in(tmp_path / "w")
    answer = ask(batch.scheduler.submit(request, batch.script_of(request)))
    assert not isinstance(answer, (Accepted, Rejected)), answer
    assert "expires on" in caplog.text
    with pytest.raises(UnreachableError, match="slurmrestd could not be asked"):
        ask(batch.scheduler.states())


def test_the_command_line_helps_out(
    slurm: dict[str, Any], tmp_path: Path, wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    away = Batch(
        "slurmrest", {"SLURM_CONF": slurm["SLURM_CONF"]}, url="http://127.0.0.1:1",
        user_token=slurm["user_token"], command_line=True,
    )  # fmt: skip
    request = request_in(tmp_path / "w", commands="exit 3")
    status = ended(away, away.submit(request), wait_until)
    assert (status.state, status.exit_code) == (State.FAILED, 3)
    assert "slurmrestd of cluster cluster is away" in caplog.text
    assert ask(away.scheduler.limits()).array_size == 10000
    assert ask(away.scheduler.verify(request, away.script_of(request))).startswith("Job ")


def test_what_the_controller_forgot_is_in_the_accounting(
    slurm_accounting: dict[str, Any], tmp_path: Path, wait_until: Wait
) -> None:
    batch = reach(slurm_accounting)
    requests = [request_in(tmp_path / f"w{code}", commands=f"exit {code}") for code in (0, 200)]
    job_ids = [batch.submit(each) for each in requests]
    wait_until(lambda: len(batch.recorded(*job_ids)) == 2)
    assert batch.recorded(*job_ids)[job_ids[1]].exit_code == 200
    forgotten = lambda: batch.recorded(*job_ids)[job_ids[1]].exit_code is None  # noqa: E731
    wait_until(forgotten, seconds=90)
    found = batch.recorded(*job_ids)
    assert [found[each].state for each in job_ids] == [State.COMPLETED, State.FAILED]
    assert [found[each].exit_code for each in job_ids] == [0, None], "it says 0 of all"
    assert batch.jobs_named(requests[1]) == [job_ids[1]]
    assert batch.jobs_named(request_in(tmp_path / "other")) == []
    assert os.environ.get("SLURM_CONF") is None, "nothing but the URL was known"
