"""Runs of examples for the examples: what is started, given, and collected."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zwrap.configuration.site import Configuration
from zwrap.message.content import RECIPE_HEADER
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.delivery import Delivery

STATUS = "transient.status"
IDLE = 2
"""Status of a service that is up."""
START_S, ANSWER_S, QUIET_S = 60.0, 60.0, 1.0
"""Longest time until all services are up, and until all messages came; time after the last one for
one too many; in seconds."""
END_S = 5.0
"""Time that services have to end, in seconds."""

THEIRS = {
    "zocalo.service": "from zocalo.service import start_service; start_service()",
    "zocalo.wrap": "from zocalo.cli.wrap import run; run()",
}
"""Commands of python-zocalo, whose files may be zwrap's."""

Seen = dict[str, list[str]]
"""Queue, topic or kind of report to the texts of what came, in order."""


@dataclass
class Example:
    """A service, wrapper or tool, and what it is given."""

    kind: str
    name: str
    case: dict[str, Any]

    @property
    def queue(self) -> str:
        """Queue from which it takes messages."""
        return str(self.case.get("queue", "cluster.submission"))

    def collects(self) -> list[str]:
        """Return the queues in which its messages arrive."""
        outputs: list[str] = self.case.get("outputs", [])
        if "output" in self.case:
            outputs = [self.case["output"]]
        return [*(f"{self.name}.{each}" for each in outputs), *self.case.get("collects", [])]

    def hears(self) -> list[str]:
        """Return the topics in which its messages arrive."""
        return list(self.case.get("hears", []))

    def envelope(self, payload: object) -> dict[str, Any]:
        """Return the recipe message to it."""
        channels = self.case.get("outputs", [])
        output: object = {channel: number for number, channel in enumerate(channels, 2)}
        if "output" in self.case:
            channels, output = [self.case["output"]], 2
        nodes = {
            str(number): {"queue": f"{self.name}.{channel}"}
            for number, channel in enumerate(channels, 2)
        }
        node = {"queue": self.queue, **self.case.get("node", {}), "output": output}
        return {
            "recipe": {"start": [[1, []]], "1": node, **nodes}, "recipe-pointer": 1,
            "recipe-path": [], "environment": {"ID": "a-scan"}, "payload": payload,
        }  # fmt: skip


@dataclass
class Way:
    """One way of running the examples, with a vhost and a directory of its own."""

    name: str
    python: Path
    packages: Path
    place: Path
    theirs: bool = False
    seen: dict[str, Seen] = field(default_factory=dict)
    """What came of each example."""

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line of a program."""
        if self.theirs:
            return [str(self.python), "-P", "-c", THEIRS[program], *arguments]
        return [str(self.python.with_name("zwrap")), program, *arguments]

    def environment(self) -> dict[str, str]:
        """Return the environment of all programs."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        return {
            **kept, "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(self.packages), "ZOCALO_CONFIG": str(self.place / "site.yml"),
            "ZWRAP_STATE": str(self.place / "state"),
        }  # fmt: skip

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a program, whose words are kept in a file."""
        with (self.place / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command, env=self.environment(), cwd=self.place, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def run(self, name: str, command: list[str]) -> str:
        """Run a program to its end and return what it wrote to standard output."""
        with (self.place / f"{name}.log").open("wb") as log:
            done = subprocess.run(
                command, env=self.environment(), cwd=self.place, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, timeout=ANSWER_S, check=False, text=True,
            )  # fmt: skip
        return done.stdout

    def filled(self, value: object) -> object:
        """Return a value with the directory of this way put in."""
        return json.loads(json.dumps(value).replace("{place}", str(self.place)))

    def plain(self, value: object) -> str:
        """Return the text of a value that is the same in all ways."""
        text = json.dumps(value, sort_keys=True)
        return text.replace(str(self.place), "{place}").replace(str(self.packages), "{packages}")

    def note(self, example: str, where: str, value: object) -> None:
        """Note something that came of an example."""
        self.seen.setdefault(example, {}).setdefault(where, []).append(self.plain(value))

    def words(self, example: str) -> str:
        """Return the end of what an example said, for somebody who looks for a fault."""
        log = self.place / f"{example}.log"
        return log.read_text(errors="replace")[-1500:] if log.exists() else ""


class Collector:
    """What is sent in a vhost, as it comes."""

    def __init__(self, way: Way, transport: Transport, parts: list[Example]) -> None:
        self.way, self.transport = way, transport
        self.owner: dict[str, str] = {}
        """Queue or topic to the example whose messages come there."""
        self.inputs: set[str] = set()
        """Queues of which the dead letters are collected."""
        self.wanted = sum(e.case.get("messages", 0) + e.case.get("dead", 0) for e in parts)
        self.came = 0
        self.idle: set[str] = set()
        """Names of the services that are up."""
        self.reports: dict[str, dict[str, Any]] = {}
        """Last status of each service and wrapper."""
        transport.subscribe_topic(STATUS)
        for each in parts:
            for topic in each.hears():
                self.owner[topic] = each.name
                transport.subscribe_topic(topic)
            for queue in each.collects():
                self.owner[queue] = each.name
                transport.subscribe(queue, 10)
            if each.kind == "services":
                self.owner[each.queue] = each.name
                self.inputs.add(each.queue)
                transport.inspector().subscribe_dead_letters(each.queue, 10)

    def take(self, timeout_s: float) -> bool:
        """Take one message, if one comes."""
        delivery = self.transport.receive(timeout_s)
        if delivery is None:
            return False
        if delivery.source == STATUS:
            self._hear(delivery.message.body)
            return True
        self.came += 1
        where, body = delivery.source, delivery.message.body
        example = self.owner[where]
        if where in self.inputs:
            self.way.note(example, f"dead letters of {where}", body)
        else:
            self.way.note(example, where, [body, self._headers(delivery)])
        if not delivery.topic:
            delivery.ack()
        return True

    def _headers(self, delivery: Delivery) -> dict[str, Any]:
        """Return the headers that a sender set; those of zwrap and of the server are left out."""
        return {
            key: value
            for key, value in delivery.message.headers.items()
            if not key.startswith(("zwrap-", "x-"))
        }

    def _hear(self, body: object) -> None:
        """Note a status: of a service its names, of a wrapper its task and own fields."""
        if not isinstance(body, dict):
            return
        if kind := body.get("serviceclass"):
            self.reports[kind] = {"service": body["service"], "serviceclass": kind}
            if body.get("status") == IDLE:
                self.idle.add(kind)
        elif task := body.get("task"):
            fields = {key: body[key] for key in ("task", "beamline", "pages") if key in body}
            self.reports[task.partition(" ")[0]] = fields

    def wait_for(self, services: set[str]) -> None:
        """Wait until services are up."""
        deadline = time.monotonic() + START_S
        while not services <= self.idle and time.monotonic() < deadline:
            self.take(0.2)

    def wait(self) -> None:
        """Wait until all messages came, and a moment for one too many."""
        deadline = time.monotonic() + ANSWER_S
        while self.came < self.wanted and time.monotonic() < deadline:
            self.take(0.2)
        quiet = time.monotonic() + QUIET_S
        while time.monotonic() < quiet:
            self.take(0.1)


def run(way: Way, parts: list[Example]) -> None:
    """Run all examples one way."""
    configuration = Configuration.from_file(way.place / "site.yml").activate()
    with connect(configuration) as transport, ended() as processes:
        collector = Collector(way, transport, parts)
        services = [each for each in parts if each.kind == "services"]
        for each in services:
            processes.append(way.start(each.name, way.command("zocalo.service", "-s", each.name)))
        collector.wait_for({each.name for each in services})
        for each in services:
            give(way, transport, each)
        with ThreadPoolExecutor(1) as others:
            done = others.submit(run_others, way, [e for e in parts if e.kind != "services"])
            while not done.done():
                collector.take(0.2)
            done.result()
        collector.wait()
        for name, report in collector.reports.items():
            way.note(name, "status", report)
    with connect(configuration) as transport:
        for each in parts:
            if left := transport.inspector().waiting(each.queue):
                way.note(each.name, each.queue, f"{left} messages left")


def give(way: Way, transport: Transport, example: Example) -> None:
    """Send a service its messages."""
    for topic, body in example.case.get("broadcasts", {}).items():
        transport.broadcast(topic, body)
    for payload in example.case.get("payloads", []):
        body = way.filled(example.envelope(payload))
        transport.send(example.queue, body, {RECIPE_HEADER: True})
    for body in example.case.get("plain", []):
        transport.send(example.queue, body)


def run_others(way: Way, parts: list[Example]) -> None:
    """Run the wrappers and tools one after the other."""
    for each in parts:
        if each.kind == "wrappers":
            step = way.place / f"{each.name}.json"
            step.write_text(json.dumps(way.filled(each.envelope(each.case.get("payload", [])))))
            arguments = ["--wrap", each.name, "--recipewrapper", str(step)]
            way.run(each.name, way.command("zocalo.wrap", *arguments))
        else:
            module = [str(way.python), "-P", "-m", "beamline.tools", each.name]
            way.note(each.name, "output", way.run(each.name, [*module, *each.case["arguments"]]))


@contextlib.contextmanager
def ended() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield a list for processes that lead groups, which are ended."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield processes
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + END_S
            for each in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(each.pid, number)
            for each in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    each.wait(max(0.1, deadline - time.monotonic()))
