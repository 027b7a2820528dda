"""The database is stopped and killed, and so is the service: each message is written once.

The seed is printed; `scripts/chaos --seed S ispyb` repeats a run's choices, and sends a thousand
messages during outages of up to three minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.service.ispyb.once import ddl
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

from ..database import Database
from ..integration.vhost import Server as VHost
from ..saved_runs import ANSWERS, QUEUE, SavedRuns
from .services import MINUTES, fresh_seed

RIG = Path(__file__).parents[2] / "scripts" / "rig"
BIN = Path(sys.executable).parent
SERVICES = ("ISPyB-1", "ISPyB-2")

OF_PROGRAM = {
    "AutoProc": "SELECT autoProcProgramId FROM AutoProc",
    "AutoProcScaling": "SELECT s.autoProcProgramId FROM AutoProcScaling JOIN AutoProc s "
    "USING (autoProcId)",
    "AutoProcScalingStatistics": "SELECT s.autoProcProgramId FROM AutoProcScalingStatistics "
    "JOIN AutoProcScaling USING (autoProcScalingId) JOIN AutoProc s USING (autoProcId)",
    "AutoProcIntegration": "SELECT autoProcProgramId FROM AutoProcIntegration",
    "AutoProcScaling_has_Int": "SELECT s.autoProcProgramId FROM AutoProcScaling_has_Int "
    "JOIN AutoProcScaling USING (autoProcScalingId) JOIN AutoProc s USING (autoProcId)",
    "AutoProcProgramMessage": "SELECT autoProcProgramId FROM AutoProcProgramMessage",
    "AutoProcProgramAttachment": "SELECT autoProcProgramId FROM AutoProcProgramAttachment",
}
"""Table to the statement that finds the program run of each of its rows."""


class MariaDB:
    """A server of its own, which is stopped, killed, and started again on the same data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.up()
        self.told = json.loads((directory / "connection.json").read_text())

    def up(self) -> None:
        self._rig("up")

    def down(self) -> None:
        self._rig("down")

    def kill(self) -> None:
        os.kill(int((self._directory / "pid").read_text()), signal.SIGKILL)

    def _rig(self, word: str) -> None:
        command = [sys.executable, str(RIG), "mariadb", word, "--directory", str(self._directory)]
        subprocess.run(command, check=True, capture_output=True)


class Chaos:
    """Two instances of the service, a database that goes away, and messages without end."""

    messages, hurt_s, longest_s, pause_s = 150, 15.0, 2.0, (0.3, 1.5)
    limit_s = 120.0

    def __init__(self, directory: Path, seed: int, sections: dict[str, Any]) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        if MINUTES:
            self.messages, self.hurt_s, self.longest_s = 1000, MINUTES * 60, 180.0
            self.pause_s, self.limit_s = (1.0, 10.0), 600.0
        self.server = MariaDB(directory / "mariadb")
        self.database = Database(self.server.told)
        self.database.create()
        with self.database.engine.connect() as connection:
            for statement in ddl().removesuffix(";").split("; "):
                connection.exec_driver_sql(statement)
        self.runs = SavedRuns(directory, self.database.collect().collection)
        file = self.database.credentials_file(directory)
        sections = {**sections, "db": {"plugin": "ispyb", "credentials": str(file)}}
        site = {"version": 1, "environments": {"default": list(sections)}, **sections}
        (directory / "site.yml").write_text(json.dumps(site))
        self.configuration = Configuration.from_file(directory / "site.yml").activate()
        self.environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "ZOCALO_CONFIG": str(directory / "site.yml"),
            "ZWRAP_STATE": str(directory / "state"),
        }
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.hurt: Counter[str] = Counter()
        self.sent = 0
        self.outages: list[float] = []
        """Length of each outage of the database, in seconds."""
        self._away_at = 0.0
        self._back_at: float | None = None
        """Time at which the database is to come back; None: it is there."""

    # -- what happens ------------------------------------------------------------------------------

    def run(self) -> None:
        with contextlib.closing(connect(self.configuration)) as transport:
            self.keep_alive()
            began = time.monotonic()
            while (spent_s := time.monotonic() - began) < self.hurt_s or self.has_hurt_too_few:
                self.send(transport, self.messages * min(1.0, spent_s / self.hurt_s))
                time.sleep(self.chance.uniform(*self.pause_s))
                self.hurt_one()
                self.keep_alive()
            self.come_back(now=True)
            self.send(transport, self.messages)
            self.catch_up(transport)

    def send(self, transport: Transport, number: float) -> None:
        while self.sent < number:
            headers = {"workflows-recipe": True}
            transport.send(QUEUE, self.runs.body(self.sent), headers)
            self.sent += 1

    def keep_alive(self) -> None:
        for name in SERVICES:
            process = self.services.get(name)
            if process is None or process.poll() is not None:
                with (self.directory / f"{name}.log").open("ab") as log:
                    command = [BIN / "zocalo.service", "-s", "ISPyB"]
                    self.services[name] = subprocess.Popen(
                        command, env=self.environment, stderr=log
                    )

    @property
    def has_hurt_too_few(self) -> bool:
        """Tell whether more has still to happen: a machine may be slow."""
        return (
            min(self.hurt[each] for each in ("killed", "stopped")) < 2 or self.hurt["service"] < 4
        )

    def hurt_one(self) -> None:
        """Kill a service, or take the database away, unless it is."""
        self.come_back()
        if self._back_at is None and self.chance.random() < 0.4:
            kind = self.chance.choice(["killed", "stopped"])
            self.hurt[kind] += 1
            (self.server.kill if kind == "killed" else self.server.down)()
            self._away_at = time.monotonic()
            self._back_at = self._away_at + self.chance.uniform(0.1, 1.0) * self.longest_s
        else:
            self.chance.choice(list(self.services.values())).kill()
            self.hurt["service"] += 1

    def come_back(self, *, now: bool = False) -> None:
        """Start the database again, if it is time."""
        if self._back_at is not None and (now or time.monotonic() >= self._back_at):
            self.server.up()
            self.outages.append(time.monotonic() - self._away_at)
            self._back_at = None

    def catch_up(self, transport: Transport) -> None:
        """Wait until all messages are settled."""
        inspector = transport.inspector()
        behind, began = self.messages - self.count("AutoProcProgram"), time.monotonic()
        first_at = None
        while written := self.messages - self.count("AutoProcProgram"):
            self.keep_alive()
            if first_at is None and written < behind:
                behind, first_at = written, time.monotonic()
            assert time.monotonic() < began + self.limit_s, f"{written} messages are not written"
            time.sleep(0.05)
        if first_at is not None:
            spent_s = max(time.monotonic() - first_at, 1e-3)
            print(f"caught up with {behind} messages in {spent_s:.1f} s")
        while inspector.waiting(QUEUE):
            assert time.monotonic() < began + self.limit_s, "messages are not settled"
            time.sleep(0.1)

    def end(self) -> None:
        for process in self.services.values():
            process.kill()
            process.wait()
        self.server.down()

    # -- what is true then -------------------------------------------------------------------------

    def count(self, table: str) -> int:
        with self.database.engine.connect() as connection:
            [number] = connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").one()
        return int(number)

    def account(self) -> None:
        """Check that each message is written once, in the order of sending, and answered."""
        programs = self.database.rows("AutoProcProgram")
        told = [row["processingCommandLine"] for row in programs]
        assert told == [f"run {number}" for number in range(self.messages)]
        found: dict[int, Counter[str]] = {row["autoProcProgramId"]: Counter() for row in programs}
        with self.database.engine.connect() as connection:
            for table, statement in OF_PROGRAM.items():
                for [program] in connection.exec_driver_sql(statement):
                    found[program][table] += 1
        for number, row in enumerate(programs):
            own = found[row["autoProcProgramId"]]
            own["AutoProcProgram"] = 1
            assert own == self.runs.rows(number), f"run {number}"
            assert row["processingStatus"] == 1
        assert self.answers() == {
            number: row["autoProcProgramId"] for number, row in enumerate(programs)
        }

    def answers(self) -> dict[int, int]:
        """Return the id that each run was told, and check that there is one answer to each."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.closing(connect(self.configuration)) as transport:
            assert not transport.inspector().dead_letters().get(QUEUE)
            transport.subscribe(ANSWERS, 100)
            while delivery := transport.receive(1.0):
                environment = delivery.message.body["environment"]
                number = int(environment["ID"].removeprefix("run-"))
                found[delivery.message.id] = number, environment["ispyb_autoprocprogram_id"]
                delivery.ack()
        assert len(found) == len(dict(found.values()))
        return dict(found.values())


def spool(tmp_path: Path) -> dict[str, Any]:
    return {"files": {"plugin": "spool", "path": str(tmp_path / "spool")}}


def broker(vhost: VHost) -> dict[str, Any]:
    site = json.loads(vhost.text(declare="quorum"))
    chosen = {"plugin": "transport", "default": "PikaTransport"}
    return {"mq": site["mq"], "api": site["api"], "chosen": chosen}


@pytest.fixture
def vhost(request: pytest.FixtureRequest, kind: str) -> Iterator[VHost | None]:
    if kind == "spool":
        yield None
        return
    made = VHost(request.getfixturevalue(kind))
    yield made
    made.api.delete_vhost(made.vhost)
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seed"),
    [("spool", 1), ("rabbitmq", fresh_seed())],
    ids=["spool-fixed", "rabbitmq-fresh"],
)
def test_each_message_is_written_once_in_order_whatever_is_away(
    tmp_path: Path, kind: str, seed: int, vhost: VHost | None
) -> None:
    print(f"seed {seed}")
    chaos = Chaos(tmp_path, seed, broker(vhost) if vhost else spool(tmp_path))
    began = time.monotonic()
    try:
        chaos.run()
        print(
            f"{chaos.sent} messages in {time.monotonic() - began:.0f} s; {dict(chaos.hurt)}; "
            f"outages of {min(chaos.outages):.1f} to {max(chaos.outages):.1f} s, together "
            f"{sum(chaos.outages):.0f} s"
        )
        chaos.account()
    finally:
        chaos.end()
