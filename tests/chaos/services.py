"""What the chaos tests share: a site whose services are killed and started again; its recipe."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

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


class Services:
    """Two services of each kind, and what was done to them."""

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

    def end(self) -> None:
        for process in self.services.values():
            process.kill()
            process.wait()


def fresh_seed() -> int:
    return int(os.environ.get("ZWRAP_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
