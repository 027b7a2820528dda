"""An upgrade under load: today's services conclude the jobs of the last release, each once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .ends import QUEUES, WRAP, Wait, claim_of, processes, submit, submit_together
from .jobs import on_cluster, run
from .release import Installation, last_commit, wheel_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default:No commit before this one")]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of the last release."""
    return wheel_of(last_commit(), tmp_path_factory.mktemp("release"))


@pytest.fixture
def installed(site: Site, wheel: Path) -> Installation:
    """Install the last release; all commands of the site are its own."""
    installation = Installation(site.directory / "installed", wheel)
    site.bin = installation.bin
    return installation


def kill_wrapper(site: Site, name: str) -> None:
    claim = claim_of(site, name)
    assert claim
    os.kill(int(claim["process"].split("-")[-2]), signal.SIGKILL)


def kill_shepherd(site: Site, name: str) -> None:
    """Of the built-in batch system, to which the machine then seems to have failed."""
    claim = claim_of(site, name)
    assert claim
    job = site.directory / "state" / "localbatch" / "running" / claim["job_id"]
    shepherd = json.loads((job / "shepherd.json").read_text())
    os.kill(int(shepherd.split("-")[-2]), signal.SIGKILL)


@pytest.fixture(params=["local", "slurm"])
def kind(request: pytest.FixtureRequest, site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the kind of the site's batch system, which is called `cluster`."""
    described: dict[str, Any] = {"kind": request.param, "watch_s": 0.5}
    if request.param == "slurm":
        told = request.getfixturevalue("slurm")
        described["environment"] = {"SLURM_CONF": told["SLURM_CONF"]}
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "4")
    on_cluster(site, **described)
    return str(request.param)


WHOLE: dict[str, dict[str, Any]] = {
    "local": {"cpus_per_task": 4}, "slurm": {"nodes": 2, "exclusive": True},
}  # fmt: skip
"""Keys of the cluster block of a job beside which no other runs."""

SECOND_TIME = "echo x >>runs; test $(wc -l <runs) -gt 1"


def said(site: Site) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Return what was sent for which step to which queue, and the ids of all these messages."""
    transport = site.transport()
    for queue in QUEUES:
        transport.subscribe(queue, prefetch=10)
    heard, ids = [], []
    while delivery := transport.receive(0.3):
        heard.append((delivery.message.body["environment"]["ID"], str(delivery.source)))
        ids.append(str(delivery.message.headers["zwrap-id"]))
        delivery.ack()
    transport.close()
    return Counter(heard), ids


def outcomes(site: Site) -> dict[str, list[str | None]]:
    """Return the outcomes of the attempts at each step, the first attempt first."""
    found: dict[str, dict[str, str | None]] = {}
    for job in map(json.loads, run(site, "jobs", "--json").stdout.splitlines()):
        attempts = found.setdefault(Path(job["job_directory"]).parts[-3], {})
        attempts[job["token"].rpartition("-")[2]] = job["outcome"]
    return {step: [of[each] for each in sorted(of)] for step, of in found.items()}


def test_jobs_of_the_last_release_are_concluded_once(
    site: Site, kind: str, installed: Installation, wait_until: Wait
) -> None:
    """Jobs that ended unseen, one that runs and one that waits."""
    # Ended: by themselves, killed, and to be tried again.
    submit_together(site, ["well", "killed"], "test $(basename $PWD) = well || sleep 300", {})
    submit(site, "badly", "exit 3")
    if kind == "local":
        submit(site, "again", f"{SECOND_TIME} || sleep 300", {"retry": {"on": ["node_fail"]}})
    else:
        allocates = "python3 -c 'x = bytearray(300 << 20); __import__(\"time\").sleep(3)'"
        submit(site, "again", f"{SECOND_TIME} || {allocates}",
               {"retry": {"on": ["out_of_memory"]}}, memory_per_node=200)  # fmt: skip
    for name in ("killed", "again"):
        wait_until(lambda name=name: claim_of(site, name), seconds=60)
    wait_until((site.directory / "again" / "runs").exists, seconds=60)
    kill_wrapper(site, "killed")
    if kind == "local":
        kill_shepherd(site, "again")
    # Running and waiting.
    # The old wrapper loads today's parsers when its program ends.
    parsed = {
        "a": {"file": "out.json", "parser": "json"},
        "b": {"file": "stdout", "parser": "text"},
    }
    submit(site, "running", "until test -e go; do sleep 0.1; done; echo 1 | tee out.json",
           program={"outputs": parsed}, **WHOLE[kind])  # fmt: skip
    running = wait_until(lambda: claim_of(site, "running"), seconds=90)
    submit(site, "waiting", "true", **WHOLE[kind])
    assert claim_of(site, "waiting") is None
    assert outcomes(site).keys() == {"well", "killed", "badly", "again", "running", "waiting"}

    installed.upgrade()

    for name in ("Watcher", "Watcher", "Submitter"):
        site.service(name)
    wait_until(lambda: len(outcomes(site)["again"]) == 2, seconds=60)
    assert claim_of(site, "running") == running
    (site.directory / "running" / "go").touch()
    expected: dict[str, list[str | None]] = {
        "well": ["success"], "killed": ["failure"], "badly": ["failure"],
        "again": ["retried", "success"], "running": ["success"], "waiting": ["success"],
    }  # fmt: skip
    wait_until(lambda: outcomes(site) == expected, seconds=90)
    heard, ids = said(site)
    good, bad = ("success", "completed"), ("failure", "completed", "errors")
    assert heard == Counter(
        (name, queue) for name, ends in expected.items()
        for queue in (good if ends[-1] == "success" else bad)
    )  # fmt: skip
    assert len(set(ids)) == len(ids)
    assert (site.directory / "again" / "runs").read_text() == "x\nx\n"


def test_verdicts_of_the_last_release_are_told_whoever_dies(
    site: Site, installed: Installation, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts of jobs of the last release are reported by today's Watcher.

    One came as a message; the wrapper of another was killed before it could send anything; a job
    that waited is run by today's runner.
    """
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "1")
    far = {"kind": "local", "watch_s": 0.5, "shared_filesystem": False,
           "defaults": {"environment": {"PATH": f"{installed.bin}:/usr/bin:/bin"}}}  # fmt: skip
    on_cluster(site, kind="local", watch_s=0.5)
    site.sections["clusters"]["far"] = far
    site.write_config()
    submit(site, "far", "true", commands=f'HERE=$PWD; {WRAP}; cd /; rm -rf "$HERE"',
           scheduler="far")  # fmt: skip
    wait_until(lambda: site.transport().inspector().waiting("zwrap.verdict"), seconds=60)

    submit(site, "unsent", "until test -e go; do sleep 0.1; done")
    wait_until(lambda: claim_of(site, "unsent"), seconds=60)
    submit(site, "waiting", "true")
    away = site.spool.rename(site.directory / "away")
    site.spool.touch()  # so that none is made
    (site.directory / "unsent" / "go").touch()
    verdicts = (site.directory / "unsent").glob
    wait_until(lambda: list(verdicts(".zwrap/*/verdict.json")), seconds=60)
    os.kill(runner_of(site), signal.SIGKILL)
    kill_wrapper(site, "unsent")
    site.spool.unlink()
    away.rename(site.spool)
    assert not list(verdicts(".zwrap/*/verdict.sent"))

    installed.upgrade()

    for name in ("Watcher", "Watcher"):
        site.service(name)
    expected = {"far": ["success"], "unsent": ["success"], "waiting": ["success"]}
    wait_until(lambda: outcomes(site) == expected, seconds=90)
    heard, ids = said(site)
    assert heard == Counter(
        (name, queue) for name in expected for queue in ("success", "completed")
    )  # fmt: skip
    assert len(set(ids)) == len(ids)


def runner_of(site: Site) -> int:
    """Return the process that starts jobs of the built-in batch system."""
    place = site.directory / "state" / "localbatch"
    shepherds = {
        int(json.loads(file.read_text()).split("-")[-2])
        for file in place.glob("running/*/shepherd.json")
    }
    [pid] = {*processes(str(site.bin / "python"), f"--directory {place} run")} - shepherds
    return pid
