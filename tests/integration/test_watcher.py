"""The Watcher: what the batch systems say of all jobs, whoever else can still speak."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.service.watcher.events import CLUSTER_TOPIC, JOB_TOPIC, STATISTICS_TOPIC
from zwrap.transport.spool.transport import SpoolTransport

from .conftest import Site
from .jobs import jobs, submit

Start = Callable[..., "Listener"]


class Listener:
    """Hears what is told; order holds within a topic only."""

    def __init__(self, transport: SpoolTransport) -> None:
        self.transport = transport
        for topic in (JOB_TOPIC, CLUSTER_TOPIC, STATISTICS_TOPIC):
            transport.subscribe_topic(topic)
        self._heard: list[tuple[str | None, Any]] = []

    def next(self, topic: str, seconds: float, **values: Any) -> Any:
        """Return the next broadcast on a topic that holds these values."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for number, (source, body) in enumerate(self._heard):
                if source == topic and values.items() <= body.items():
                    del self._heard[number]
                    return body
            if delivery := self.transport.receive(0.2):
                self._heard.append((delivery.source, delivery.message.body))
        raise AssertionError(f"{values} was not told; heard {self._heard[-10:]}")


@pytest.fixture
def watched(site: Site) -> Iterator[Callable[..., Listener]]:
    """Yield a function that starts a Watcher and returns a listener to its events."""
    opened = []

    def start(**described: Any) -> Listener:
        site.sections["clusters"]["cluster"] |= {"watch_s": 0.5, **described}
        site.write_config()
        opened.append(site.transport())
        listener = Listener(opened[-1])
        site.service("Watcher")
        return listener

    yield start
    for transport in opened:
        transport.close()


def submit_bare(site: Site, name: str, commands: str) -> None:
    """Submit a job without a wrapper, which reports nothing itself."""
    submit(site, name, "true", commands=commands)


def test_a_job_that_is_silent_is_seen(on: Site, watched: Start) -> None:
    release = on.directory / "release"
    submit_bare(on, "silent", f"while ! test -e {release}; do sleep 0.1; done; exit 3")
    listener = watched()
    running = listener.next(JOB_TOPIC, 30, state="running", job_name="silent")
    assert running["cluster"] == "cluster"
    assert (running["step"], len(running["token"])) == (1, 34)
    told = listener.next(STATISTICS_TOPIC, 30, RUNNING=1)
    assert (told["statistic"], told["statistic-cluster"]) == ("job-states", "cluster")
    release.touch()
    failed = listener.next(JOB_TOPIC, 60, state="failed", token=running["token"])
    assert failed["exit_code"] == 3
    [job] = jobs(on)
    assert job["job_id"] == running["job_id"]
    assert job["state"] in ("failed", "failure"), "what the batch system says, then the verdict"
    on.sections["clusters"]["cluster"] = {
        "kind": "slurm",
        "environment": {"SLURM_CONF": "/dev/null"},
    }
    on.write_config()
    assert jobs(on)[0]["state"] in ("failed", "failure"), "nobody has to be asked again"


@pytest.mark.slow
def test_a_cluster_that_is_away_changes_no_job(
    site: Site, slurm: dict[str, Any], watched: Start
) -> None:
    good = Path(slurm["SLURM_CONF"])
    conf = site.directory / "slurm.conf"
    shutil.copy(good, conf)
    described = {"kind": "slurm", "environment": {"SLURM_CONF": str(conf)}}
    site.settings["scheduler"] = "cluster"
    site.sections["clusters"] = {"plugin": "clusters", "cluster": described}
    site.write_config()
    submit_bare(site, "silent", "sleep 20")
    listener = watched()
    listener.next(JOB_TOPIC, 30, state="running")
    broken = good.read_text().replace("SlurmctldHost=", "SlurmctldHost=nobody.invalid #")
    conf.write_text(broken)
    away = listener.next(CLUSTER_TOPIC, 60, cluster="cluster", state="away")
    assert "Slurm could not be asked" in away["reason"]
    ledger_says = [job["state"] for job in jobs(site)]
    assert ledger_says == ["not known"], "neither ended nor failed"
    shutil.copy(good, conf)
    listener.next(CLUSTER_TOPIC, 60, cluster="cluster", state="up")
    listener.next(JOB_TOPIC, 60, state="completed")


@pytest.mark.slow
def test_many_jobs_cost_one_question(site: Site, slurm: dict[str, Any], watched: Start) -> None:
    calls = site.directory / "calls"
    front = site.directory / "bin"
    front.mkdir()
    for name in ("squeue", "sacct"):
        (front / name).write_text(
            f'#!/bin/sh\necho {name} >>{calls}\nexec {shutil.which(name)} "$@"\n'
        )
        (front / name).chmod(0o755)
    described = {"kind": "slurm", "environment": {"SLURM_CONF": slurm["SLURM_CONF"]}}
    site.settings["scheduler"] = "cluster"
    site.sections["clusters"] = {"plugin": "clusters", "cluster": described}
    site.write_config()
    for number in range(6):
        submit_bare(site, f"silent{number}", "sleep 3")
    listener = watched(programs=str(front), watch_s=2)
    looks, completed, deadline = 0, set(), time.monotonic() + 60
    while len(completed) < 6 and time.monotonic() < deadline:
        if delivery := listener.transport.receive(0.5):
            body = delivery.message.body
            looks += delivery.source == STATISTICS_TOPIC
            if body.get("state") == "completed":
                completed.add(body["token"])
    assert len(completed) == 6
    counted = calls.read_text().split()
    # one for each look, one more where some left, and perhaps a look that is not told yet
    assert 1 <= counted.count("squeue") <= 2 * (looks + 1), (looks, counted)
    assert "sacct" not in counted, "memory knew all"
