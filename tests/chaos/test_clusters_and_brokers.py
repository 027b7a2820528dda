"""Kill everything at random, with real batch systems and brokers, and account for every message.

The seed is printed; `scripts/chaos --seed S` repeats a run's choices. Requests are sent while
Dispatchers, Submitters, Watchers and wrappers are killed with SIGKILL, the daemon that decides on
jobs is stopped for seconds, or killed, and comes again, and so is the broker. What is true at the
end: `Services.account`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED
from zwrap.calls.ask import ask
from zwrap.errors import ZwrapError
from zwrap.job import State
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.rabbitmq.management.api import PermissionSpec, RabbitMQAPI, VHostSpec

from .services import Services, fresh_seed

QUEUES = ("processing_recipe", "cluster.submission")
RIG = Path(__file__).parents[2] / "scripts" / "rig"
BROKERS = {"slurm": "rabbitmq", "sge": "activemq"}


class Daemon:
    """The daemon that decides on jobs; its rig starts it again."""

    def __init__(self, system: str, told: dict[str, Any]) -> None:
        self._run = {
            "slurm": lambda: Path(told["SLURM_CONF"]).parent / "run",
            "sge": lambda: Path(told["SGE_ROOT"]).parent / "run",
        }[system]()
        self._name = {"slurm": "slurmctld", "sge": "qmaster"}[system]
        self._environment = {**os.environ, "SLURM_CONF": told.get("SLURM_CONF", "")}
        self._looked = time.monotonic()

    def look_after_nodes(self) -> None:
        """Resume drained nodes, as an operator does.

        A killed slurmctld may have given job numbers again; nodes that still knew a job of that
        number have been drained ("Duplicate jobid").
        """
        if self._name == "slurmctld" and time.monotonic() - self._looked > 5:
            self._looked = time.monotonic()
            resume = ["scontrol", "update", "nodename=ALL", "state=resume"]
            subprocess.run(resume, env=self._environment, check=False, capture_output=True)

    def stop(self, seconds: float) -> None:
        pid = int((self._run / f"{self._name}.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(int((self._run / f"{self._name}.pid").read_text()), signal.SIGKILL)
        execd = self._run / "execd.pid"
        if execd.exists():  # it would hear of a new qmaster half a minute later, or never
            os.kill(int(execd.read_text()), signal.SIGKILL)


class Broker:
    """A broker of its own, which is started again by hand."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._rig = [sys.executable, str(RIG), kind]
        self._directory = directory
        self.up()
        self.told = json.loads((directory / "connection.json").read_text())

    def _command(self, word: str) -> None:
        command = [*self._rig, word, "--directory", str(self._directory)]
        subprocess.run(command, check=True, capture_output=True)

    def up(self) -> None:
        self._command("up")

    def down(self) -> None:
        self._command("down")

    def kill(self) -> None:
        os.kill(int((self._directory / "pid").read_text()), signal.SIGKILL)
        self.up()


class Chaos(Services):
    """A site on a broker, with jobs on a cluster."""

    requests, hurt_s, pause_s, quiet_s, limit_s = 30, 25.0, 0.5, 6.0, 300.0
    services_least = 6
    cluster = "cluster"

    def __init__(
        self, directory: Path, seed: int, cluster: dict[str, Any], sections: dict[str, Any],
        broker: Broker, daemon: Daemon,
    ) -> None:  # fmt: skip
        self.broker, self.daemon = broker, daemon
        batch = {"plugin": "clusters", "cluster": {
            **cluster, "watch_s": 0.5, "give_up_s": 5, "lost_s": 30,
        }}  # fmt: skip
        super().__init__(
            directory, seed, {"store": {"scheduler": "cluster"}, "batch": batch, **sections}
        )
        self.violent = iter(self.moments())

    def moments(self) -> list[tuple[float, str]]:
        """Return when the broker and the controller are killed, as parts of the whole time."""
        every = max(1, round(self.hurt_s / 25))
        kinds = ["broker", "controller"] * every
        return sorted((self.chance.uniform(0.1, 0.9), kind) for kind in kinds)

    def run(self) -> None:
        self._began = time.monotonic()
        self._next = next(self.violent, None)
        super().run()

    @property
    def has_hurt_too_few(self) -> bool:
        """Tell whether broker or controller have still to be killed.

        Either may take long to come again, within the time in which processes are hurt.
        """
        return self._next is not None or super().has_hurt_too_few

    def keep_alive(self) -> None:
        super().keep_alive()
        self.daemon.look_after_nodes()

    def hurt_one(self) -> None:
        """Kill a service or a wrapper, stop the controller for a while; or worse, if it is time."""
        spent = (time.monotonic() - self._began) / self.hurt_s
        if self._next and spent >= self._next[0]:
            kind = self._next[1]
            (self.broker if kind == "broker" else self.daemon).kill()
            self.killed[kind] += 1
            self._next = next(self.violent, None)
            return
        choices = [("service", process.pid) for process in self.services.values()]
        choices += [("wrapper", pid) for pid in self.wrappers()[:2]]
        kind, pid = self.chance.choice([*choices, ("daemon", 0)])
        with contextlib.suppress(ProcessLookupError):
            if kind == "daemon":
                self.daemon.stop(self.chance.uniform(0.5, 2.0))
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

    def busy_with(self) -> str:
        try:
            live = ask(self.scheduler.states())
            with contextlib.closing(connect(self.configuration)) as transport:
                waiting = {name: transport.inspector().waiting(name) for name in QUEUES}
        except ZwrapError as fault:
            return str(fault)
        with contextlib.closing(Ledger.in_file(self.directory / "state" / "ledger.sqlite")) as rows:
            attempts = rows.queries.newest(10_000)
        # Grid Engine, killed as a job ends, calls it running for ever.
        over = {each.job_id for each in attempts if each.outcome}
        jobs = [
            f"{job_id} {job.state} ({job.reason})" for job_id, job in live.items()
            if not (job.state is State.RUNNING and job_id in over)
        ]  # fmt: skip
        open_ = [
            f"{each.state} {each.job_id} ({each.seen_state}: {each.seen_reason}) in "
            f"{each.job_directory}" for each in attempts
            if each.state != REJECTED and (each.state != SUBMITTED or each.outcome is None)
        ]  # fmt: skip
        queues = [f"{count} in {name}" for name, count in waiting.items() if count]
        return ", ".join([*jobs, *queues, *open_])

    def reckoning(self) -> Counter[str]:
        """Return the account."""
        transport: Transport = connect(self.configuration)
        finals = self.finals(transport, 3.0)
        transport.close()
        transport = connect(self.configuration)
        letters = self.letters(transport, 3.0)
        transport.close()
        return self.account(finals, len(letters))


@pytest.fixture
def broker(system: str, tmp_path: Path) -> Iterator[Broker]:
    """Start the broker that goes with a batch system."""
    found = Broker(BROKERS[system], tmp_path / "broker")
    yield found
    found.down()


def sections_of(broker: Broker, system: str) -> dict[str, Any]:
    """Of a site file."""
    given = broker.told
    if system == "sge":
        keys = {key: given[key] for key in ("host", "port", "username", "password")}
        return {
            "mq": {"plugin": "stomp", "prefix": f"t{uuid.uuid4().hex}", **keys},
            "api": {"plugin": "jmx", **keys, "port": given["jolokia_port"],
                    "base_url": given["jolokia_base_url"]},
            "chosen": {"plugin": "transport", "default": "StompTransport"},
        }  # fmt: skip
    user = {key: given[key] for key in ("username", "password")}
    vhost = f"test-{uuid.uuid4()}"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    with RabbitMQAPI(given["api"], given["username"], given["password"]) as api:
        api.add_vhost(VHostSpec(name=vhost))
        api.set_permissions(PermissionSpec(vhost=vhost, user="admin", **everything))
    return {
        "mq": {"plugin": "pika", "host": given["host"], "port": given["port"], **user,
               "vhost": vhost, "declare": "quorum"},
        "api": {"plugin": "rabbitmqapi", "base_url": given["api"], **user},
        "chosen": {"plugin": "transport", "default": "PikaTransport"},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "seed"),
    [("slurm", 1), ("slurm", fresh_seed()), ("sge", 1), ("sge", fresh_seed())],
    ids=["slurm-fixed", "slurm-fresh", "sge-fixed", "sge-fresh"],
)
def test_every_step_ends_once_with_its_true_cause(
    request: pytest.FixtureRequest, tmp_path: Path, system: str, seed: int, broker: Broker
) -> None:
    print(f"seed {seed}")
    told = request.getfixturevalue(system)
    known = {"SLURM_CONF": told["SLURM_CONF"]} if system == "slurm" else told
    cluster = {"kind": system, "environment": known, "timeout_s": 15}
    sections = sections_of(broker, system)
    chaos = Chaos(tmp_path, seed, cluster, sections, broker, Daemon(system, told))
    try:
        chaos.run()
    finally:
        chaos.end()
    ends = chaos.reckoning()
    print(f"hurt {dict(chaos.killed)}; fates {dict(Counter(chaos.fates.values()))}; {dict(ends)}")
    assert chaos.killed["service"] > 5
    assert chaos.killed["broker"]
    assert chaos.killed["controller"]
    assert ends["hurt"] <= chaos.killed["wrapper"]
    assert ends["success"] > 0
