"""What services and commands cost beside a ledger of any age, on SQLite and PostgreSQL.

Each ledger is filled with attempts that have ended, and some that are open. Every figure is the
median of five rounds; CPU is that of whole processes, their start included. Run by
`scripts/bench scale`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict, replace
from rigs import RIGS

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.tables import ATTEMPTS
from zwrap.attempt.ledger.version import VERSION
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.host.modes import make_private

ROUNDS = 5
SLICE = 10_000
"""Number of rows that are written at once."""

BIN = Path(sys.executable).parent
IDLE_S = 20.0
"""Time for which an idle Watcher is measured, in seconds."""

BATCHES, BATCH = 30, 10
"""Number of batches of the rate, and of the attempts in each."""


def rows(count: int, live: int) -> Iterator[list[dict[str, Any]]]:
    """Yield attempts as a site leaves them in a year, in slices; the last `live` are open."""
    drawn = random.Random(21)
    began = time.time() - 365 * 86400
    found: list[dict[str, Any]] = []
    for number in range(count):
        name = drawn.choice(["xia2", "fast_dp", "dimple", "autoPROC", "dials"])
        token = f"{uuid.UUID(int=drawn.getrandbits(128))}-1"
        created = began + 365 * 86400 * number / count
        ended = {} if number >= count - live else {
            "outcome": drawn.choices(["success", "failure", "retried"], [95, 4, 1])[0],
            "cause": "The program ended with exit status 0.", "witness": "wrapper",
            "ended": created + 600, "elapsed_s": drawn.uniform(10, 5000),
            "peak_memory_mib": drawn.uniform(100, 9000), "seen_state": "completed",
        }  # fmt: skip
        row = Attempt(
            token=token, recipe_id=str(uuid.UUID(int=drawn.getrandbits(128))), step=2,
            cluster="away" if number >= count - live else "local",
            job_name=name, job_id=str(number), state=SUBMITTED, created=created,
            job_directory=f"/dls/i03/data/2026/cm{number // 100}-1/{name}/.zwrap/{token}",
            tried=created, digest=f"{drawn.getrandbits(256):064x}", asked="cpus_per_task=4",
        )  # fmt: skip
        found.append(asdict(replace(row, **ended)))
        if len(found) == SLICE:
            yield found
            found = []
    if found:
        yield found


def fill(url: str, count: int, live: int) -> None:
    """Fill a new ledger, and leave it as the release before schema 0002 would have made it."""
    Ledger(url).open().close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for index in ATTEMPTS.indexes - {each for each in ATTEMPTS.indexes if each.name in FIRST}:
            index.drop(connection, checkfirst=True)
        VERSION.drop(connection)
    for some in rows(count, live):
        with engine.begin() as connection:
            connection.execute(ATTEMPTS.insert(), some)
    engine.dispose()


FIRST = ("ix_attempts_recipe_id", "ix_attempts_job_id", "ix_attempts_state")
"""Indexes of the first schema."""


def upgrade(environment: dict[str, str]) -> float:
    """Return the time in which a ledger is copied and upgraded, in seconds."""
    began = time.perf_counter()
    argv = [str(BIN / "zwrap"), "ledger", "upgrade"]
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def rate(ledger: Ledger) -> tuple[float, float]:
    """Return how many attempts a second a Submitter and a Watcher write, and CPU ms for each."""
    times, used = [], time.process_time()
    for _ in range(BATCHES):
        began = time.perf_counter()
        new = [
            Attempt(token=f"{uuid.uuid4()}-1", recipe_id=str(uuid.uuid4()), step=1, cluster="local",
                    job_name="rate", job_directory=f"/rate/{uuid.uuid4()}")
            for _ in range(BATCH)
        ]  # fmt: skip
        ledger.known([each.token for each in new])
        ours = ledger.reserve(new)
        ledger.record({
            each.token: {"state": SUBMITTED, "job_id": uuid.uuid4().hex} for each in ours
        })  # fmt: skip
        ledger.open_clusters()
        ledger.record({each.token: {"outcome": "success", "ended": 1.0} for each in ours})
        times.append(time.perf_counter() - began)
    used = time.process_time() - used
    return BATCH / statistics.median(times), 1000 * used / (BATCHES * BATCH)


def command(environment: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Return CPU in seconds, and resident memory in MiB, of a command of zwrap."""
    code = (
        "import json, resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"
    )
    argv = [sys.executable, "-P", "-c", code, str(BIN / "zwrap"), *arguments]
    found = [
        json.loads(subprocess.run(argv, env=environment, check=True, capture_output=True).stdout)
        for _ in range(ROUNDS)
    ]
    return statistics.median(each[0] for each in found), max(each[1] for each in found)


def idle(environment: dict[str, str]) -> float:
    """Return the part of a processor that a Watcher uses."""
    service = subprocess.Popen(
        [BIN / "zocalo.service", "-s", "Watcher"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(5)
        before = cpu_s(service.pid)
        time.sleep(IDLE_S)
        return (cpu_s(service.pid) - before) / IDLE_S
    finally:
        service.terminate()
        service.wait()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def databases(base: Path, chosen: str) -> Iterator[str | None]:
    """Yield the URL of a server, which is there meanwhile; None for SQLite."""
    if chosen == "sqlite":
        yield None
        return
    rig = RIGS[chosen](base / chosen)
    rig.up()
    try:
        yield json.loads((base / chosen / "connection.json").read_text())["url"]
    finally:
        rig.down()


def measure(directory: Path, server: str | None, count: int, live: int) -> list[str]:
    """Return the cells of a row of the table."""
    make_private(directory / "state")
    url = server or f"sqlite:///{directory}/state/ledger.sqlite"
    described = {"plugin": "ledger", "url": url}
    sections: dict[str, Any] = {"l": described} if server else {}
    site = {"version": 1, **sections, "environments": {"default": [*sections]}}
    (directory / "site.yml").write_text(json.dumps(site))
    environment = {
        "PATH": "/usr/bin:/bin", "ZOCALO_CONFIG": str(directory / "site.yml"),
        "ZWRAP_SPOOL": str(directory / "spool"), "ZWRAP_STATE": str(directory / "state"),
    }  # fmt: skip
    if server:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text("drop schema public cascade; create schema public"))
        engine.dispose()
    fill(url, count, live)
    upgraded_s = upgrade(environment)
    ledger = Ledger(url)
    size = (directory / "state" / "ledger.sqlite").stat().st_size / 2**20 if not server else 0
    per_s, cpu_ms = rate(ledger)
    token = ledger.queries.newest(1)[0].token
    ledger.close()
    shown = [command(environment, "jobs", *given) for given in (["-n", "50"], [token[:12]])]
    state_s = command(environment, "jobs", "--state", "failure")[0]
    advise_s = command(environment, "jobs", "advise")[0]
    checked_s = command(environment, "ledger", "check")[0]
    busy = idle(environment)
    return [
        f"{count:,}", f"{live:,}", f"{upgraded_s:.1f} s", f"{size:.0f} MiB" if size else "",
        f"{per_s:,.0f}/s", f"{cpu_ms:.2f} ms", f"{shown[0][0]:.2f} s, {shown[0][1]:.0f} MiB",
        f"{shown[1][0]:.2f} s", f"{state_s:.2f} s", f"{advise_s:.2f} s",
        f"{checked_s:.1f} s", f"{busy:.2%}",
    ]  # fmt: skip


TITLES = [
    "attempts", "open", "upgraded in", "file", "rate", "CPU for each", "`jobs -n 50`",
    "`jobs TOKEN`", "`--state failure`", "`advise`", "`ledger check`", "Watcher",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to measure")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument(
        "--live", type=int, default=0, help="open attempts, of a cluster that is away"
    )
    parser.add_argument(
        "--on", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"]
    )
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in options.on:
        print(f"\n## The ledger on {name}\n\n| {' | '.join(TITLES)} |")
        print("|---" * len(TITLES) + "|")
        with (
            tempfile.TemporaryDirectory(dir=options.directory) as base,
            databases(Path(base), name) as server,
        ):
            for count in options.rows:
                directory = Path(base, f"rows{count}")
                directory.mkdir()
                cells = measure(directory, server, count, options.live)
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
