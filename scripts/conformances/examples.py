"""Run examples of services, wrappers and tools under python-zocalo and under zwrap; compare them.

The examples (tests/data/beamline) are run three ways: under python-zocalo; unchanged under zwrap,
with zocalo and workflows installed; and with their imports changed by the rule of
docs/compat-zocalo.md, where neither is installed. Each way has a vhost of a RabbitMQ of its own.
What they send, their dead letters and their status messages are to be equal.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from .ways import STATUS, Example, Seen, Way, run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "data" / "beamline"
BOTH = ROOT / ".venv-conformance" / "bin" / "python"
"""Python of the environment with zwrap, zocalo and workflows."""
ALONE = ROOT / ".venv" / "bin" / "python"
"""Python of the environment with zwrap alone."""
BEFORE, AFTER = 60, 300
"""Numbers of characters shown before and after the first one that differs."""

RABBITMQ = """
vhosts: [{{name: {vhost}}}]
permissions: [{{vhost: {vhost}, user: admin, configure: ".*", write: ".*", read: ".*"}}]
policies: [{{name: redelivery, vhost: {vhost}, pattern: ".*", definition: {{delivery-limit: 5}}}}]
exchanges: []
groups:
- names: {queues}
  vhost: {vhost}
  settings: {{queues: {{type: quorum, dead-letter-routing-key-pattern: "dlq.{{name}}"}}}}
- {{names: {topics}, vhost: {vhost}, settings: {{broadcast: true}}}}
"""


def examples() -> list[Example]:
    """Return all examples."""
    cases = yaml.safe_load((EXAMPLES / "cases.yaml").read_text())
    return [
        Example(kind, name, case)
        for kind in ("services", "wrappers", "tools")
        for name, case in cases[kind].items()
    ]


@contextlib.contextmanager
def rabbitmq(place: Path) -> Iterator[dict[str, Any]]:
    """Yield how to reach a server of its own."""
    rig = [sys.executable, "-P", str(ROOT / "scripts" / "rig"), "rabbitmq"]
    options = ["--directory", str(place)]
    started = subprocess.run([*rig, "up", *options], capture_output=True, text=True, check=False)
    try:
        if started.returncode:
            sys.exit(f"conformance: the examples need RabbitMQ: {started.stderr.strip()}")
        yield json.loads((place / "connection.json").read_text())
    finally:
        subprocess.run([*rig, "down", *options], capture_output=True, check=False)


def set_up(way: Way, given: dict[str, Any], parts: list[Example]) -> None:
    """Write the site file of a way, and make its queues."""
    way.place.mkdir()
    user = {key: given[key] for key in ("username", "password")}
    vhost = way.name.replace(" ", "-")
    sections: dict[str, dict[str, Any]] = {
        "store": {
            "plugin": "storage", "beamline.name": "i99", "beamline.metrics": True,
            "beamline.samples": {"lysozyme": 17},
        },
        "mq": {
            "plugin": "pika", "host": given["host"], "port": given["port"], "vhost": vhost, **user,
        },
        "api": {"plugin": "rabbitmqapi", "base_url": given["api"], "vhost": vhost, **user},
        "chosen": {"plugin": "transport", "default": "PikaTransport"},
    }  # fmt: skip
    site = {"version": 1, "environments": {"default": [*sections]}, **sections}
    (way.place / "site.yml").write_text(json.dumps(site))
    inputs = {each.queue for each in parts}
    queues = {*inputs, *(queue for each in parts for queue in each.collects())}
    topics = {"command", STATUS, *(topic for each in parts for topic in each.hears())}
    topics |= {topic for each in parts for topic in each.case.get("broadcasts", {})}
    (way.place / "rabbitmq.yml").write_text(
        RABBITMQ.format(vhost=vhost, queues=json.dumps([*queues]), topics=json.dumps([*topics]))
    )
    command = [str(BOTH.with_name("zwrap")), "zocalo.configure_rabbitmq", "rabbitmq.yml"]
    done = subprocess.run(
        command, env=way.environment(), cwd=way.place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"conformance: the queues of the examples cannot be made: {done.stderr.strip()}")


def sources(place: Path, *, changed: bool) -> Path:
    """Copy the examples into a directory, as they are, or with their imports changed."""
    shutil.copytree(EXAMPLES, place)
    if changed:
        page = (ROOT / "docs" / "compat-zocalo.md").read_text()
        rule = page.partition("```sh\n")[2].partition("```")[0]
        for file in place.rglob("*.py"):
            subprocess.run(["bash", "-c", rule.replace("FILE.py", str(file))], check=True)
    return place


def installed(place: Path, *, changed: bool) -> Path:
    """Install the examples into a directory of their own."""
    source = sources(place.with_suffix(".source"), changed=changed)
    subprocess.run(
        [str(BOTH), "-P", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
         "--no-build-isolation", "--no-index", "--target", str(place), str(source)],
        check=True,
    )  # fmt: skip
    return place


def differences(example: str, theirs: Seen, ours: Seen) -> dict[str, str]:
    """Return where two runs of an example differ, and how."""
    found = {}
    for where in sorted({*theirs, *ours}):
        expected, came = theirs.get(where, []), ours.get(where, [])
        unlike = [pair for pair in zip(expected, came, strict=False) if pair[0] != pair[1]]
        if unlike:
            found[f"{example} {where}"] = "expected {}, came {}".format(*excerpts(*unlike[0]))
        elif expected != came:
            found[f"{example} {where}"] = f"expected {len(expected)} of them, came {len(came)}"
    return found


def excerpts(*texts: str) -> list[str]:
    """Return what is around the first character at which texts differ."""
    same = next((n for n, each in enumerate(zip(*texts, strict=False)) if len({*each}) > 1), 0)
    begin = max(0, same - BEFORE)
    return [("... " if begin else "") + text[begin : same + AFTER] for text in texts]


def reasons() -> dict[str, str]:
    """Return the reason of each listed difference: lines after a line ``== reason``."""
    listed, reason = {}, ""
    for line in (EXAMPLES / "differences.txt").read_text().splitlines():
        if line.startswith("== "):
            reason = line[3:]
        elif line and not line.startswith("#"):
            listed[line] = reason
    return listed


def report(parts: list[Example], upstream: Way, others: list[Way]) -> int:
    """Print a line for each example and way; the number of differences that are not listed."""
    listed, unlisted = reasons(), 0
    seen: set[str] = set()
    for each in parts:
        theirs = upstream.seen.get(each.name, {})
        expected = each.case.get("messages", 0) + each.case.get("dead", 0)
        number = sum(map(len, theirs.values())) - len({"status", "output"}.intersection(theirs))
        if number != expected:
            unlisted += 1
            print(f"{each.name}: {number} messages under python-zocalo, and not {expected}")
            print(upstream.words(each.name))
        for way in others:
            found = differences(each.name, theirs, way.seen.get(each.name, {}))
            told = {f"{where}, {way.name}": how for where, how in found.items()}
            for where, how in told.items():
                print(f"{where}: {listed.get(where) or f'DIFFERS: {how}'}")
            if new := told.keys() - listed.keys():
                unlisted += len(new)
                print(way.words(each.name))
            if not told:
                print(f"{each.kind[:-1]} {each.name}, {way.name}: the same (messages: {number})")
            seen |= told.keys()
    for where in listed.keys() - seen:
        print(f"{where} is listed, and does not differ")
    return unlisted


def compared(keep: Path | None) -> int:
    """Run and compare the examples; the number of differences that are not listed.

    `keep`: directory where all that was started with stays; None: it does not.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that was started is ended
    with tempfile.TemporaryDirectory(prefix="examples-") as scratch:
        return compare(keep / "examples" if keep else Path(scratch))


def compare(place: Path) -> int:
    """Run and compare the examples in a new directory; the number of differences not listed."""
    parts = examples()
    original = installed(place / "original", changed=False)
    rewritten = installed(place / "changed", changed=True)
    ways = [
        Way("under python-zocalo", BOTH, original, place / "theirs", theirs=True),
        Way("unchanged", BOTH, original, place / "unchanged"),
        Way("imports changed", ALONE, rewritten, place / "rewritten"),
    ]
    with rabbitmq(place / "rabbitmq") as given, ThreadPoolExecutor(len(ways)) as at_work:
        for way in ways:
            set_up(way, given, parts)
        for done in [at_work.submit(run, way, parts) for way in ways]:
            done.result()
    return report(parts, ways[0], ways[1:])
