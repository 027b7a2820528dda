"""Tools by hand, of either side: drop files, dead letters, moved messages, commands."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .benches import OURS, SIDES, THEIRS, Bench, Field, gathered
from .frames import Frame

PREFIX = "zocalo.tools"
"""Prefix of the queues on ActiveMQ; the vhost of RabbitMQ is ``tools``."""

STATISTICS_S = 15.0
"""Largest age of the counts that a server tells, in seconds."""

REQUESTS = (
    ("-n", "-r", "one", "-r", "two", "-s", "x=a=b"),
    ("-f", "recipe.json", "527"),
    ("-r", "one", "-a", "7", "527"),
    ("-p", "-r", "one", "42"),
)
"""Arguments of `zocalo.go`."""

RECIPE = {
    "1": {"queue": "{x}", "output": {"a": 2, "b": [2]}, "other": [1, 2.0, None]},
    "2": {"topic": "t"},
    "start": [[1, {"é": []}]],
}
"""Recipe in a file."""

ORDERS = ("-s", "Step", "-s", "none", "org.site.host.1")
"""Arguments of `zocalo.shutdown`."""

ALL_THEIRS = f"stored by {THEIRS}, sent by {THEIRS}"
"""The drop file with which the others are compared."""


class Tools:
    """The tools over one broker; each of its frames is that of a row."""

    def __init__(self, field: Field, letter: Frame) -> None:
        """`letter`: a message of a recipe, from which dead letters are made."""
        self.field = field
        self.bench: Bench = field.bench("tools", ["a"], ["processing_recipe", "b"])
        self._letter = letter
        self.rows: list[tuple[str, list[Frame], list[Frame]]] = []
        """Name of each row, what came of it, and what is expected."""

    def run(self) -> None:
        """Do each thing by the commands of either side.

        What moves a message must leave it as it was, which python-zocalo's commands do not, so that
        there those of zwrap are compared with the message itself.
        """
        for words in REQUESTS:
            asked = {side: self._request(side, words) for side in SIDES}
            self.rows.append((f"go::{OURS} {' '.join(words)}", asked[OURS], asked[THEIRS]))
        orders = {side: self._orders(side) for side in SIDES}
        self.rows.append((f"shutdown::{OURS}", orders[OURS], orders[THEIRS]))
        sent = self._drop_files()
        self.rows += [(f"pickup::{name}", got, sent[ALL_THEIRS]) for name, got in sent.items()]
        self._move()
        self._dead_letters()

    def _request(self, side: str, words: Sequence[str]) -> list[Frame]:
        """Return the request that a `zocalo.go` sends."""
        guid = str(uuid.uuid4())
        (self.bench.directory / "recipe.json").write_text(json.dumps(RECIPE))
        self.bench.run(side, "zocalo.go", "-s", f"guid={guid}", *words)
        return gathered([self.bench], {guid: 1})[guid]

    def _orders(self, side: str) -> list[Frame]:
        """Return the commands that a `zocalo.shutdown` broadcasts."""
        self.bench.run(side, "zocalo.shutdown", *ORDERS)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            self.bench.look()
            if len(got := [f for f in self.bench.heard if f.place == "command"]) == 3:
                break
            time.sleep(0.05)
        self.bench.heard.clear()
        return got

    def _drop_files(self) -> dict[str, list[Frame]]:
        """Return the requests that each side sends, of drop files that each side has written."""
        (self.bench.directory / "drop").mkdir()
        found = {}
        for maker, sender in _pairs():
            guid = str(uuid.uuid4())
            self.bench.run(maker, "zocalo.go", "-r", "chain", "-s", f"guid={guid}", "--drop", "527")
            self.bench.run(sender, "zocalo.pickup", "-w", "0", "-d", "0")
            found[f"stored by {maker}, sent by {sender}"] = gathered([self.bench], {guid: 1})[guid]
        return found

    def _put(self) -> str:
        """Put a message into queue a; return the ID of its recipe."""
        guid = str(uuid.uuid4())
        old = str(self._letter.content["environment"]["ID"])
        body = self._letter.body.replace(old.encode(), guid.encode())
        self.bench.desk.put(Frame("a", body, self._letter.headers, self._letter.properties))
        return guid

    def _expected(self, place: str) -> list[Frame]:
        """Return the message as it was, in another queue."""
        return [replace(self._letter, place=place)]

    def _move(self) -> None:
        """Have a message moved by `zocalo.queue_drain`."""
        guid = self._put()
        self.bench.run(OURS, "zocalo.queue_drain", "--wait", "0", "--stop", "1", "a", "b")
        moved = gathered([self.bench], {guid: 1})[guid]
        self.rows.append((f"queue_drain::{OURS}", moved, self._expected("b")))

    def _dead_letters(self) -> None:
        """Have dead letters counted, exported and put back by each side."""
        theirs: list[Frame] = []
        for purger in SIDES:
            guids = {side: self._put() for side in SIDES}
            for _ in guids:
                self.bench.desk.take("a", reject=True)
            if purger == THEIRS:
                expected = self._counted(THEIRS)
                self.rows.append((f"dlq_check::{OURS}", self._counted(OURS), expected))
            is_full_name = purger == THEIRS and self.field.transport == "activemq"
            self.bench.run(purger, "zocalo.dlq_purge", f"{PREFIX}.a" if is_full_name else "a")
            for side, guid in guids.items():
                self.bench.run(side, "zocalo.dlq_reinject", "-r", str(self._exported(guid)))
                taken = [self.bench.desk.take("a")]
                theirs = theirs or taken
                name = f"dlq_reinject::exported by {purger}, put back by {side}"
                self.rows.append((name, taken, theirs if side == THEIRS else self._expected("a")))

    def _counted(self, side: str) -> list[Frame]:
        """Return what `zocalo.dlq_check` prints, once the server tells of dead letters."""
        namespace = "tools" if self.field.transport == "rabbitmq" else PREFIX
        deadline = time.monotonic() + STATISTICS_S
        while True:
            program = self.bench.run(side, "zocalo.dlq_check", "-n", namespace, statuses=(0, 1))
            if "contains 2 entries" in program.said or time.monotonic() > deadline:
                lines = {"status": program.status, "lines": sorted(program.said.splitlines())}
                return [Frame("output", json.dumps(lines).encode())]

    def _exported(self, guid: str) -> Path:
        """Return the file of a dead letter."""
        [file] = [f for f in (self.bench.directory / "DLQ").rglob("*") if holds(f, guid)]
        return file


def holds(file: Path, word: str) -> bool:
    """Return True if a file holds a word."""
    return file.is_file() and word in file.read_text()


def _pairs() -> Iterator[tuple[str, str]]:
    """Yield the combinations of two sides."""
    return itertools.product(SIDES, SIDES)
