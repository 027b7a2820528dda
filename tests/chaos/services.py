"""What the chaos tests share: a site whose services are killed and started again; its recipe."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

from zwrap.transport import Transport

BIN = Path(sys.executable).parent
SERVICES = [f"{name}-{n}" for name in ("Dispatcher", "Submitter", "Watcher") for n in (1, 2)]


def _step(number: int, following: list[int]) -> dict[str, Any]:
    directory = f"{{work}}/{{name}}/{number}"
    return {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {"commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"},
            "workingdir": directory,
        },
        "job_parameters": {
            "working_directory": directory,
            "command": ["/bin/sh", "-c", "echo x >>runs; sleep 0.2"],
        },
        "output": {"success": following, "completed": 9},
    }


RECIPE = {
    "start": [[1, []]],
    "1": _step(1, [2]),
    "2": _step(2, []),
    "9": {"queue": "finals"},
}


class Services(ABC):
    """Two services of each kind, and what was done to them."""

    requests: int
    hurt_s: float
    """So long processes are hurt, one after every `pause_s` seconds at most."""
    pause_s: float
    quiet_s: float
    """Nothing happens for so long: all is done. It has to be after `limit_s` seconds."""
    limit_s: float

    def __init__(self, directory: Path, seed: int, sections: dict[str, Any]) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        self.work = directory / "work"
        recipes = directory / "recipes"
        recipes.mkdir()
        (recipes / "two.json").write_text(json.dumps(RECIPE))
        store = {"plugin": "storage", "zocalo.recipe_directory": str(recipes)}
        self.site = json.dumps({
            "version": 1, "environments": {"default": list({"store": 0, **sections})},
            **sections, "store": {**store, **sections.get("store", {})},
        })  # fmt: skip
        (directory / "site.yml").write_text(self.site)
        self.environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "ZOCALO_CONFIG": str(directory / "site.yml"),
            "ZWRAP_STATE": str(directory / "state"),
            "ZWRAP_LOCAL_CPUS": "4",
        }
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.killed: Counter[str] = Counter()

    def keep_alive(self) -> None:
        for name in SERVICES:
            process = self.services.get(name)
            if process is None or process.poll() is not None:
                with (self.directory / f"{name}.log").open("ab") as log:
                    self.services[name] = subprocess.Popen(
                        [BIN / "zocalo.service", "-s", name.partition("-")[0]],
                        env=self.environment,
                        stderr=log,
                    )

    def request(self, name: str) -> None:
        subprocess.run(
            [BIN / "zocalo.go", "-n", "-r", "two", "-s", f"work={self.work}", "-s", f"name={name}"],
            env=self.environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    @abstractmethod
    def hurt_one(self) -> None:
        """Do something bad to one process."""

    @abstractmethod
    def is_busy(self) -> bool:
        """Whether anything has yet to become of what was sent."""

    def run(self) -> None:
        """Send requests while processes are hurt, then let the services finish in peace."""
        names = iter(f"r{number}" for number in range(self.requests))
        self.keep_alive()
        began = time.monotonic()
        while time.monotonic() - began < self.hurt_s:
            if name := next(names, None):
                self.request(name)
            time.sleep(self.chance.uniform(0.02, self.pause_s))
            self.hurt_one()
            self.keep_alive()
        for name in names:
            self.request(name)
        quiet_since = time.monotonic()
        deadline = quiet_since + self.limit_s
        while time.monotonic() - quiet_since < self.quiet_s:
            assert time.monotonic() < deadline, f"still busy after {self.limit_s} s"
            self.keep_alive()
            if self.is_busy():
                quiet_since = time.monotonic()
            time.sleep(0.2)
        self.end()

    def finals(self, transport: Transport, wait_s: float) -> Counter[tuple[str, int]]:
        """Distinct final messages per request and step."""
        transport.subscribe("finals", 10)
        seen: dict[str, tuple[str, int]] = {}
        while delivery := transport.receive(wait_s):
            body = delivery.message.body
            number = body["recipe-path"][-1]
            directory = Path(body["recipe"][str(number)]["parameters"]["workingdir"])
            seen[delivery.message.id] = (directory.parent.name, number)
            delivery.ack()
        return Counter(seen.values())

    def end(self) -> None:
        for process in self.services.values():
            process.kill()
            process.wait()


def fresh_seed() -> int:
    return int(os.environ.get("ZWRAP_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
