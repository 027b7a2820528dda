"""Everything is killed and stopped at random, and every message is accounted for: real batch
systems and real brokers.

The seed is printed; ``ZWRAP_CHAOS_SEED=<seed> scripts/test tests/chaos`` repeats a run's choices.
Requests of two steps are sent while Dispatchers, Submitters, Watchers and wrappers are killed with
SIGKILL, and the daemon that decides on jobs and the broker are stopped for seconds. At the end each
step that became a job has one verdict and was told once, no program ran twice, and only steps whose
own wrapper was killed have failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.clusters import Clusters
from zwrap.configuration import Configuration
from zwrap.errors import ZwrapError
from zwrap.job import Outcome
from zwrap.jobdirectory import JobDirectory
from zwrap.ledger import SUBMITTED, Ledger
from zwrap.rabbitmqapi import PermissionSpec, RabbitMQAPI, VHostSpec
from zwrap.submission.calls import ask
from zwrap.transport.connect import connect

from .services import Services, fresh_seed

REQUESTS = 20
QUEUES = ("processing_recipe", "cluster.submission")

SYSTEMS = {"slurm": "rabbitmq", "sge": "activemq"}
DAEMONS = {
    "slurm": "slurmctld", "sge": "sge_qmaster", "rabbitmq": "beam.smp", "activemq": "java",
}  # fmt: skip


class Chaos(Services):
    """A site on a broker, with jobs on a cluster."""

    requests, hurt_s, pause_s, quiet_s, limit_s = REQUESTS, 20.0, 0.5, 6.0, 240.0

    def __init__(
        self, directory: Path, seed: int, cluster: dict[str, Any], broker: dict[str, Any],
        daemons: list[int],
    ) -> None:  # fmt: skip
        self.daemons = daemons
        batch = {"plugin": "clusters", "cluster": {**cluster, "watch_s": 0.5}}
        sections = {"store": {"scheduler": "cluster"}, "batch": batch, **broker}
        super().__init__(directory, seed, sections)
        configuration = Configuration.from_string(self.site).activate()
        self.scheduler = Clusters(configuration).get("cluster").scheduler
        self.transport = connect(configuration)

    def hurt_one(self) -> None:
        """Kill a service or a wrapper, or stop a daemon for a while."""
        choices = [("service", process.pid) for process in self.services.values()]
        choices += [("wrapper", pid) for pid in self.wrappers()[:2]]
        choices += [("daemon", pid) for pid in self.daemons]
        kind, pid = self.chance.choice(choices)
        with contextlib.suppress(ProcessLookupError):
            if kind == "daemon":
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.chance.uniform(0.5, 2.0))
                os.kill(pid, signal.SIGCONT)
            else:
                os.kill(pid, signal.SIGKILL)
            self.killed[kind] += 1

    def wrappers(self) -> list[int]:
        """Process ids of the wrappers of this site."""
        found = []
        for file in self.work.glob("*/*/.zwrap/*/claim.json"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(json.loads(file.read_text())["process"].split("-")[-2])
                if b"zocalo.wrap" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def is_busy(self) -> bool:
        try:
            live = bool(ask(self.scheduler.states()))
        except ZwrapError:
            live = True
        return live or bool(self.unfinished()) or any(map(self.transport.waiting, QUEUES))

    def unfinished(self) -> int:
        """Number of jobs of which nobody knows yet how they ended, or whether they are there."""
        with contextlib.closing(Ledger.in_file(self.directory / "state" / "ledger.sqlite")) as rows:
            return len([
                row for row in rows.all()
                if row.state != SUBMITTED or row.outcome is None
            ])  # fmt: skip

    def account(self) -> dict[str, int]:
        """Account for every step; the number of each fate."""
        finals = self.finals(self.transport, 3.0)
        letters = sum(self.transport.dead_letters().values())
        self.transport.close()
        fates: Counter[str] = Counter()
        missing = 0
        for name in (f"r{number}" for number in range(REQUESTS)):
            for number in (1, 2):
                directory = self.work / name / str(number)
                runs = directory / "runs"
                started = runs.read_text().count("x") if runs.exists() else 0
                assert started <= 1, f"{directory}: the program ran {started} times"
                attempts = list(directory.glob(".zwrap/*"))
                if not attempts:
                    missing += 1
                    break
                verdict = JobDirectory(attempts[0]).verdict()
                assert verdict, f"{directory}: no word"
                assert finals[name, number] == 1, f"{directory}: told {finals[name, number]} times"
                fates[verdict.outcome.value] += 1
                if verdict.outcome is not Outcome.SUCCESS:
                    break
                assert started == 1
        assert missing <= letters
        return {**fates, "dead letters": letters}


def processes(place: Path, name: str) -> list[int]:
    """Processes of that name that belong to a server in a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "comm").read_text().strip() == name[:15]:
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(place).encode() in said:
                    found.append(int(entry.name))
    return found


@pytest.fixture
def broker(request: pytest.FixtureRequest, system: str) -> Iterator[dict[str, Any]]:
    """Sections of a site file for the broker that goes with a batch system."""
    name = SYSTEMS[system]
    given = request.getfixturevalue(name)
    if name == "activemq":
        keys = {key: given[key] for key in ("host", "port", "username", "password")}
        yield {
            "mq": {"plugin": "stomp", "prefix": f"t{uuid.uuid4().hex}", **keys},
            "api": {"plugin": "jmx", **keys, "port": given["jolokia_port"],
                    "base_url": given["jolokia_base_url"]},
            "chosen": {"plugin": "transport", "default": "StompTransport"},
        }  # fmt: skip
        return
    user = {key: given[key] for key in ("username", "password")}
    api = RabbitMQAPI(given["api"], given["username"], given["password"])
    vhost = f"test-{uuid.uuid4()}"
    api.add_vhost(VHostSpec(name=vhost))
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    api.set_permissions(PermissionSpec(vhost=vhost, user="admin", **everything))
    yield {
        "mq": {"plugin": "pika", "host": given["host"], "port": given["port"], **user,
               "vhost": vhost, "declare": "quorum"},
        "api": {"plugin": "rabbitmqapi", "base_url": given["api"], **user},
        "chosen": {"plugin": "transport", "default": "PikaTransport"},
    }  # fmt: skip
    api.delete_vhost(vhost)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "seed"),
    [("slurm", 1), ("slurm", fresh_seed()), ("sge", fresh_seed())],
    ids=["slurm-fixed", "slurm-fresh", "sge-fresh"],
)
def test_every_step_ends_once_with_its_true_cause(
    request: pytest.FixtureRequest, tmp_path: Path, system: str, seed: int,
    broker: dict[str, Any],
) -> None:  # fmt: skip
    print(f"seed {seed}")
    told = request.getfixturevalue(system)
    places = {
        "slurm": lambda: Path(told["SLURM_CONF"]).parent,
        "sge": lambda: Path(told["SGE_ROOT"]).parent,
    }
    known = {"SLURM_CONF": told["SLURM_CONF"]} if system == "slurm" else told
    cluster = {"kind": system, "environment": known, "timeout_s": 15}
    daemons = processes(places[system](), DAEMONS[system])
    chaos = Chaos(tmp_path, seed, cluster, broker, daemons)
    try:
        chaos.run()
    finally:
        chaos.end()
    fates = chaos.account()
    print(f"hurt {dict(chaos.killed)}; {fates}")
    assert daemons
    assert chaos.killed["service"] > 5
    assert fates.get("failure", 0) <= chaos.killed["wrapper"]
    assert fates["success"] > 0
