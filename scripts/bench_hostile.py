"""How long good messages take beside hostile ones: spool and built-in batch system.

For each service there are two sites, of which one never gets a hostile input. Runs on them take
turns. In both a good message is sent every `PACE_S`; on the other site an input of tests/hostile,
from the folder or generated, goes before every tenth of them (`--every`). The latency ends when
the good message was handled: for the Submitter with the message that tells of the submission, for
the Watcher with that of the job's failure. Run by `scripts/bench hostile`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from hostile.bad import QUEUES, Bad, kept  # noqa: E402
from hostile.doors import Spool  # noqa: E402
from hostile.generated import collected  # noqa: E402
from hostile.site import Site  # noqa: E402
from hostile.trial import JOBS  # noqa: E402

PACE_S = {"Submitter": 0.5, "Watcher": 0.5}
DEFAULT_PACE_S = 0.1
"""Time between two good messages, in seconds. Each job of the built-in batch system starts some
processes: if jobs came faster than two processors take them, their own queue would be measured."""

WAIT_S = 60.0
"""Time after which a good message counts as lost, in seconds."""

POLL_S = 0.005
"""Poll interval of the good messages, in seconds."""

GOAL = 1.5
"""Largest ratio, beside hostile ones to without, that is aimed at."""

COLUMNS = ("service", "good ones", "hostile ones", "median without", "beside hostile ones", "ratio",
           "p95 without", "beside hostile ones", "ratio", "lost")  # fmt: skip


def bad_ones(service: str, seed: int) -> Iterator[Bad]:
    """Yield inputs for a service without end: those of the folder, and as many generated ones."""
    chance = random.Random(seed)
    fixed = [bad for bad in kept() if bad.service == service]
    for number in itertools.count():
        mixed = [*fixed, *collected(service, len(fixed), seed + number, spool=True)]
        chance.shuffle(mixed)
        yield from mixed


class Stream:
    """Good messages to a service of one site, and their latencies."""

    def __init__(self, site: Site, service: str) -> None:
        self._site, self._service = site, service
        self._serial = itertools.count()
        self._under_way: dict[str, float] = {}
        """Name of a good message to the time when it was sent."""
        self.latencies: list[float] = []
        """Latencies in seconds."""
        self.lost = 0

    def run(self, count: int, bad: Sequence[Bad] = (), every: int = 1) -> None:
        """Send that many good messages, an input before each `every`th one, and wait for all."""
        pace_s = PACE_S.get(self._service, DEFAULT_PACE_S)
        left = iter(bad)
        with self._site.connected() as transport:
            began = time.monotonic()
            for number in range(count):
                serial = next(self._serial)
                if number % every == 0 and (each := next(left, None)):
                    self._site.send_bad(each, f"bad-{self._service}-{serial}")
                name = f"good-{self._service}-{serial}"
                self._under_way[name] = time.monotonic()
                self._site.send_good(transport, self._service, name)
                while time.monotonic() < began + (number + 1) * pace_s:
                    self._look()
        deadline = time.monotonic() + WAIT_S
        while self._under_way and time.monotonic() < deadline:
            self._look()
        self.lost += len(self._under_way)
        self._under_way.clear()
        if ended := self._site.ended(*self._site.processes):
            raise SystemExit(f"bench hostile: {ended}, so the {self._service} is not measured.")

    def _look(self) -> None:
        """Note the good messages that were handled, and pause."""
        for name, sent in list(self._under_way.items()):
            if self._site.has_arrived(self._service, name):
                self.latencies.append(time.monotonic() - sent)
                del self._under_way[name]
        time.sleep(POLL_S)


def measured(service: str, options: argparse.Namespace) -> str:
    """Measure a service; return its row of the table."""
    needed = JOBS if service in JOBS else (service,)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        sites: list[Site] = []
        try:
            for name in ("quiet", "hostile"):
                (directory := Path(place, name)).mkdir()
                sites.append(Site(directory, Spool(directory), needed))
            quiet, hostile = (Stream(site, service) for site in sites)
            for stream in (quiet, hostile):
                stream.run(5)  # the services have started
                stream.latencies.clear()
            # All are drawn before the first run, as that takes time.
            portion = -(-options.count // options.every)
            source = bad_ones(service, options.seed)
            bad = list(itertools.islice(source, portion * options.rounds))
            for number in range(options.rounds):
                quiet.run(options.count)
                hostile.run(options.count, bad[number * portion :][:portion], options.every)
        finally:
            for site in sites:
                site.close()
    cells = [service, f"{len(hostile.latencies)}", f"{len(bad)}"]
    for measure in (statistics.median, p95):
        cells += compared(measure, quiet.latencies, hostile.latencies)
    return "| " + " | ".join([*cells, f"{quiet.lost + hostile.lost}"]) + " |"


def compared(
    measure: Callable[[list[float]], float], quiet: list[float], hostile: list[float]
) -> list[str]:
    """Return cells with both values and their ratio, as far as both were measured."""
    if not quiet or not hostile:
        return ["not measured"] * 3
    without, beside = measure(quiet), measure(hostile)
    return [f"{without * 1000:,.0f} ms", f"{beside * 1000:,.0f} ms", f"{beside / without:.2f}x"]


def p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Good messages beside hostile ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=40, help="good messages in a run")
    parser.add_argument("--every", type=int, default=10, help="good messages for a hostile one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--service", action="append", choices=list(QUEUES))
    options = parser.parse_args()
    print(f"Ratios of at most {GOAL:g} are aimed at.\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for service in options.service or QUEUES:
        print(measured(service, options), flush=True)


if __name__ == "__main__":
    main()
