"""Kill Submitters at any moment, with what they had called late, stopped or hanging.

The next Submitter of each comes at once. At the end each job is there once. A third of them, which
come first because their jobs have to end, are those of steps with several tasks and of steps after
them (`steps`), of which some have another Submitter beside. ZWRAP_CHAOS_KILLS is the number of
kills; `scripts/chaos --kills N` gives it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from zwrap.calls.ask import ask

from ..integration.batch import Batch, emptied, request_in
from ..integration.submitters import given, submitted, submitter
from . import steps
from .services import fresh_seed

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ZWRAP_CHAOS_KILLS") or 18)

SEED = fresh_seed()

BESIDE = 6
"""Number of Submitters at a time."""

LATER_S = 3.0
"""Time after which a job that is submitted twice must be there, in seconds."""

SHIM = """#!/bin/sh
rm {place}/slow 2>/dev/null || exec {real} "$@"
{how}
"""

CHILD = "import subprocess as s, sys, time; time.sleep(1); sys.exit(s.call(sys.argv[1:]))"

WAYS = {
    "as ever": 'exec {real} "$@"',
    "begins late": 'sleep 1; exec {real} "$@"',
    "begins late, as a child": 'sleep 1; {real} "$@"; sleep 60',
    "begins late, as a child of Python": "exec python3 -c '" + CHILD + '\' {real} "$@"',
    "is stopped before": '(sleep 1; kill -CONT $$) & kill -STOP $$; exec {real} "$@"',
    "does not end": '{real} "$@"; sleep 60',
}
"""What an sbatch of the site may do."""

LONGEST_S = {"local": 0.5, "slurm": 0.06, "slurmrest": 0.3, "sge": 0.5}
"""Time after which the jobs are there if nothing is slow, in seconds."""

SHIMMED_S = 1.5
"""The same with a slow sbatch, in seconds."""

STEPS_S = 4.0
"""Time after which all jobs of steps are there if nothing is slow, in seconds."""


class Kill(NamedTuple):
    """A kill of one Submitter."""

    way: str
    tasks: int
    """Number of jobs, of one shape; 0: one, which is no array."""
    moment_s: float
    """Time from its beginning, in seconds."""
    stopped_s: float
    """Time for which what it had called is stopped, in seconds."""
    of_steps: bool = False
    """True if its jobs are those of a recipe (`steps`)."""
    beside: bool = False
    """True if another Submitter is at work beside it."""
    most: int | None = None
    """Largest number of tasks of its step that run at a time; None: any."""


@pytest.fixture(params=["local", "slurm", "slurmrest", "sge"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """Return kind and settings of a real batch system."""
    kind: str = request.param
    settings: dict[str, Any] = {"environment": {}, "settle_s": 1, "timeout_s": 12}
    if kind == "local":
        return kind, {**settings, "directory": str(tmp_path / "pool")}
    rig = request.getfixturevalue(kind.removesuffix("rest"))
    if kind == "slurmrest":
        settings |= {"url": rig["url"], "user_token": rig["user_token"]}
    else:
        settings["environment"] = {"SLURM_CONF": rig["SLURM_CONF"]} if kind == "slurm" else rig
    return kind, settings


@pytest.fixture
def batch(cluster: tuple[str, dict[str, Any]]) -> Iterator[Batch]:
    kind, settings = cluster
    yield from emptied(Batch(kind, **settings))


def kills(kind: str, choice: random.Random) -> list[Kill]:
    """Draw the kills; the moments are spread evenly."""
    ways = list(WAYS) if kind == "slurm" else ["as ever"]
    drawn = []
    for number in range(KILLS):
        way = ways[number % len(ways)]
        longest_s = LONGEST_S[kind] if way == "as ever" else SHIMMED_S
        moment_s = longest_s * (number // len(ways)) / max(1, KILLS // len(ways) - 1)
        tasks = 0 if kind == "local" else choice.choice((0, 3))
        stopped_s = choice.choice((0.0, choice.uniform(0, 3)))
        if (number + number // len(ways)) % 3:
            drawn.append(Kill(way, tasks, moment_s, stopped_s))
        else:
            moment_s = choice.choice((moment_s, choice.uniform(0, STEPS_S)))
            beside = choice.random() < 1 / 4
            most = choice.choice((None, None, 2))
            drawn.append(Kill(way, 0, moment_s, stopped_s, of_steps=True, beside=beside, most=most))
    return sorted(drawn, key=lambda kill: not kill.of_steps)


def test_each_job_is_there_once_whenever_its_submitter_is_killed(
    batch: Batch, cluster: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    kind, settings = cluster
    all_kills = kills(kind, random.Random(SEED))

    def own_batch(number: int) -> Batch:
        place = tmp_path / f"w{number}"
        place.mkdir()
        own = {**settings, "programs": str(shim(place, all_kills[number].way))}
        return Batch(kind, **own) if kind == "slurm" else batch

    def one(number: int) -> list[str]:
        kill = all_kills[number]
        batch = own_batch(number)
        place = given(batch, request_in(tmp_path / f"w{number}", commands="sleep 900"))
        with submitter(place, kill.tasks) as process:
            kill_it(process, kill)
        return submitted(place, kill.tasks)

    def recipe(number: int) -> Path:
        kill = all_kills[number]
        place = steps.sent(own_batch(number), tmp_path / f"w{number}", kill.most)
        with contextlib.ExitStack() as stack:
            if kill.beside:
                stack.callback(ended_by_force, steps.serving(place))
            with steps.serving(place) as process:
                kill_it(process, kill)
            steps.ended(place)
        return place

    before = ask(batch.scheduler.states()).keys()
    count = sum(kill.of_steps for kill in all_kills)
    with ThreadPoolExecutor(BESIDE) as executor:
        places = list(executor.map(recipe, range(count)))
        found = list(executor.map(one, range(count, KILLS)))
    for kill, ids in zip(all_kills[count:], found, strict=True):
        assert len(set(ids)) == (kill.tasks or 1), kill
    time.sleep(LATER_S)
    there = ask(batch.scheduler.states()).keys() - before
    assert there == {job_id for ids in found for job_id in ids}
    for place in places:
        steps.account(batch, place)
    print(
        f"{kind}: {KILLS} kills, {len(there)} jobs, and {len(places) * steps.JOBS} of steps, none "
        f"doubled, none too early (seed {SEED})"
    )


def shim(place: Path, way: str) -> Path:
    """Put an sbatch of the site into a directory; it is slow once."""
    programs = place / "programs"
    programs.mkdir()
    real = shutil.which("sbatch")
    how = WAYS[way].format(real=real)
    (programs / "sbatch").write_text(SHIM.format(place=place, real=real, how=how))
    (programs / "sbatch").chmod(0o755)
    (place / "slow").touch()
    return programs


def kill_it(process: subprocess.Popen[str], kill: Kill) -> None:
    """Let a Submitter work, stop what it has called, and kill it."""
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(kill.moment_s)
    stopped = []
    if kill.stopped_s and process.poll() is None:
        stopped = psutil.Process(process.pid).children(recursive=True)
    for child in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.suspend()
    process.kill()
    if stopped:
        threading.Timer(kill.stopped_s, go_on, [stopped]).start()
    process.communicate()


def ended_by_force(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def go_on(stopped: list[psutil.Process]) -> None:
    for child in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.resume()
