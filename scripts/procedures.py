"""Compare commands of the ISPyB service with stored procedures (see scripts/procedures)."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import ispyb
import sqlalchemy as sa
from conformances.cases import Case, Cases
from conformances.known import KNOWN
from conformances.procedures import PROCEDURES
from conformances.rows import Tables, differences
from rigs import RIGS

from zwrap.errors import ZwrapError
from zwrap.service.ispyb.commands.table import COMMANDS
from zwrap.service.ispyb.contract import Call

FILES = ("tables", "lookups", "data", "routines")
SIDES = ("theirs", "ours")

Value = Any
"""Parameters of a message, or one of them."""


class Side:
    """One of the two databases, and the numbers of rows that commands returned there."""

    def __init__(self, given: Mapping[str, Any], name: str, schema: Path, directory: Path) -> None:
        self.name = name
        client = ["mariadb", "--no-defaults", f"--host={given['host']}", f"--port={given['port']}",
                  f"--user={given['username']}", f"--password={given['password']}"]  # fmt: skip
        subprocess.run([*client, "-e", f"CREATE DATABASE {name}"], check=True)
        for each in FILES:
            with (schema / f"{each}.sql").open("rb") as text:
                subprocess.run([*client, name], stdin=text, check=True)
        keys = ("username", "password", "host", "port")
        self.engine = sa.create_engine(
            sa.URL.create(
                "mysql+mysqlconnector", database=name, **{key: given[key] for key in keys}
            ),
            connect_args={"use_pure": True, "collation": "utf8mb4_general_ci"},
        )
        self.environment: dict[str, Any] = {}
        credentials = directory / f"{name}.cfg"
        credentials.write_text(
            "[ispyb_mariadb_sp]\n" + "".join(
                f"{short} = {value}\n" for short, value in (
                    ("user", given["username"]), ("pw", given["password"]),
                    ("host", given["host"]), ("port", given["port"]), ("db", name),
                )
            )
        )  # fmt: skip
        self._api = ispyb.open(str(credentials)) if name == "theirs" else None
        if self._api:  # cuts texts that are too long, as MariaDB did before 10.2.4
            self._api.conn.cmd_query("SET SESSION sql_mode = ''")
        self.tables = Tables(self.engine, names(schema))

    def run(self, case: Case) -> object:
        """Carry out a command; return what it returned, or the error."""
        try:
            result = self._run(case)
        except (ispyb.ISPyBException, ZwrapError, sa.exc.DBAPIError) as error:
            return error
        if case.store:
            self.environment[case.store] = result
        return result

    def _run(self, case: Case) -> object:
        if self._api is None:
            with self.engine.begin() as connection:
                call = Call(case.command, [case.parameters], self.environment, connection)
                return COMMANDS[case.command].function(call)
        return PROCEDURES[case.command](self._api, filled(case.parameters, self.environment))


def filled(value: Value, environment: Mapping[str, Any]) -> Value:
    """Return parameters with ``$name`` replaced, as python-dlstbx's service does."""
    if isinstance(value, dict):
        return {key: filled(each, environment) for key, each in value.items()}
    known = isinstance(value, str) and value.startswith("$") and value[1:] in environment
    return str(environment[value[1:]]) if known else value


def names(schema: Path) -> Iterator[str]:
    """Return the tables that commands write."""
    text = (schema / "tables.sql").read_text()
    begins = ("AutoProc", "MXMRRun", "Phasing", "ProcessingJob", "Screening", "DataCollection",
              "ImageQuality", "PreparePhasing", "SubstructureD", "ModelBuilding")  # fmt: skip
    found = re.findall(r"CREATE TABLE `(\w+)`", text)
    return (each for each in found if each.startswith(begins))


def ids_of(engine: sa.Engine) -> dict[str, Any]:
    """Return the numbers of a data collection of the test data, and a proposal."""
    question = (
        "SELECT DC.dataCollectionId AS dcid, G.dataCollectionGroupId AS dcgid, "
        "G.sessionId AS session_id, P.proposalCode AS proposalcode, "
        "P.proposalNumber AS proposalnumber FROM DataCollection DC "
        "JOIN DataCollectionGroup G USING (dataCollectionGroupId) "
        "JOIN BLSession S ON S.sessionId = G.sessionId JOIN Proposal P USING (proposalId) "
        "ORDER BY DC.dataCollectionId LIMIT 1"
    )
    with engine.connect() as connection:
        return dict(connection.exec_driver_sql(question).mappings().one())


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/procedures")
    parser.add_argument("checkout", type=Path, metavar="DIR")
    parser.add_argument("--verbose", action="store_true", help="print each difference")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        rig = RIGS["mariadb"](Path(directory) / "rig")
        rig.up()
        try:
            return compared(options, rig.connection, Path(directory))
        finally:
            rig.down()


def compared(options: argparse.Namespace, given: Mapping[str, Any], directory: Path) -> int:
    """Carry out all messages on both sides, and print the table; return the status."""
    schema = options.checkout.resolve() / "schemas" / "ispyb"
    theirs, ours = (Side(given, name, schema, directory) for name in SIDES)
    file = directory / "aimless.log"
    file.touch()
    found: dict[str, list[str]] = {}
    rows: dict[str, list[int]] = {}
    for case in Cases(ids_of(ours.engine), file):
        results = theirs.run(case), ours.run(case)
        changes = theirs.tables.changed(), ours.tables.changed()
        counts = rows.setdefault(case.command, [0, 0, 0])
        counts[0] += 1
        counts[1] += len(changes[0])
        counts[2] += len(changes[1])
        lines = found.setdefault(case.command, [])
        lines += differences(*changes)
        if not all(isinstance(each, Exception) for each in results) and results[0] != results[1]:
            lines.append(f"returns {results[0]!r}, ours {results[1]!r}")
    return told(found, rows, verbose=options.verbose)


def told(found: Mapping[str, list[str]], rows: Mapping[str, list[int]], *, verbose: bool) -> int:
    """Print a line for each command; return 1 if a difference is not known."""
    bad = 0
    print("| command | messages | rows: procedure | rows: zwrap | result |")
    print("|---|---|---|---|---|")
    for command, lines in found.items():
        reasons = dict.fromkeys(
            reason for line in lines for pattern, reason in KNOWN.get(command, {}).items()
            if re.search(pattern, line)
        )  # fmt: skip
        unknown = [
            line for line in lines
            if not any(re.search(pattern, line) for pattern in KNOWN.get(command, {}))
        ]  # fmt: skip
        bad += len(unknown)
        result = "; ".join([*reasons, *(f"DIFFERS ({len(unknown)})" for _ in unknown[:1])])
        counts = " | ".join(map(str, rows[command]))
        print(f"| `{command}` | {counts} | {result or 'equal'} |")
        for line in lines if verbose else unknown:
            print(f"    {line}", file=sys.stderr)
    for command in sorted(set(COMMANDS) - set(found)):
        print(f"| `{command}` | - | - | - | no procedure |")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
