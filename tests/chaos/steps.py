"""Steps with several tasks, and steps after them, whose Submitters are killed.

Each trial is a site of its own with a spool, one recipe and one ledger, on a batch system that all
share. Its jobs say by themselves what was done twice, and what came too early.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.calls.ask import ask
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.transport.spool.transport import SpoolTransport

from ..integration.batch import Batch

TASKS = 8

JOBS = TASKS + 1
"""Number of jobs of a recipe: the tasks of the first step, and the step that waits for them."""

FIRST = 'echo x >>"runs-$ZWRAP_ARRAY_TASK"'

AFTER = "cat runs-? >before; echo x >>runs-after"

PROGRAM = """
import sys
from pathlib import Path
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.configuration.site import Configuration
from zwrap.service.settling import handle_deliveries
from zwrap.service.submitter import Submitter
from zwrap.service.watcher.watcher import Watcher
from zwrap.submission import holds, tasks
from zwrap.transport.connect import connect
holds.ASK_S = 0.5  # so a step that waits looks again, in seconds
tasks.PORTION_BYTES = 1  # so few tasks have messages at a time
place, jobs = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
site = Configuration.from_file(place / "site.yml").activate()
transport = connect(site)
rows = Ledger.of(site)
submitter, watcher = Submitter(site, transport), Watcher(site, connect(site))
transport.subscribe(submitter.queue, submitter.prefetch)
while True:
    batch = []
    while delivery := transport.receive(0.0 if batch else 0.2):
        batch.append(delivery)
    handle_deliveries(submitter, batch)
    watcher.idle()
    outcomes = [row.outcome for row in rows.queries.newest(10_000)]
    if len(outcomes) == jobs and None not in outcomes:
        break
"""
"""A Submitter, and a Watcher, of one site, until all its jobs have ended."""

ENDED_S = 150.0
"""Time within which all jobs of a recipe have ended, in seconds."""


def sent(batch: Batch, place: Path, most: int | None) -> Path:
    """Make a site, and send its recipe; return its directory.

    `most`: largest number of tasks that run at a time; None: any.
    """
    spool = {"plugin": "spool", "path": str(place / "spool")}
    cluster = {**batch.section["cluster"], "watch_s": 0.3}
    site = {
        "version": 1, "environments": {"default": ["c", "files", "store"]},
        "c": {**batch.section, "cluster": cluster}, "files": spool,
        "store": {"plugin": "storage", "scheduler": "cluster"},
    }  # fmt: skip
    (place / "site.yml").write_text(json.dumps(site))
    (place / "w").mkdir()
    with contextlib.closing(SpoolTransport(place / "spool")) as transport:
        recipe = _recipe(place / "w", f"0-{TASKS - 1}" + (f"%{most}" if most else ""))
        transport.commit(Envelope(recipe, 1, environment={"ID": place.name}).start())
    return place


def _recipe(directory: Path, array: str) -> Recipe:
    """Return a step with tasks, and one that waits for it and comes first."""

    def step(**block: str | int) -> dict[str, object]:
        parameters = {"workingdir": str(directory), "cluster": block}
        return {"queue": "cluster.submission", "parameters": parameters, "output": 9, "error": 8}

    return Recipe({
        "start": [[2, []], [1, []]],
        "1": step(commands=FIRST, array=array),
        "2": step(commands=AFTER, dependency=1),
        "8": {"queue": "refused"},
        "9": {"queue": "told"},
    })  # fmt: skip


def serving(place: Path) -> subprocess.Popen[str]:
    """Start a Submitter and a Watcher in one process, which says `ready`."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, str(place), str(JOBS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ZWRAP_STATE": str(place / "state")},
    )


def ended(place: Path) -> None:
    """Let Submitter and Watcher work in peace until all jobs have ended."""
    process = serving(place)
    try:
        _, errors = process.communicate(timeout=ENDED_S)
    finally:
        process.kill()
    assert process.returncode == 0, errors


def account(batch: Batch, place: Path) -> None:
    """Account for each job of a recipe: it ran once, in its turn, and was told once."""
    work = place / "w"
    runs = {file.name: file.read_text() for file in work.glob("runs-*")}
    expected = {f"runs-{name}": "x\n" for name in (*map(str, range(TASKS)), "after")}
    assert runs == expected, place
    assert (work / "before").read_text() == "x\n" * TASKS, f"{place}: it began too early"
    told = _told(place)
    tasks: list[tuple[int, object]] = [(1, number) for number in range(TASKS)]
    assert {key for key, _ in told} == {*tasks, (2, None)}, place
    assert len(told) == JOBS, f"{place}: {told}"
    with contextlib.closing(Ledger.in_file(place / "state" / "ledger.sqlite")) as ledger:
        rows = ledger.queries.newest(10_000)
    assert [row.outcome for row in rows] == ["success"] * JOBS, place
    assert {job_id for _, job_id in told} == {row.job_id for row in rows}, place
    names = {row.full_name for row in rows}
    found = [status.job_id for name in names for status in ask(batch.scheduler.find(name))]
    assert {row.job_id for row in rows} >= set(found), f"{place}: a job nobody knows"


def _told(place: Path) -> list[tuple[tuple[int, object], str]]:
    """Return step and task, and the job of each, as the recipe heard them; a repeat counts once."""
    seen: dict[str, tuple[tuple[int, object], str]] = {}
    with contextlib.closing(SpoolTransport(place / "spool")) as transport:
        transport.subscribe("told", 100)
        transport.subscribe("refused", 100)
        while delivery := transport.receive(0.2):
            body: dict[str, object] = dict(delivery.message.body)  # type: ignore[call-overload]
            assert delivery.source == "told", body["payload"]
            path, payload, environment = (
                body["recipe-path"], body["payload"], body["environment"],
            )  # fmt: skip
            assert isinstance(path, list)
            assert isinstance(payload, dict)
            assert isinstance(environment, dict)
            key = path[-1], environment.get("array-task")
            seen[delivery.message.id] = key, str(payload["jobid"])
            delivery.ack()
    assert max(Counter(key for key, _ in seen.values()).values()) == 1, seen
    return list(seen.values())
