"""The site of the chaos tests, whose parts are killed and started again.

Its steps end in different ways, and at the end there is an account of every message. Bad messages
come between the good ones, and are counted by themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.verdict import Verdict
from zwrap.calls.ask import ask
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.job import Outcome
from zwrap.submission.clusters import Clusters
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

from ..hostile.bad import QUEUES as READ, Bad, kept

BIN = Path(sys.executable).parent
SERVICES = [f"{name}-{n}" for name in ("Dispatcher", "Submitter", "Watcher") for n in (1, 2)]

MINUTES = float(os.environ.get("ZWRAP_CHAOS_MINUTES") or 0)
"""How long processes are hurt; 0: the few seconds of a test."""

FATES = {
    "fine": "sleep 0.2", "fails": "exit 3", "killed": "kill -9 $$", "cancelled": "sleep 300",
}  # fmt: skip
"""Commands of the first step of a request."""

WEIGHTS = (6, 1, 1, 1)

HOSTILE = "hostile-"
"""Beginning of the ids of bad messages."""

NO_JOBS = (
    "Dispatcher/|Submitter/(body|cluster-none|env-name|partition|pointer|recipe|retry-(bad|str))"
)
"""Names of the bad inputs that are sent: such as become no job, of which there would be an end."""

CAUSES = {
    "fails": r"exit status 3|status 3",
    "killed": r"SIGKILL|signal 9|status 137",
    "cancelled": r"it was cancelled|it was stopped after",
}
"""Words in the failure of such a job."""

FORGOTTEN = r"knows nothing of it any more|can never start|it was stopped after"
"""Words for a job that a killed controller forgot: it never ran, or its node ended it."""


def _step(number: int, command: str, following: list[int]) -> dict[str, Any]:
    directory = f"{{work}}/{{name}}/{number}"
    return {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {"commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"},
            "workingdir": directory,
        },
        "job_parameters": {
            "working_directory": directory,
            "command": ["/bin/sh", "-c", f"echo x >>runs; {command}"],
        },
        "output": {"success": following, "completed": 9},
    }


def recipe(fate: str) -> dict[str, Any]:
    """Two steps; the first has that fate."""
    return {
        "start": [[1, []]],
        "1": _step(1, FATES[fate], [2]),
        "2": _step(2, FATES["fine"], []),
        "9": {"queue": "finals"},
    }


class Services(ABC):
    """Two services of each kind, and what was done to them."""

    requests: int
    hurt_s: float
    """So long processes are hurt, one after every `pause_s` seconds at most."""
    least = services_least = 0
    """So many processes, and so many services, are hurt in any case."""
    pause_s: float
    quiet_s: float
    """Nothing happens for so long: all is done. It has to be after `limit_s` seconds."""
    limit_s: float
    cluster: str

    def __init__(self, directory: Path, seed: int, sections: dict[str, Any]) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        if MINUTES:
            self.requests = int(self.requests * MINUTES * 60 / self.hurt_s)
            self.limit_s += MINUTES * 60
            self.hurt_s = MINUTES * 60
        self.work = directory / "work"
        recipes = directory / "recipes"
        recipes.mkdir()
        for fate in FATES:
            (recipes / f"{fate}.json").write_text(json.dumps(recipe(fate)))
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
        self.configuration = Configuration.from_string(self.site).activate()
        self.scheduler = Clusters(self.configuration).get(self.cluster).scheduler
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.killed: Counter[str] = Counter()
        self.fates: dict[str, str] = {}
        """The end that each request is to have."""
        self._cancelled: set[str] = set()
        self._bad = [bad for bad in kept() if re.match(NO_JOBS, f"{bad.service}/{bad.name}")]
        self._disturbance = random.Random(seed)  # so that the other choices stay as they are
        self.disturbed = 0
        """Number of bad messages that were sent."""

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

    def request(self) -> None:
        name = f"r{len(self.fates)}"
        [fate] = self.chance.choices(list(FATES), WEIGHTS)
        command = [BIN / "zocalo.go", "-n", "-r", fate]
        for key, value in (("work", self.work), ("name", name)):
            command += ["-s", f"{key}={value}"]
        while subprocess.run(
            command, env=self.environment, check=False, capture_output=True
        ).returncode:
            time.sleep(0.5)  # the broker is away, and the user tries again
        self.fates[name] = fate

    def disturb(self) -> None:
        """Send a bad message now and then, if the transport takes it."""
        if self._disturbance.random() > 1 / 3:
            return
        bad = self._disturbance.choice(self._bad)
        with contextlib.suppress(ZwrapError, ValueError, RecursionError):
            self._send(bad, json.loads(bad.body))
            self.disturbed += 1

    def _send(self, bad: Bad, body: object) -> None:
        headers = {**bad.headers, "zwrap-id": f"{HOSTILE}{self.disturbed}"}
        with connect(self.configuration) as transport:
            transport.send(READ[bad.service], body, headers)

    def cancel(self) -> None:
        """Cancel the jobs that have this fate and run."""
        for name, fate in self.fates.items():
            if fate == "cancelled" and name not in self._cancelled:
                for file in (self.work / name / "1").glob(".zwrap/*/claim.json"):
                    with contextlib.suppress(OSError, ValueError, ZwrapError):
                        job_id = json.loads(file.read_text())["job_id"]
                        ask(self.scheduler.cancel([job_id]))
                        self._cancelled.add(name)

    @abstractmethod
    def hurt_one(self) -> None:
        """Do something bad to one process."""

    @abstractmethod
    def busy_with(self) -> str:
        """Return what has yet to become of what was sent; empty if all is done."""

    def run(self) -> None:
        """Send requests while processes are hurt, then let the services finish in peace."""
        self.keep_alive()
        began = time.monotonic()
        while (spent_s := time.monotonic() - began) < self.hurt_s or self.has_hurt_too_few:
            if len(self.fates) < self.requests * min(1.0, 1.5 * spent_s / self.hurt_s):
                self.request()
            time.sleep(self.chance.uniform(0.02, self.pause_s))
            self.hurt_one()
            self.keep_alive()
            self.disturb()
            self.cancel()
        while len(self.fates) < self.requests:
            self.request()
        quiet_since = time.monotonic()
        deadline = quiet_since + self.limit_s
        while time.monotonic() - quiet_since < self.quiet_s:
            self.keep_alive()
            self.cancel()
            if busy := self.busy_with():
                quiet_since = time.monotonic()
                assert quiet_since < deadline, f"after {self.limit_s:g} s still busy with {busy}"
            time.sleep(0.2)
        self.end()

    @property
    def has_hurt_too_few(self) -> bool:
        """Tell whether more processes have still to be hurt: a machine may be slow."""
        return (
            sum(self.killed.values()) <= self.least or self.killed["service"] < self.services_least
        )

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

    def letters(self, transport: Transport, wait_s: float) -> list[str]:
        """Return the reasons of the dead letters, those of bad messages left out."""
        inspector = transport.inspector()
        for name in ("processing_recipe", "cluster.submission"):
            if name in inspector.dead_letters():
                inspector.subscribe_dead_letters(name, 50)
        reasons, bad = [], 0
        while letter := transport.receive(wait_s):
            if letter.message.id.startswith(HOSTILE):
                bad += 1
            else:
                reasons.append(letter.reason)
            letter.ack()
        assert self.disturbed, "no bad message was sent"
        print(f"{self.disturbed} bad messages, {bad} of them dead letters")
        return reasons

    def account(self, finals: Counter[tuple[str, int]], letters: int) -> Counter[str]:
        """Account for every step; the number of each end.

        Each step that became a job has one verdict and was told once, no program ran twice, what
        follows a success has come to be, and what never came to be is a dead letter. Steps whose
        end is not the one that they were to have are counted as `hurt`, or as `forgotten` if the
        controller may have.
        """
        ends: Counter[str] = Counter({"dead letters": letters})
        missing = 0
        for name, fate in self.fates.items():
            for number, own_fate in ((1, fate), (2, "fine")):
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
                told = finals[name, number]
                assert told == 1, f"{directory}: told {told} times"
                ends[verdict.outcome.value] += 1
                if not as_expected(verdict, own_fate):
                    forgotten = self.killed["controller"] and re.search(FORGOTTEN, verdict.cause)
                    ends["forgotten" if forgotten else "hurt"] += 1
                    print(f"{directory} ({own_fate}): {verdict.outcome.value}: {verdict.cause}")
                if verdict.outcome is not Outcome.SUCCESS:
                    break
                assert started == 1
        assert missing <= letters
        return ends

    def end(self) -> None:
        for process in self.services.values():
            process.kill()
            process.wait()


def as_expected(verdict: Verdict, fate: str) -> bool:
    """Tell whether a step has ended as it was to, with the cause that was to be told."""
    if fate == "fine":
        return verdict.outcome is Outcome.SUCCESS
    failed = verdict.outcome is Outcome.FAILURE
    return failed and re.search(CAUSES[fate], verdict.cause) is not None


def fresh_seed() -> int:
    return int(os.environ.get("ZWRAP_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
