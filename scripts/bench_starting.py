"""Side by side on a real RabbitMQ: how long until something works, and what waiting costs.

* From the start of the Dispatcher's process to the message that it makes of a waiting request.
* CPU of a Dispatcher that waits: it and its children, over some seconds.
* `zocalo.wrap` with a wrapper that does nothing, from start to end.
* Looking for a wrapper among the installed entry points: zwrap's own way and importlib.metadata.

The contestants take turns in each round. Run by `scripts/bench starting`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from bench_messaging import BODY, Broker

from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

IDLE_S = 40.0
LOADED = (
    "import argparse, json, logging, pathlib, subprocess, threading, msgspec, "
    "zwrap.plugins.registry"
)
"""What a wrapper has loaded anyway when it looks."""
LOOKING = {
    "zwrap": f"{LOADED}; zwrap.plugins.registry.foreign('zocalo.wrappers')",
    "importlib.metadata": f"{LOADED}; from importlib.metadata import entry_points as find; "
    "find(group='zocalo.wrappers')",
    "neither": LOADED,
}
RECIPE = {"start": [[1, []]], "1": {"queue": "bench.first", "parameters": {}}}
WRAPPING = {
    **BODY,
    "recipe": {"start": [[1, []]], "1": {"queue": "wrapping", "parameters": {}, "output": {}}},
}
QUEUES = ("processing_recipe", "bench.first")


class Bench:
    """A site on a broker of its own."""

    def __init__(self, directory: Path) -> None:
        self.broker = Broker("rabbitmq", directory / "rabbitmq")
        (directory / "recipes").mkdir()
        (directory / "recipes" / "r.json").write_text(json.dumps(RECIPE))
        site = json.loads(self.broker.site)
        recipes = str(directory / "recipes")
        site["store"] = {"plugin": "storage", "zocalo.recipe_directory": recipes}
        site["environments"]["default"].append("store")
        (directory / "site.json").write_text(json.dumps(site))
        (directory / "rw.json").write_text(json.dumps(WRAPPING))
        self.directory = directory
        self.environment = {
            **os.environ, "ZOCALO_CONFIG": str(directory / "site.json"),
            "ZWRAP_STATE": str(directory / "state"),
        }  # fmt: skip
        text = self.broker.site.replace('"vhost"', '"declare": "classic", "vhost"')
        self.transport: Transport = connect(
            Configuration.from_string(text).activate(), self.broker.transport
        )
        for queue in QUEUES:
            self.transport.inspector().waiting(queue)
        for topic in ("command", "transient.status"):
            self.transport.broadcast(topic, {}, expires_s=1)
        self.transport.subscribe("bench.first")

    def start(self, command: Path, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(command), "-t", self.broker.transport, *options], env=self.environment,
            cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def first_message_s(self, commands: Path) -> float:
        while left := self.transport.receive(0.5):
            left.ack()
        self.transport.send("processing_recipe", {"recipes": ["r"], "parameters": {}})
        began = time.perf_counter()
        process = self.start(commands / "zocalo.service", "-s", "Dispatcher")
        delivery = self.transport.receive(60)
        taken_s = time.perf_counter() - began
        if delivery is None:
            sys.exit(f"{commands}: the Dispatcher sent nothing")
        delivery.ack()
        end(process)
        return taken_s

    def idle_percent(self, commands: Path) -> float:
        process = self.start(commands / "zocalo.service", "-s", "Dispatcher")
        time.sleep(5)
        before = cpu_s(process.pid)
        time.sleep(IDLE_S)
        used = cpu_s(process.pid) - before
        if process.poll() is not None:
            sys.exit(f"{commands}: the Dispatcher ended with {process.returncode}")
        end(process)
        return used / IDLE_S * 100

    def wrap_s(self, commands: Path) -> float:
        options = ("--wrap", "bench-nothing", "--recipewrapper", "rw.json")
        began = time.perf_counter()
        process = self.start(commands / "zocalo.wrap", *options)
        if process.wait():  # with a limit Python looks every 50 ms only
            sys.exit(f"{commands}: zocalo.wrap ended with {process.returncode}")
        taken_s = time.perf_counter() - began
        for file in self.directory.glob("*.json"):
            if file.name not in ("site.json", "rw.json"):
                file.unlink()  # the claim of that run
        return taken_s


def cpu_s(pid: int) -> float:
    """CPU time of a process and its children."""
    parent = psutil.Process(pid)
    times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a service, at first with time to acknowledge what it did."""
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def nothing(python: Path, package: str) -> Iterator[None]:
    """While this lasts, an environment has a wrapper that does nothing."""
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    told = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True)
    module = Path(told.stdout.strip()) / "benchnothing.py"
    info = module.with_name("benchnothing-1.dist-info")
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: benchnothing\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[zocalo.wrappers]\nbench-nothing = benchnothing:Nothing\n"
    )
    module.write_text(
        f"from {package} import BaseWrapper\n"
        "class Nothing(BaseWrapper):\n"
        "    def run(self):\n"
        "        return True\n"
    )
    try:
        yield
    finally:
        module.unlink()
        shutil.rmtree(info)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python with zocalo and workflows")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    contestants = {"zwrap": Path(sys.executable).parent, "zocalo": Path(options.peers).parent}
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        try:
            with (
                nothing(Path(sys.executable), "zwrap.wrapper"),
                nothing(Path(options.peers), "zocalo.wrapper"),
            ):
                compare(bench, contestants, options.rounds)
            compare_looking(options.rounds)
        finally:
            bench.transport.close()
            bench.broker.down()


def compare_looking(rounds: int) -> None:
    taken_s: dict[str, list[float]] = {name: [] for name in LOOKING}
    for _ in range(rounds):
        for name, text in LOOKING.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-P", "-c", text], check=True)
            taken_s[name].append(time.perf_counter() - began)
    found = ", ".join(f"{name} {statistics.median(each):.3f} s" for name, each in taken_s.items())
    print(f"\nStart of Python and looking for entry points, median: {found}")


def compare(bench: Bench, contestants: dict[str, Path], rounds: int) -> None:
    wraps: dict[str, list[float]] = {name: [] for name in contestants}
    firsts: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, commands in contestants.items():
            wraps[name].append(bench.wrap_s(commands))
    for _ in range(max(3, rounds // 4)):
        for name, commands in contestants.items():
            firsts[name].append(bench.first_message_s(commands))
    idle = {name: bench.idle_percent(commands) for name, commands in contestants.items()}
    print(f"\n## Starting and waiting, over RabbitMQ ({rounds} rounds)\n")
    print("| | zwrap | zocalo 1.5.0 | ratio |\n|---|---|---|---|")
    for title, found in (
        ("`zocalo.wrap` that does nothing, median", wraps),
        ("the same, slowest", {name: [max(each)] for name, each in wraps.items()}),
        (
            "the same, median of runs below 1 s",
            {name: [run for run in each if run < 1] for name, each in wraps.items()},
        ),
        ("Dispatcher: start to first message, median", firsts),
    ):
        ours, theirs = (statistics.median(found[name]) for name in contestants)
        print(f"| {title} | {ours:.3f} s | {theirs:.3f} s | {ours / theirs:.2f}x |")
    slow = {name: sum(run > 1 for run in each) for name, each in wraps.items()}
    print(f"| its runs above 1 s | {slow['zwrap']} | {slow['zocalo']} | |")
    ours, theirs = idle["zwrap"], idle["zocalo"]
    print(f"| Dispatcher that waits, CPU | {ours:.2f} % | {theirs:.2f} % | |")


if __name__ == "__main__":
    main()
