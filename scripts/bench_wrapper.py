"""What a wrapper costs, and how soon the end of a job is told: built-in batch system and spool.

* From the last act of a program to its final message at the next service.
* From the death of a wrapper to the message that the Watcher sends in its place.
* CPU and memory of the wrapper beside a program that does nothing for a minute.
* A program that prints as fast as it can, with the wrapper and with its output in a file.

Run by `scripts/bench wrapper`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from zwrap.attempt.verdict import CLAIM
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.transport.spool.transport import SpoolTransport

BIN = Path(sys.executable).parent
WATCH_S = 5.0
PRINTS = """
import sys, time
line = b"x" * 99 + b"\\n"
began = due = time.perf_counter()
for _ in range(100):
    sys.stdout.buffer.write(line * 100_000)
    sys.stdout.flush()
    due += float(sys.argv[1])
    time.sleep(max(0, due - time.perf_counter()))
open("took", "w").write(str(time.perf_counter() - began))
"""
"""1 GB in portions of 10 MB, that many seconds apart at least."""


class Site:
    """A site on a spool, with its services at work."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        site = {
            "version": 1, "environments": {"default": ["files", "batch"]},
            "files": {"plugin": "spool", "path": str(directory / "spool")},
            "batch": {"plugin": "clusters", "local": {"kind": "local", "watch_s": WATCH_S}},
        }  # fmt: skip
        (directory / "site.json").write_text(json.dumps(site))
        self.environment = {
            **os.environ, "ZOCALO_CONFIG": str(directory / "site.json"),
            "ZWRAP_STATE": str(directory / "state"), "ZWRAP_LOCAL_CPUS": "2",
        }  # fmt: skip
        self.transport = SpoolTransport(directory / "spool")
        self.transport.subscribe("finals", 10)
        self.services = [
            subprocess.Popen(
                [BIN / "zocalo.service", "-s", name], env=self.environment,
                stderr=subprocess.DEVNULL,
            )
            for name in ("Submitter", "Watcher")
        ]  # fmt: skip
        self.jobs = 0

    def submit(self, command: list[str]) -> Path:
        """Submit a job that runs a command; its working directory."""
        self.jobs += 1
        place = self.directory / f"w{self.jobs}"
        step = {
            "queue": "cluster.submission",
            "parameters": {
                "cluster": {"commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"},
                "workingdir": str(place),
            },
            "job_parameters": {"command": command},
            "output": {"success": 2, "failure": 2},
        }
        recipe = Recipe({"start": [[1, []]], "1": step, "2": {"queue": "finals"}})
        self.transport.commit(Envelope(recipe, 1, environment={"ID": "b"}).start())
        return place

    def final(self) -> float:
        """Wait for a final message; when it came, seconds since the epoch."""
        delivery = self.transport.receive(180)
        at = time.time()
        if delivery is None:
            sys.exit("no final message within 3 minutes")
        delivery.ack()
        return at

    def wrapper(self, place: Path) -> psutil.Process:
        """Return the wrapper of a job as soon as its program runs."""
        while not list(place.glob("*.log")):
            time.sleep(0.05)
        [file] = place.glob(f".zwrap/*/{CLAIM}")
        return psutil.Process(int(json.loads(file.read_text())["process"].split("-")[-2]))

    def close(self) -> None:
        for service in self.services:
            service.terminate()
            service.wait()


def told_s(site: Site) -> float:
    """From the end of a program to its final message."""
    place = site.submit(["sh", "-c", "sleep 0.2; date +%s.%N >ended"])
    at = site.final()
    return at - float((place / "ended").read_text())


def spoken_for_s(site: Site) -> float:
    """From the death of a wrapper to the message about it."""
    place = site.submit(["sleep", "100"])
    wrapper = site.wrapper(place)
    time.sleep(WATCH_S * 4)  # the Watcher looks as seldom as it ever does
    began = time.time()
    wrapper.send_signal(signal.SIGKILL)
    return site.final() - began


def cost(site: Site, seconds: float) -> tuple[float, float]:
    """CPU in percent and memory in MB (unique, resident) of a wrapper whose program sleeps."""
    place = site.submit(["sleep", str(seconds + 15)])
    wrapper = site.wrapper(place)
    time.sleep(5)
    before = sum(wrapper.cpu_times()[:2])
    time.sleep(seconds)
    percent = (sum(wrapper.cpu_times()[:2]) - before) / seconds * 100
    memory = wrapper.memory_info().rss / 1e6
    site.final()
    return percent, memory


def printing_s(site: Site, pause_s: float) -> tuple[float, float]:
    """Seconds that a program prints 1 GB, alone and in the wrapper."""
    command = [sys.executable, "-P", "-c", PRINTS, str(pause_s)]
    place = site.directory / "alone"
    place.mkdir(exist_ok=True)
    with (place / "log").open("wb") as log:
        subprocess.run(command, cwd=place, stdout=log, check=True)
    alone_s = float((place / "took").read_text())
    (place / "log").unlink()
    wrapped = site.submit(command)
    site.final()
    for log_file in wrapped.glob("*.log"):
        log_file.unlink()
    return alone_s, float((wrapped / "took").read_text())


def show(what: str, values: list[float], unit: str = "s") -> None:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(f"| {what} | {len(values)} | {statistics.median(values):.2f} {unit} | {p99:.2f} {unit} |",
          flush=True)  # fmt: skip


def compare(site: Site, pause_s: float, how: str) -> None:
    pairs = [printing_s(site, pause_s) for _ in range(5)]
    alone, wrapped = (statistics.median(each) for each in zip(*pairs, strict=True))
    slower = wrapped / alone * 100 - 100
    print(f"1 GB printed {how}: {alone:.2f} s alone, {wrapped:.2f} s in the wrapper "
          f"({slower:+.1f} %).", flush=True)  # fmt: skip


def several(count: int, measure: Callable[[], Any]) -> list[Any]:
    return [measure() for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a wrapper costs")
    parser.add_argument("--directory", help="where to measure; default: a temporary directory")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as place:
        site = Site(Path(place))
        try:
            print("| | runs | median | p99 |\n|---|---|---|---|")
            told_s(site)
            show(
                "end of a program to its final message", several(options.runs, lambda: told_s(site))
            )
            deaths = max(3, options.runs // 5)
            show(f"death of a wrapper to its message, watched every {WATCH_S:g} s",
                 several(deaths, lambda: spoken_for_s(site)))  # fmt: skip
            percent, memory = cost(site, 60.0)
            print(f"\nA wrapper whose program sleeps: {percent:.2f} % CPU, {memory:.0f} MB.")
            for pause_s, how in ((0.1, "at 100 MB/s"), (0.0, "as fast as it can")):
                compare(site, pause_s, how)
        finally:
            site.close()


if __name__ == "__main__":
    main()
