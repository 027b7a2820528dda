"""Benches: a desk, its site file, and the programs of either side that are started there."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import FACILITY
from .desks import HEARD, ActiveMQDesk, Desk, RabbitMQDesk, SpoolDesk
from .forking import Forks, Program
from .frames import Frame

THEIRS, OURS = SIDES = ("theirs", "ours")

HANGS_S = 60.0
"""Time after which a program that has not ended, or a message that has not come, is missing."""

POLL_S = 0.05
"""Interval at which desks are looked at, in seconds."""

LOADED = {
    THEIRS: (
        "zocalo",
        [
            *(f"zocalo.cli.{name}" for name in (
                "go", "wrap", "shutdown", "pickup", "dlq_check", "dlq_purge", "dlq_reinject",
                "queue_drain",
            )),
            "zocalo.service.dispatcher", "zocalo.service.jsonlines",
            "workflows.contrib.start_service", "workflows.transport.pika_transport",
            "workflows.transport.stomp_transport",
        ],
    ),
    OURS: (
        "zwrap",
        [
            *(f"zwrap.cli.{name}" for name in (
                "start", "go", "wrap", "service", "shutdown", "pickup", "dlq_check", "dlq_purge",
                "dlq_reinject", "queue_drain",
            )),
            "zwrap.service.dispatcher", "zwrap.service.jsonlines", "zwrap.service.submitter",
            "zwrap.compat.workflows.hosting", "zwrap.transport.rabbitmq.transport",
            "zwrap.transport.stomp.transport", "zwrap.transport.spool.transport",
        ],
    ),
}  # fmt: skip
"""Distribution of each side, and what its programs load."""

ENTRY_POINTS = """\
[workflows.services]
Step = facility:Step
StepChanged = facility_changed:Step
TheirDispatcher = zocalo.service.dispatcher:Dispatcher
TheirJSONLines = zocalo.service.jsonlines:JSONLines
[zocalo.wrappers]
facility = facility:Wrapper
facility-changed = facility_changed:Wrapper
"""


@dataclass
class Ground:
    """The scratch directory, the example classes and the helper processes that all chains share."""

    directory: Path
    forks: Mapping[str, Forks]

    @property
    def parts(self) -> Path:
        """Directory in PYTHONPATH with the facility's parts."""
        return self.directory / "parts"

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of the programs of a bench."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.directory), "LANG": "C.UTF-8", "PYTHONPATH": str(self.parts),
            "ZOCALO_CONFIG": str(self.directory / name / "site.yml"),
            "ZWRAP_STATE": str(self.directory / name / "state"),
        }  # fmt: skip


def prepared(directory: Path, changed: str) -> Ground:
    """Install the facility's parts in a directory, and start the programs that fork.

    `changed`: the module of the parts with its imports changed by the rule.
    """
    info = directory / "parts" / "facility-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: facility\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info.parent / "facility.py").write_text(FACILITY.read_text())
    (info.parent / "facility_changed.py").write_text(changed)
    kept = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
    environment = {
        **kept, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(info.parent), "HOME": str(directory)
    }  # fmt: skip
    forks = {side: Forks(*LOADED[side], environment) for side in SIDES}
    return Ground(directory, forks)


@dataclass
class Field:
    """A message transport, and the server behind it, over which chains are run."""

    ground: Ground
    transport: str
    given: Mapping[str, Any] = field(default_factory=dict)
    """How to reach its server."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the storage section."""
    benches: list[Bench] = field(default_factory=list)

    def directory(self, name: str) -> Path:
        return self.ground.directory / self.transport / name

    def desk(self, name: str, reads: Sequence[str], watched: Sequence[str]) -> Desk:
        if self.transport == "spool":
            return SpoolDesk(self.directory(name) / "spool", watched)
        kind = RabbitMQDesk if self.transport == "rabbitmq" else ActiveMQDesk
        return kind(self.given, name, reads, watched)

    def bench(self, name: str, reads: Sequence[str], watched: Sequence[str]) -> Bench:
        made = Bench(self, name, self.desk(name, reads, watched))
        self.benches.append(made)
        return made

    def close(self) -> None:
        for bench in self.benches:
            bench.desk.close()


class Bench:
    """A desk with its site file; what was heard there on topics is kept."""

    def __init__(self, its: Field, name: str, desk: Desk) -> None:
        self.field, self.name, self.desk = its, name, desk
        self.directory = its.directory(name)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.heard: list[Frame] = []
        self.surplus: list[Frame] = []
        """Messages that nobody expected."""
        self.programs: list[Program] = []
        settings = {
            "plugin": "storage",
            **its.settings,
            "zocalo.go.fallback_location": str(self.directory / "drop"),
            "zocalo.dlq.purge_location": str(self.directory / "DLQ"),
        }
        sections = {"store": settings, **desk.sections}
        text = "".join(f"{each}: {json.dumps(section)}\n" for each, section in sections.items())
        names = ", ".join(sections)
        (self.directory / "site.yml").write_text(
            f"version: 1\nenvironments: {{default: [{names}]}}\n{text}"
        )

    def start(self, side: str, *command: str) -> Program:
        """Start a program of a side; the spool, which theirs do not know, has only ours."""
        forks = self.field.ground.forks[OURS if self.field.transport == "spool" else side]
        log = self.directory / f"{command[0]}-{side}-{len(self.programs)}.log"
        environment = self.field.ground.environment(f"{self.field.transport}/{self.name}")
        program = forks.start(command, environment, self.directory, log)
        self.programs.append(program)
        return program

    def run(self, side: str, *command: str, statuses: Sequence[int] = (0,)) -> Program:
        """Run a program to its end.

        Raises ProgramError if it does not end, or with another status.
        """
        return ended(self.start(side, *command), statuses)

    def look(self) -> list[Frame]:
        """Take what has come, and keep what was heard."""
        frames = self.desk.look()
        self.heard += [each for each in frames if each.place in HEARD]
        return [each for each in frames if each.place not in HEARD]


class ProgramError(Exception):
    """A program failed; the message says which and what it said."""


def ended(program: Program, statuses: Sequence[int] = (0,)) -> Program:
    """Wait for the end of a program.

    Raises ProgramError if it does not end, or with another status.
    """
    status = program.wait(HANGS_S)
    if status is None or status not in statuses:
        end = "does not end" if status is None else f"ended with status {status}"
        raise ProgramError(f"{program.command} ({program.log.name}) {end}:\n{program.said[-2000:]}")
    return program


def gathered(
    benches: Sequence[Bench], expected: Mapping[str, int], seconds: float = HANGS_S
) -> dict[str, list[Frame]]:
    """Take frames until as many have come as expected, or time is up; to each word its frames.

    `expected`: to a word in the body of a frame how many there are of them.
    """
    found: dict[str, list[Frame]] = {word: [] for word in expected}
    deadline = time.monotonic() + seconds
    while any(len(found[word]) < count for word, count in expected.items()):
        if time.monotonic() > deadline:
            break
        for bench in benches:
            for frame in bench.look():
                word = next((each for each in expected if each.encode() in frame.body), "")
                found.get(word, bench.surplus).append(frame)
        time.sleep(POLL_S)
    return found
