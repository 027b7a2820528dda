"""Chains: a request, from `zocalo.go` to a line in a file, with each station of either side."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .benches import HANGS_S, OURS, POLL_S, SIDES, THEIRS, Bench, Field, ended, gathered
from .forking import Program
from .frames import Frame

STATIONS = {
    "go": ("processing_recipe",),
    "Dispatcher": ("step",),
    "Step": ("cluster.submission", "more", "news", "news", "plain"),
    "Submitter": ("submitted",),
    "wrap": ("jsonlines",) * 6 + ("more", "plain"),
    "JSONLines": ("lines",) * 6,
}
"""The places of what each station makes of one message; those of the Submitter and of JSONLines are
files."""

READS = {
    "Dispatcher": "processing_recipe",
    "Step": "step",
    "Submitter": "cluster.submission",
    "JSONLines": "jsonlines",
}
"""Queue of each service."""

FAILING = ("fails", "raises")
"""Words with which the facility's wrapper fails."""

WRAPPED = ("jsonlines", "more", "plain")
"""Queues that a wrapper sends to."""

SCRIPT = """\
#!/bin/sh
cp -- "$1" '{submitted}'
export PYTHONPATH='{parts}'
exec {command} --wrap {wrapper} --recipewrapper "$1"
"""
"""Command of a job. python-zocalo has no Submitter: zwrap's starts its wrapper as well."""


@dataclass(frozen=True)
class Chain:
    """Sides of the stations."""

    name: str
    sides: dict[str, str]
    guid: str
    """ID of its recipe, which is in the body of each message."""


def chains(transport: str) -> Iterator[Chain]:
    """Yield the chains of one side, and those in which one station is of the other."""
    exchanged = [
        each for each in STATIONS if transport != "spool" or each not in ("go", "Submitter")
    ]

    def chain(name: str, base: str, but: str = "") -> Chain:
        (other,) = {*SIDES} - {base}
        sides = {each: other if each == but else base for each in STATIONS}
        if transport == "spool":  # no class of theirs could be hosted
            sides |= {"go": OURS, "Submitter": OURS}
        return Chain(name, sides, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{transport}/{name}")))

    for base in SIDES:
        yield chain(base, base)
    for base, other in (SIDES, SIDES[::-1]):
        for each in exchanged:
            yield chain(f"{each}={other}", base, each)


def recipe(directory: Path) -> dict[str, object]:
    """Return the recipe of the chains; what they write lies in `directory`."""
    command = f"{directory}/jobs/{{guid}} $RECIPEWRAP"
    return {
        "start": [[1, {"first": [1, 2.5, "{word}"]}]],
        "1": {
            "service": "Facility step", "queue": "step",
            "parameters": {
                "word": "{word}", "dcid": "{ispyb_dcid}", "number": "{$REPLACE:ispyb_dcid}"
            },
            "output": {"next": 2, "more": [4], "news": 5},
        },
        "2": {
            "service": "Submitter", "queue": "cluster.submission",
            "parameters": {
                "workingdir": f"{directory}/work/{{guid}}",
                "cluster": {"scheduler": "local", "job_name": "chain", "commands": command},
            },
            "job_parameters": {"word": "{word}"},
            "output": {
                **dict.fromkeys(("starting", "updates", "success", "failure", "completed"), 3),
                "result": [3, 4], "result-individual-file": 3,
            },
        },
        "3": {
            "service": "JSON Lines", "queue": "jsonlines",
            "parameters": {"output_filename": f"{directory}/lines/{{guid}}"},
        },
        "4": {"queue": "more"},
        "5": {"topic": "news"},
    }  # fmt: skip


class Chains:
    """The chains over one transport."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.chains = list(chains(field.transport))
        self.frames: dict[tuple[str, str], list[Frame]] = {}
        """Messages that each station sent, by the names of chain and station."""
        self.services: dict[tuple[str, str], Bench] = {}
        self.place = field.directory("files")
        """Directory of what the chains write."""
        for each in ("jobs", "submitted", "lines", "recipes", "steps"):
            (self.place / each).mkdir(parents=True)
        field.settings = {"zocalo.recipe_directory": str(self.place / "recipes")}
        (self.place / "recipes" / "chain.json").write_text(json.dumps(recipe(self.place)))
        for chain in self.chains:
            self._write_job(chain)

    def _write_job(self, chain: Chain) -> None:
        """Write what the job of a chain runs."""
        python = Path(sys.executable)
        side = chain.sides["wrap"]
        command = f"'{python.parent}/zwrap' zocalo.wrap"
        if side == THEIRS and self.field.transport != "spool":
            command = f"'{python}' -P -c 'from zocalo.cli.wrap import run; run()'"
        file = self.place / "jobs" / chain.guid
        file.write_text(
            SCRIPT.format(
                submitted=self.place / "submitted" / chain.guid, parts=self.field.ground.parts,
                command=command, wrapper=self._wrapper(side),
            )
        )  # fmt: skip
        file.chmod(0o755)

    def _wrapper(self, side: str) -> str:
        """Return the wrapper of a side: over the spool zwrap runs theirs unchanged."""
        is_changed = self.field.transport == "spool" and side == OURS
        return "facility-changed" if is_changed else "facility"

    def _service(self, station: str, side: str) -> str:
        """Return the name of a service: over the spool zwrap hosts the classes of theirs."""
        if self.field.transport != "spool":
            return station
        if station == "Step":
            return "Step" if side == THEIRS else "StepChanged"
        return f"Their{station}" if side == THEIRS else station

    def start(self) -> None:
        """Start the services, each at a bench of its own."""
        for station, queue in READS.items():
            watched = [*{*STATIONS[station]} - {"lines", "news"}]
            if station == "Submitter":
                watched = [*WRAPPED]
            for side in (OURS,) if station == "Submitter" else SIDES:
                bench = self.field.bench(f"{station}-{side}", [queue], watched)
                bench.start(side, "zocalo.service", "-s", self._service(station, side))
                self.services[station, side] = bench

    def run(self) -> None:
        """Carry each chain from station to station."""
        self._go()
        for station in ("Dispatcher", "Step"):
            self._pass_on(station)
        self._submit()
        self._write_lines()

    def _go(self) -> None:
        benches = {side: self.field.bench(f"go-{side}", [], STATIONS["go"]) for side in SIDES}
        programs = [
            benches[side].start(
                side, "zocalo.go", "-r", "chain", "-s", "word=é", "-s", f"guid={chain.guid}", "527"
            )
            for chain in self.chains
            for side in [chain.sides["go"]]
        ]
        self._keep("go", [*benches.values()])
        for program in programs:
            ended(program)

    def _keep(self, station: str, benches: Sequence[Bench]) -> None:
        """Keep what a station makes in each chain."""
        count = len(STATIONS[station])
        found = gathered(benches, {chain.guid: count for chain in self.chains})
        for chain in self.chains:
            self.frames[chain.name, station] = found[chain.guid]

    def of(self, chain: Chain, station: str, place: str) -> list[Frame]:
        """Return what a station of a chain sent to a queue."""
        return [each for each in self.frames[chain.name, station] if each.place == place]

    def _pass_on(self, station: str) -> None:
        """Give each chain's message to the service of its side."""
        before = {"Dispatcher": "go", "Step": "Dispatcher"}[station]
        for chain in self.chains:
            bench = self.services[station, chain.sides[station]]
            for frame in self.of(chain, before, READS[station]):
                bench.desk.put(frame)
        self._keep(station, [self.services[station, side] for side in SIDES])

    def _submit(self) -> None:
        """Run the wrapper of each chain: in a job of the Submitter, or with a step file."""
        benches = {side: self.field.bench(f"wrap-{side}", [], WRAPPED) for side in SIDES}
        programs = []
        for chain in self.chains:
            for frame in self.of(chain, "Step", "cluster.submission"):
                if chain.sides["Submitter"] == OURS:
                    self.services["Submitter", OURS].desk.put(frame)
                    continue
                side = chain.sides["wrap"]
                file = self.place / "submitted" / chain.guid
                file.write_bytes(frame.body)
                programs.append(self._wrap(benches[side], side, file))
        self._keep("wrap", [*benches.values(), self.services["Submitter", OURS]])
        for program in programs:
            ended(program)
        for chain in self.chains:
            file = self.place / "submitted" / chain.guid
            made = [Frame("submitted", file.read_bytes())] if file.exists() else []
            self.frames[chain.name, "Submitter"] = made
        self._fail(benches)

    def _wrap(self, bench: Bench, side: str, file: Path) -> Program:
        name = self._wrapper(side)
        return bench.start(side, "zocalo.wrap", "--wrap", name, "--recipewrapper", str(file))

    def _fail(self, benches: dict[str, Bench]) -> None:
        """Run wrappers that fail, each by hand."""
        step = json.loads((self.place / "submitted" / self.chains[0].guid).read_bytes())
        programs, words = [], {}
        for word in FAILING:
            for side in SIDES:
                name = f"{word}={side}"
                guid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.field.transport}/{name}"))
                words[guid] = name
                step["environment"]["ID"] = guid
                step["recipe"]["2"]["job_parameters"]["word"] = word
                file = self.place / "steps" / guid
                file.write_text(json.dumps(step))
                programs.append(self._wrap(benches[side], side, file))
        count = len(STATIONS["wrap"])
        found = gathered([*benches.values()], dict.fromkeys(words, count))
        for guid, name in words.items():
            self.frames[name, "wrap"] = found[guid]
        for program in programs:
            ended(program, (0, 1, 100))

    def _write_lines(self) -> None:
        """Let JSONLines of each chain write its line, and read it."""
        count = len(STATIONS["JSONLines"])
        for chain in self.chains:
            bench = self.services["JSONLines", chain.sides["JSONLines"]]
            for frame in self.of(chain, "wrap", "jsonlines"):
                bench.desk.put(frame)
        deadline = time.monotonic() + HANGS_S
        for chain in self.chains:
            file = self.place / "lines" / chain.guid
            lines: list[bytes] = []
            while len(lines) < count and time.monotonic() < deadline:
                time.sleep(POLL_S)
                lines = file.read_bytes().splitlines() if file.exists() else []
            made = [Frame("lines", line) for line in lines]
            self.frames[chain.name, "JSONLines"] = made
        for side in SIDES:
            self.services["JSONLines", side].look()

    def shut_down(self) -> dict[str, str]:
        """End each service by the shutdown command of the other package; return faults by row.

        Over the spool that is always zwrap's.
        """
        told = {}
        for (station, side), bench in self.services.items():
            bench.surplus += bench.look()  # the status of a service that has nothing to do
            bench.start(self._other(side), "zocalo.shutdown", "-s", station)
        for (station, side), bench in self.services.items():
            service = bench.programs[0]
            status = service.wait(HANGS_S)
            end = "it goes on" if status is None else f"it ended with status {status}"
            fault = "" if status == 0 else f"{end}:\n{service.said[-1000:]}"
            told[f"{station} of {side} by {self._other(side)}"] = fault
        for bench in self.field.benches:
            bench.surplus += bench.look()
        return told

    def _other(self, side: str) -> str:
        """Return the side whose command ends a service."""
        return THEIRS if side == OURS and self.field.transport != "spool" else OURS
