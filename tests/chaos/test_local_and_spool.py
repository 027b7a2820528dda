"""Everything is killed at random, and every message is accounted for: spool and local batch.

The seed is printed; `scripts/chaos --seed S` repeats a run's choices. Requests are sent while
Dispatchers, Submitters, Watchers, the runner of the batch system and, in the second test, wrappers
and the shepherds of jobs are killed with SIGKILL. What is true at the end: `Services.account`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.transport.spool.transport import SpoolTransport

from .services import Services, fresh_seed


class Chaos(Services):
    """A site on a spool, with jobs on this machine."""

    requests, hurt_s, pause_s, quiet_s, limit_s = 25, 12.0, 0.3, 4.0, 120.0
    least = 20
    cluster = "local"

    def __init__(self, directory: Path, seed: int, *, jobs_too: bool) -> None:
        self.jobs_too = jobs_too
        self.spool = directory / "spool"
        self.batch = directory / "state" / "localbatch"
        local = {"kind": "local", "watch_s": 0.3, "directory": str(self.batch)}
        super().__init__(
            directory,
            seed,
            {
                "files": {"plugin": "spool", "path": str(self.spool)},
                "batch": {"plugin": "clusters", "local": local},
            },
        )

    def hurt_one(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.kill_one()

    def kill_one(self) -> None:
        targets = [(name, process.pid) for name, process in self.services.items()]
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal():
                    command = (entry / "cmdline").read_bytes().decode()
                    if str(self.directory) not in command:
                        continue
                    if "localbatch" in command:
                        state = (entry / "stat").read_text().rpartition(")")[2].split()
                        runner = state[1] == "1" or state[3] == entry.name == state[2]
                        shepherd = self.is_shepherd(int(entry.name))
                        if not shepherd and runner:
                            targets.append(("runner", int(entry.name)))
                        elif shepherd and self.jobs_too:
                            targets.append(("shepherd", int(entry.name)))
                    elif "zocalo.wrap" in command and self.jobs_too:
                        targets.append(("wrapper", int(entry.name)))
        kind, pid = self.chance.choice(targets)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.killed[kind.partition("-")[0]] += 1

    def is_shepherd(self, pid: int) -> bool:
        return any(
            f"-{pid}-" in file.read_text() for file in self.batch.glob("running/*/shepherd.json")
        )

    def list_jobs(self, *options: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-P", "-m", "zwrap.pool", "--directory", str(self.batch), "list"]
        listed = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        jobs: list[dict[str, Any]] = json.loads(listed.stdout)
        return jobs

    def busy_with(self) -> str:
        with contextlib.closing(SpoolTransport(self.spool)) as transport:
            counts = {
                "live jobs": len(self.list_jobs()), "jobs without an end": self.unconcluded(),
                **{
                    name: transport.queue(name).waiting() + self.claimed(name)
                    for name in ("processing_recipe", "cluster.submission")
                },
            }  # fmt: skip
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    def unconcluded(self) -> int:
        """Count the jobs whose end is not known yet."""
        with contextlib.closing(Ledger.in_file(self.directory / "state" / "ledger.sqlite")) as rows:
            return len(rows.unconcluded("local"))

    def claimed(self, queue: str) -> int:
        return len(
            [file for file in self.spool.glob(f"{queue}/pending/*/*") if file.name != ".lease"]
        )

    def reckoning(self) -> Counter[str]:
        """Return the account; each job was submitted once, and who gave up says why."""
        transport = SpoolTransport(self.spool)
        finals = self.finals(transport, 0.2)
        transport.close()
        transport = SpoolTransport(self.spool)
        letters = self.letters(transport, 0.2)
        transport.close()
        for reason in letters:
            assert "handed out 5 times" in reason, reason
        names = Counter(job["name"] for job in self.list_jobs("--ended"))
        assert names.most_common(1)[0][1] == 1
        return self.account(finals, len(letters))


def survived(directory: Path, seed: int, *, jobs_too: bool) -> tuple[Counter[str], Counter[str]]:
    """Return what was killed, and the end of every step."""
    print(f"seed {seed}")
    chaos = Chaos(directory, seed, jobs_too=jobs_too)
    try:
        chaos.run()
    finally:
        chaos.end()
    ends = chaos.reckoning()
    print(f"killed {dict(chaos.killed)}; fates {dict(Counter(chaos.fates.values()))}; {dict(ends)}")
    assert sum(chaos.killed.values()) > 20
    assert ends["success"] > 0
    return chaos.killed, ends


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, fresh_seed()], ids=["fixed", "fresh"])
def test_killing_services_and_runner_loses_no_step_and_repeats_none(
    tmp_path: Path, seed: int
) -> None:
    _, ends = survived(tmp_path, seed, jobs_too=False)
    assert ends["hurt"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, fresh_seed()], ids=["fixed", "fresh"])
def test_killing_jobs_too_fails_only_the_killed_jobs(tmp_path: Path, seed: int) -> None:
    killed, ends = survived(tmp_path, seed, jobs_too=True)
    assert ends["hurt"] <= killed["wrapper"] + killed["shepherd"]
