"""A Dispatcher is killed at any moment of a unit, and its recipe edited before the next one begins.

ZWRAP_EDITED_KILLS is the number of kills. At the end there is one job for each step of each
request, whichever content its message had, and no dead letter.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED
from zwrap.configuration.site import Configuration
from zwrap.service import submitter
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.submission.pending import PendingJob
from zwrap.transport.connect import connect

KILLS = int(os.environ.get("ZWRAP_EDITED_KILLS") or 8)

PROGRAM = """
import os, signal, sys
from zwrap.configuration.site import Configuration
from zwrap.service import loop
from zwrap.service.dispatcher import Dispatcher
from zwrap.transport.connect import connect
from zwrap.transport.spool.transport import SpoolTransport
left, seen = int(sys.argv[1]), [0]
carry_out = SpoolTransport._carry_out
counting = [False]
def hook(event, _):
    if counting[0] and event in ("open", "os.rename", "os.link", "os.remove", "os.utime"):
        seen[0] += 1
        if seen[0] == left:
            os.kill(os.getpid(), signal.SIGKILL)
def counted(self, messages, deliveries, settlement):
    counting[0] = bool(deliveries)
    carry_out(self, messages, deliveries, settlement)
    if counting[0]:
        print(seen[0], flush=True)
    counting[0] = False
sys.addaudithook(hook)
SpoolTransport._carry_out = counted
configuration = Configuration.from_file().activate()
with connect(configuration) as transport:
    loop.Loop(Dispatcher(configuration, transport), transport, once=True).run()
"""
"""A Dispatcher that is killed at one of the calls with which it sends and settles; it prints how
many there were if it is not."""

NEVER = 0


class Place:
    """A site on a spool, its recipe, and the jobs that came about."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.jobs: list[str] = []
        text = {
            "version": 1, "environments": {"default": ["s", "sp", "c"]},
            "s": {"plugin": "storage", "zocalo.recipe_directory": str(directory)},
            "sp": {"plugin": "spool", "path": str(directory / "spool"), "durable": False},
            "c": {"plugin": "clusters"},
        }  # fmt: skip
        self.file = directory / "site.yml"
        self.file.write_text(json.dumps(text))
        self.configuration = Configuration.from_file(self.file).activate()

    def edit(self, commands: str) -> None:
        nodes: dict[str, Any] = {
            str(node): {
                "queue": "cluster.submission",
                "parameters": {
                    "cluster": {"commands": commands, "job_name": "n"},
                    "workingdir": f"{self.directory}/{{owner}}-{node}",
                },
            }
            for node in (1, 2)
        }
        recipe = {"start": [[1, []], [2, []]], **nodes}
        (self.directory / "r.json").write_text(json.dumps(recipe))

    def request(self, owner: str) -> None:
        with connect(self.configuration) as transport:
            body = {"recipes": ["r"], "parameters": {"owner": owner}}
            transport.send("processing_recipe", body)

    def dispatch(self, calls: int) -> int:
        """Let a Dispatcher work, up to a number of calls; return how many it made, 0: killed."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM, str(calls)], capture_output=True, text=True,
            check=False, env={**os.environ, "ZOCALO_CONFIG": str(self.file)},
        )  # fmt: skip
        assert done.returncode == (0 if done.stdout or not calls else -9), done.stderr
        return int(done.stdout.split()[0]) if done.stdout else 0

    def submit(self) -> None:
        with connect(self.configuration) as transport:
            Loop(Submitter(self.configuration, transport), transport, once=True).run()

    def waiting(self, queue: str) -> int:
        with connect(self.configuration) as transport:
            return transport.inspector().waiting(queue)

    def submit_all(
        self, ledger: Ledger, _: Any, jobs: Sequence[PendingJob], on_outcomes: Any, *more: Any
    ) -> None:
        """Submit jobs as the real function does, to a batch system that takes each at once."""
        del more
        outcomes = {}
        for job in jobs:
            token = job.attempt.token
            if ledger.get(token) is None:
                ledger.reserve([job.attempt])
                self.jobs.append(job.request.working_directory.name)
                ledger.record({token: {"state": SUBMITTED, "job_id": f"{len(self.jobs)}"}})
            row = ledger.get(token)
            assert row
            outcomes[token] = row.job_id
        on_outcomes(list(outcomes.items()))


def test_a_recipe_that_is_edited_while_its_dispatcher_is_dead_starts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    monkeypatch.setattr(submitter, "submit_all", place.submit_all)
    seed = random.randrange(2**32)
    choice = random.Random(seed)
    place.edit("echo first")
    place.request("warm")
    calls = place.dispatch(NEVER)
    assert calls > 4
    killed = 0
    for number in range(KILLS):
        place.edit(f"echo {number}")
        place.request(f"r{number}")
        killed += not place.dispatch(choice.randint(1, calls))
        if choice.random() < 0.5:
            place.submit()
        place.edit(f"echo {number} edited; # {'x' * choice.randint(0, 50)}")
        place.dispatch(NEVER)
        assert place.waiting("processing_recipe") == 0, seed
    place.submit()
    expected = {f"{name}-{node}": 1 for name in ("warm", *(f"r{n}" for n in range(KILLS)))
                for node in (1, 2)}  # fmt: skip
    assert Counter(place.jobs) == expected, seed
    with connect(place.configuration) as transport:
        assert transport.inspector().dead_letters() == {}
    assert killed or KILLS < 4, seed
    print(f"{killed} kills, {len(place.jobs)} jobs, none doubled (seed {seed})")
