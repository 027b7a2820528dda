"""The table of the chains: each station equal to python-zocalo's, or how it differs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rigs import RIGS

from .benches import SIDES, THEIRS, Field, Ground, prepared
from .chains import FAILING, STATIONS, Chains
from .frames import Comparison, Frame, reason, shape
from .tools import Tools

TRANSPORTS = ("rabbitmq", "activemq", "spool")
REFERENCE = TRANSPORTS[0]
"""Broker with whose frames those of the spool are compared, which python-zocalo does not know."""

LEFT_S = 5.0
"""Time after which no process may be left, in seconds."""


class Transport(threading.Thread):
    """All that is done over one transport, on a thread of its own."""

    def __init__(self, ground: Ground, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.directory = ground.directory / name
        self.rig = None if name == "spool" else RIGS[name](ground.directory / "rigs" / name)
        self.field = Field(ground, name)
        self.chains = Chains(self.field)
        self.tools: Tools | None = None
        self.ended: dict[str, str] = {}
        """To each service how it failed to end, if it did."""
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            if self.rig:
                self.rig.up()
                self.field.given = self.rig.connection
            self.chains.start()
            self.chains.run()
            if self.rig:
                [letter] = self.chains.of(self.chains.chains[0], "Step", "cluster.submission")
                self.tools = Tools(self.field, letter)
                self.tools.run()
            self.ended = self.chains.shut_down()
        except Exception as error:
            self.fault = error

    def close(self) -> None:
        """Leave the server, and end it."""
        for bench in self.field.benches:
            with contextlib.suppress(Exception):  # it may have failed already
                bench.desk.close()
        if self.rig:
            self.rig.down()

    def rows(self, reference: Transport) -> Iterator[tuple[str, list[str]]]:
        """Yield name and differences of each row of the table.

        What is compared with has no row itself, unless it is not all there.
        `reference`: whose frames of python-zocalo are compared with.
        """
        words = {str(each.directory): "SITE" for each in (self, reference)}
        comparison = Comparison(words, with_properties=reference is self)
        for (chain, station), frames in self.chains.frames.items():
            word = chain.partition("=")[0]
            base = f"{word}={THEIRS}" if word in FAILING else THEIRS
            expected = reference.chains.frames[base, station]
            places = sorted(each.place for each in expected)
            if places != sorted(STATIONS[station]):
                yield f"{chain}::{station}", [f"theirs made messages in {places}"]
            elif frames is not expected:
                yield f"{chain}::{station}", comparison.differences(frames, expected)
        for station in STATIONS:
            for side in SIDES:
                yield from self._status(station, side, reference, comparison)
        for row, got, expected in self.tools.rows if self.tools else ():
            if not expected:
                yield row, ["there is no message of theirs to compare with"]
            elif got is not expected:
                yield row, comparison.differences(got, expected)
        for name, fault in self.ended.items():
            yield f"ends::{name}", [fault] if fault else []
        surplus = [(bench.name, each) for bench in self.field.benches for each in bench.surplus]
        yield "surplus::all", [f"{each.place} at {name}: {each.body!r}" for name, each in surplus]

    def _status(
        self, station: str, side: str, reference: Transport, comparison: Comparison
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield the row of the status of a station, which may say more than theirs does."""
        expected = reference.heard(station, THEIRS)
        got = self.heard(station, side)
        if got and expected:
            known = expected[0].content
            content = {key: value for key, value in got[0].content.items() if key in known}
            got = [got[0].with_content(content)]
            if reference is self and side == THEIRS:
                return
            yield f"status {side}::{station}", comparison.differences(got, expected)
        elif station not in ("go", "Submitter"):
            yield f"status {side}::{station}", ["no status was heard"]

    def heard(self, station: str, side: str) -> list[Frame]:
        """Return the types in a status of a station; none if none was heard.

        A service that begins has no name yet.
        """
        return [
            replace(
                frame.with_content(shape(frame.content)),
                properties={
                    k: "time" if k == "expires" else v for k, v in frame.properties.items()
                },
            )
            for bench in self.field.benches
            if bench.name == f"{station}-{side}"
            for frame in bench.heard
            if frame.place == "transient.status"
            and (station == "wrap" or frame.content.get("service"))
        ][:1]


def transports(chosen: Sequence[str]) -> list[str]:
    """Return the transports of which rows are chosen by parts of their names; none: all."""
    starts = {name: f"chains/{name}" for name in TRANSPORTS}
    return [
        name
        for name, start in starts.items()
        if not chosen or any(c.startswith(start) or start.startswith(c) for c in chosen)
    ]


def chains(changed: str, chosen: Sequence[str]) -> list[str]:
    """Run the chains, print the table; return the rows with a difference that is not listed.

    Args:
        changed: Text of the facility's parts with its imports changed.
        chosen: Parts of the names of rows; none: all.
    """
    names = transports(chosen)
    if not names:
        return []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave nothing behind
    with tempfile.TemporaryDirectory(prefix="chains-") as place:
        ground = prepared(Path(place), changed)
        running = [
            Transport(ground, name)
            for name in TRANSPORTS
            if name in names or (name == REFERENCE and "spool" in names)
        ]
        ended = {}
        try:
            for each in running:
                each.start()
            for each in running:
                each.join()
        finally:
            for forks in ground.forks.values():
                forks.close()
            for each in running:
                each.close()
            ended["chains/processes::left"] = left(place)
        rows = {**dict(_all_rows(running, names)), **ended}
    return report({
        name: found for name, found in rows.items() if not chosen or any(c in name for c in chosen)
    })  # fmt: skip


def _all_rows(
    running: Sequence[Transport], names: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of all transports."""
    by_name = {each.name: each for each in running}
    for each in running:
        if each.fault:
            yield f"chains/{each.name}::run", [f"{type(each.fault).__name__}: {each.fault}"]
        elif each.name in names:
            reference = by_name[REFERENCE] if each.name == "spool" else each
            for row, found in [] if reference.fault else each.rows(reference):
                yield f"chains/{each.name}/{row}", found


def report(rows: dict[str, list[str]]) -> list[str]:
    """Print the table; the rows that differ in what is not listed."""
    bad = []
    for name, found in rows.items():
        unlisted = [each for each in found if not reason(name, each)]
        why = dict.fromkeys(filter(None, (reason(name, each) for each in found)))
        verdict = f"equal but for: {', '.join(why)}" if why else "equal"
        if unlisted:
            bad.append(name)
            verdict = f"DIFFERS: {'; '.join(unlisted)}"
        print(f"{name}  {verdict}")
    print(f"{len(rows)} stations of chains: {len(rows) - len(bad)} equal, {len(bad)} DIFFER")
    return bad


def left(place: str) -> list[str]:
    """Return what is left of processes that were started in a directory, and end it."""
    deadline = time.monotonic() + LEFT_S
    while (found := dict(_processes(place))) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"process {pid} is left: {command}" for pid, command in found.items()]


def _processes(place: str) -> Iterator[tuple[int, str]]:
    """Yield id and command of each process with a directory in its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if place.encode() in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(process.name), command.decode(errors="replace")
