"""How soon a backlog of results is in the database: the service beside a plain loop of SQLAlchemy.

The messages are those of saved runs of xia2, fast_dp and autoPROC, in turn. The plain loop writes
the same rows, one transaction for each message as well, and does nothing else: it reads no message,
checks no value, remembers no id and answers nobody. In each round all contestants run one after the
other on the same server, whose tables are emptied before; a rate counts from the first message in
the database to the last. CPU is that of the client. One of the plain loops has a driver that does
not ping the server before each statement, as that of the service does not. Run by
`scripts/bench ispyb`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from zwrap.configuration.site import Configuration
from zwrap.service.ispyb.once import ddl
from zwrap.transport.connect import connect

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from database import Database  # noqa: E402
from rigs.mariadb import MariaDB  # noqa: E402
from rigs.rabbitmq import RabbitMQ  # noqa: E402
from saved_runs import QUEUE, SavedRuns  # noqa: E402

TABLES = (
    "AutoProcProgram", "AutoProc", "AutoProcScaling", "AutoProcScalingStatistics",
    "AutoProcIntegration", "AutoProcScaling_has_Int", "AutoProcProgramMessage",
    "AutoProcProgramAttachment",
)  # fmt: skip
"""Tables of the rows, each after those to which it refers."""

Measured = tuple[float, float]
"""Messages per second, and CPU seconds of the client per message."""

Templates = list[list[tuple[sa.Table, dict[str, Any]]]]
"""For each message its rows, in the order in which they are written."""


class Flushing(MariaDB):
    """A server that flushes its log to the disk at each COMMIT, as those of sites do."""

    unflushed = ()


class Site:
    """A database, a transport and messages.

    Args:
        directory: Directory for files.
        told: connection.json of the server.
        sections: Sections of the site file on the transport.
        count: Number of messages.
    """

    def __init__(
        self, directory: Path, told: dict[str, Any], sections: dict[str, Any], count: int
    ) -> None:
        directory.mkdir()
        self.count = count
        self.directory = directory
        self.database = Database(told)
        file = self.database.credentials_file(directory)
        sections = {**sections, "db": {"plugin": "ispyb", "credentials": str(file)}}
        site = {"version": 1, "environments": {"default": list(sections)}, **sections}
        (directory / "site.yml").write_text(json.dumps(site))

    def prepare(self) -> SavedRuns:
        """Empty the database but for one data collection; return the messages about that."""
        self.database.empty()
        with self.database.engine.connect() as connection:
            for statement in ddl().removesuffix(";").split("; "):
                connection.exec_driver_sql(statement)
        return SavedRuns(self.directory, self.database.collect().collection)

    def written(self) -> int:
        """Return the number of messages in the database."""
        table = self.database.table("AutoProcProgram")
        with self.database.engine.connect() as connection:
            return int(
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            )

    def rows(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return {name: len(self.database.rows(name)) for name in TABLES}

    def service(self) -> Measured:
        """Measure the service, which finds a backlog."""
        runs = self.prepare()
        configuration = Configuration.from_file(self.directory / "site.yml").activate()
        with contextlib.closing(connect(configuration)) as transport:
            for number in range(self.count):
                transport.send(QUEUE, runs.body(number), {"workflows-recipe": True})
        environment = {
            **os.environ,
            "ZOCALO_CONFIG": str(self.directory / "site.yml"),
            "ZWRAP_STATE": str(self.directory / "state"),
        }
        with (self.directory / "service.log").open("ab") as log:
            service = subprocess.Popen(
                [Path(sys.executable).with_name("zocalo.service"), "-s", "ISPyB"],
                env=environment, stderr=log,
            )  # fmt: skip
        try:
            return self._watched(psutil.Process(service.pid))
        finally:
            service.kill()
            service.wait()

    def _watched(self, process: psutil.Process) -> Measured:
        """Return how fast a process fills the database."""
        while not (first := self.written()):
            time.sleep(0.005)
        began, used = time.perf_counter(), sum(process.cpu_times()[:2])
        while (last := self.written()) < self.count:
            time.sleep(0.01)
        spent, used = time.perf_counter() - began, sum(process.cpu_times()[:2]) - used
        return (last - first) / spent, used / (last - first)

    def templates(self) -> Templates:
        """Return the rows that are in the database, by message."""
        programs: dict[int, list[tuple[sa.Table, dict[str, Any]]]] = defaultdict(list)
        of: dict[tuple[str, int], int] = {}
        for name in TABLES:
            table = self.database.table(name)
            [key] = table.primary_key.columns
            for row in self.database.rows(name):
                given = {column: value for column, value in row.items() if value is not None}
                ids = [(column, given[column]) for column in REFERENCES if column in given]
                program = next((of[each] for each in ids if each in of), row[key.name])
                of[key.name, row[key.name]] = program
                programs[program].append((table, given))
        return [rows for _, rows in sorted(programs.items())]

    def plain(self, engine: sa.Engine, templates: Templates) -> Measured:
        """Measure a plain loop that writes these rows."""
        collection = self.prepare().collection
        with engine.connect():
            began, used = time.perf_counter(), time.process_time()
        for rows in templates:
            with engine.begin() as connection:
                _write(connection, rows, collection)
        spent, used = time.perf_counter() - began, time.process_time() - used
        return len(templates) / spent, used / len(templates)


@contextlib.contextmanager
def opened(url: sa.URL, *, quiet: bool) -> Iterator[sa.Engine]:
    """Yield an engine as the documentation of ispyb makes it.

    `quiet`: True if the driver does not ask the server before each statement whether it is there.
    """
    engine = sa.create_engine(url, connect_args={"use_pure": True})
    if quiet:
        sa.event.listen(engine, "connect", _without_pings)
    yield engine
    engine.dispose()


def _without_pings(connection: Any, record: object) -> None:  # noqa: ANN401 - of the driver
    del record
    connection.is_connected = lambda: True


REFERENCES = ("autoProcProgramId", "autoProcId", "autoProcScalingId", "autoProcIntegrationId")
"""Columns that refer to rows of the same message."""


def _write(
    connection: sa.Connection, rows: list[tuple[sa.Table, dict[str, Any]]], collection: int
) -> None:
    """Write the rows of one message, with new ids."""
    ids: dict[tuple[str, int], int] = {}
    for table, row in rows:
        [key] = table.primary_key.columns
        values = {name: value for name, value in row.items() if name != key.name}
        for name in REFERENCES:
            if name in values:
                values[name] = ids[name, values[name]]
        if "dataCollectionId" in values:
            values["dataCollectionId"] = collection
        done = connection.execute(sa.insert(table), values)
        ids[key.name, row[key.name]] = int((done.inserted_primary_key or (0,))[0])


@contextlib.contextmanager
def servers(
    directory: Path, kind: type[MariaDB]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield how a MariaDB and a RabbitMQ are reached."""
    with contextlib.ExitStack() as stack:
        told = []
        for name, rig in (("m", kind(directory / "m")), ("r", RabbitMQ(directory / "r"))):
            del name
            rig.up()
            stack.callback(rig.down)
            told.append(rig.connection)
        Database(told[0]).create()
        yield told[0], told[1]


def sections_of(broker: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of a site file on a RabbitMQ, which declares what is missing."""
    user = {key: broker[key] for key in ("username", "password")}
    where = {key: broker[key] for key in ("host", "port", "vhost")}
    return {
        "mq": {"plugin": "pika", **where, **user, "declare": "quorum"},
        "api": {"plugin": "rabbitmqapi", "base_url": broker["api"], **user},
        "chosen": {"plugin": "transport", "default": "PikaTransport"},
    }


def measure(kind: type[MariaDB], title: str, options: argparse.Namespace) -> None:
    """Measure all contestants on a server of a kind, and print a table."""
    results: dict[str, list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place, servers(Path(place), kind) as (told, broker):
        directory = Path(place)
        spool = {"files": {"plugin": "spool", "path": str(directory / "spool")}}
        spooled = Site(directory / "spooled", told, spool, options.count)
        brokered = Site(directory / "brokered", told, sections_of(broker), options.count)
        contestants: dict[str, Callable[[], Measured]] = {
            "service `ISPyB`, spool": spooled.service,
            "service `ISPyB`, RabbitMQ": brokered.service,
        }
        for _ in range(options.rounds):
            wanted: dict[str, int] = {}
            for name, run in contestants.items():
                results[name].append(run())
                wanted = wanted or spooled.rows()
                assert spooled.rows() == wanted, name
            templates = spooled.templates()
            for name, quiet in (("plain loop, driver without pings", True), ("plain loop", False)):
                with opened(spooled.database.url, quiet=quiet) as engine:
                    results[name].append(spooled.plain(engine, templates))
                assert spooled.rows() == wanted, name
    print(f"\n## {title}\n")
    print("| | messages/s | CPU of the client | of the plain loop |\n|---|---|---|---|")
    *_, plain = results.values()
    bare = statistics.median(rate for rate, _ in plain)
    for name, rounds in results.items():
        rate = statistics.median(each for each, _ in rounds)
        cpu = statistics.median(each for _, each in rounds)
        print(f"| {name} | {rate:,.0f} | {cpu * 1000:.1f} ms | {rate / bare:.0%} |")
    rows = sum(wanted.values()) / options.count
    print(f"\n{options.count} messages of {rows:.1f} rows each.")


def main() -> None:
    """Measure with and without flushes to the disk."""
    parser = argparse.ArgumentParser(prog="bench ispyb", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="messages of each contestant")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measure(Flushing, "A backlog of results, server that flushes at each COMMIT", options)
    measure(MariaDB, "A backlog of results, server that flushes nothing", options)


if __name__ == "__main__":
    main()
