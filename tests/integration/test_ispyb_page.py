"""The rows of one run of xia2, as docs/ispyb.md shows them, written by the service."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.reading import read_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.ispyb.checks import checks
from zwrap.service.ispyb.commands.table import COMMANDS
from zwrap.service.ispyb.database import Database as Facility
from zwrap.service.ispyb.lookup.columns import Reader, check
from zwrap.service.ispyb.lookup.filter import LookUp
from zwrap.service.ispyb.once import ddl
from zwrap.service.ispyb.service import ISPyB
from zwrap.service.loop import Loop
from zwrap.transport.memory import MemoryTransport
from zwrap.wrapper.trial import Trial

from ..database import Collected, Database, lacking

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
XIA2 = ROOT / "tests/data/xia2/v3.12.0/success_insulin_sad"
PAGE = (ROOT / "docs" / "ispyb.md").read_text()
PROGRAM = "$ispyb_autoprocprogram_id"
QUEUE = "ispyb_connector"

SHOWN = {
    "AutoProcProgram": (
        "processingPrograms", "processingCommandLine", "processingPipelineId", "processingStatus",
        "processingMessage",
    ),
    "AutoProc": ("spaceGroup", "refinedCell_a", "refinedCell_alpha"),
    "AutoProcScaling": (),
    "AutoProcScalingStatistics": (
        "scalingStatisticsType", "resolutionLimitLow", "resolutionLimitHigh", "rMerge",
        "rMeasWithinIPlusIMinus", "nTotalObservations", "nTotalUniqueObservations",
        "meanIOverSigI", "completeness", "multiplicity", "ccHalf", "anomalousCompleteness",
        "ccAnomalous",
    ),
    "AutoProcIntegration": (
        "startImageNumber", "endImageNumber", "refinedDetectorDistance", "refinedXBeam",
        "refinedYBeam", "cell_a",
    ),
    "AutoProcScaling_has_Int": (),
    "AutoProcProgramMessage": ("severity", "message"),
    "AutoProcProgramAttachment": ("fileType", "fileName", "importanceRank"),
}  # fmt: skip
"""Tables, in the order in which they are written, and columns of the row that the page shows."""

FIRST = {"AutoProcScalingStatistics": 2, "AutoProcProgramMessage": 0}
"""Row of a table that the page shows; else the first."""


def recipe(dcid: int) -> Recipe:
    """Return the steps of the database in Diamond's recipe for xia2."""

    def step(output: list[int] | None = None, **parameters: object) -> dict[str, Any]:
        found: dict[str, Any] = {"queue": QUEUE, "parameters": parameters}
        return {**found, "output": output} if output else found

    registered = [
        {"ispyb_command": "register_processing", "program": "xia2 dials",
         "cmdline": "XIA2 DIALS (ap-zoc)", "store_result": PROGRAM[1:]},
        {"ispyb_command": "upsert_integration", "program_id": PROGRAM,
         "store_result": "ispyb_integration_id"},
    ]  # fmt: skip
    update: dict[str, object] = {"ispyb_command": "update_processing_status", "program_id": PROGRAM}
    return Recipe(
        {
            "1": step([2], ispyb_command="multipart_message", dcid=str(dcid),
                      ispyb_command_list=registered),
            "2": {"queue": "job"},
            "13": step(**update, message="starting"),
            "14": step(**update, message="processing"),
            "7": step(ispyb_command="multipart_message", dcid=str(dcid), program_id=PROGRAM,
                      integration_id="$ispyb_integration_id"),
            "8": step(ispyb_command="add_program_attachment", program_id=PROGRAM),
            "5": step(**update, message="processing successful", status="success"),
            "start": [[1, []]],
        }
    )  # fmt: skip


def create(tables: Database) -> None:
    """Make the table of the service."""
    with tables.engine.connect() as connection:
        for statement in ddl().removesuffix(";").split("; "):
            connection.exec_driver_sql(statement)


def granted(tables: Database, *names: str) -> sa.URL:
    """Return the URL of a user with the privileges of the page.

    `names`: the lists of tables in it.
    """
    given = dict(re.findall(r'^(\w+)="([^"]+)"$', PAGE, re.MULTILINE))
    told = set(re.findall(r"GRANT ([A-Z, ]+) ON ispyb\.(\S+) TO", PAGE))
    assert told >= {("SELECT, INSERT, UPDATE", "$table"), ("SELECT", "$table")}
    rights = {"write": "SELECT, INSERT, UPDATE", "read": "SELECT", "look_up": "SELECT"}
    statements = [
        "DROP USER IF EXISTS zocalo@'%'",
        "CREATE USER zocalo@'%' IDENTIFIED BY 'z'",
        *(
            f"GRANT {rights[name]} ON ispyb.{table} TO zocalo@'%'"
            for name in names
            for table in given[name].split()
        ),
    ]
    if "write" in names:
        statements += [
            f"GRANT {granted} ON ispyb.{table} TO zocalo@'%'"
            for granted, table in told
            if table != "$table"
        ]
    with tables.engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))
    return tables.url.set(username="zocalo", password="z")


class Site:
    """A service, and its queue."""

    def __init__(self, tables: Database, dcid: int) -> None:
        create(tables)
        self.recipe = recipe(dcid)
        self.transport = MemoryTransport()
        self.environment: dict[str, object] = {"ID": "r"}
        self.sent = 0
        self.facility = Facility(granted(tables, "write", "read"))
        self.service = ISPyB(Configuration(), self.transport, self.facility)

    def send(self, node: int, *payloads: object) -> None:
        """Have the service handle messages of a step of the recipe."""
        for payload in payloads:
            envelope = Envelope(self.recipe, node, payload=payload, environment=self.environment)
            self.transport.commit(envelope.delivered())
            self.sent += 1
        Loop(self.service, self.transport, once=True).run()
        assert [each.reason for each in self.transport.broker.dead_letters.get(QUEUE, [])] == []


def told(table: str, rows: list[dict[str, Any]]) -> str:
    """Return the line of the page about a table."""
    shown = rows[FIRST.get(table, 0)]
    values = [f"{name}: {_text(shown[name])}" for name in SHOWN[table]]
    return f"| {table} | {len(rows)} | {'; '.join(values)} |"


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def test_page_shows_the_rows_of_a_run_of_xia2(
    ispyb: Database, collected: Collected, tmp_path: Path
) -> None:
    run = tmp_path / "xia2-dials"
    shutil.copytree(XIA2, run)
    definition = read_definition(SHIPPED_PROGRAMS / "xia2.yaml")
    parameters = {"xia2": {"images": "/x_0001.cbf:1:900"}, "store_xtriage_results": True}
    judged = Trial(definition, parameters, None, run, saved=True).judge(0)
    assert not judged.failures
    sent: dict[str, list[object]] = {}
    for each in judged.messages:
        sent.setdefault(each.destination, []).append(each.message["payload"])

    site = Site(ispyb, collected.collection)
    site.send(1, [])
    [started] = site.transport.broker.queues["job"]
    site.environment = started.message.body["environment"]
    site.send(13, "")
    site.send(14, "")
    site.send(8, *sent["result-individual-file"])
    site.send(7, *sent["ispyb"])
    site.send(5, "")
    site.facility.close()

    lines = [told(table, ispyb.rows(table)) for table in SHOWN]
    found = re.findall(r"^\| AutoProc\w* \| \d+ \|.*$", PAGE, re.MULTILINE)
    assert found == lines, "\n".join(lines)
    rows = sum(len(ispyb.rows(table)) for table in SHOWN)
    assert f"{site.sent} messages make {rows} rows" in PAGE
    assert (
        ispyb.rows("AutoProcIntegration")[0]["autoProcProgramId"]
        == (ispyb.row("AutoProcProgram")["autoProcProgramId"])
    )


def test_page_makes_the_table_of_the_service() -> None:
    [block] = re.findall(r"```sql\n(.*?)\n```", PAGE, re.DOTALL)
    assert block.replace("\n", " ") == ddl()


def test_page_grants_what_every_command_writes() -> None:
    given = dict(re.findall(r'^(\w+)="([^"]+)"$', PAGE, re.MULTILINE))
    written = {
        field.column.partition(".")[0]
        for command in COMMANDS.values()
        for field in command.fields.values()
        if field.column
    }
    only_read = set(given["read"].split())
    assert set(given["write"].split()) == written - only_read


def test_page_grants_what_the_look_up_reads(ispyb: Database, collected: Collected) -> None:
    sample = ispyb.insert(
        "BLSample", loopType="multipin", crystalId=ispyb.insert(
            "Crystal", proteinId=ispyb.insert("Protein", proposalId=collected.proposal)
        ),
    )  # fmt: skip
    with ispyb.engine.connect() as connection:
        connection.execute(ispyb.table("DataCollection").update().values(BLSAMPLEID=sample))
    job = ispyb.insert("ProcessingJob", dataCollectionId=collected.collection)
    facility = Facility(granted(ispyb, "look_up"))
    with facility.reading() as connection:
        check(Reader(connection, frozenset()))
    _, found = LookUp(facility.reading, {}).fill({}, {"ispyb_process": job})
    facility.close()
    assert found["ispyb_beamline"] == "i03"
    assert found["ispyb_pin_info"]


def site_checks(url: sa.URL, directory: Path) -> list[Any]:
    """Return the checks of a site with the look-up."""
    section = {
        "plugin": "ispyb", "url": url.render_as_string(hide_password=False), "look_up": True,
    }  # fmt: skip
    file = directory / "site.yml"
    document = {"version": 1, "db": section, "environments": {"default": ["db"]}}
    file.write_text(json.dumps(document))
    configuration = Configuration.from_file(file).activate()
    return [check for _, check in checks(configuration)]


def test_check_tells_what_the_look_up_may_not_read(ispyb: Database, tmp_path: Path) -> None:
    create(ispyb)
    url = granted(ispyb, "write", "look_up")
    with ispyb.engine.connect() as connection:
        connection.exec_driver_sql("REVOKE SELECT ON ispyb.Detector FROM zocalo@'%%'")
    [table, look_up] = site_checks(url, tmp_path)
    assert not table()
    with pytest.raises(MessageError, match=r"^The look-up: the database refuses .*Detector"):
        look_up()


def test_check_wants_the_table_of_who_may_write_and_not_of_who_only_looks_up(
    ispyb: Database, tmp_path: Path
) -> None:
    [table, look_up] = site_checks(granted(ispyb, "look_up"), tmp_path)
    assert not look_up()
    [remark] = table()
    assert remark.startswith("The user may only read in the database 127.0.0.1:")
    assert "Service ISPyB cannot run with it: that needs table zwrap_messages, " in remark
    create(ispyb)
    [table, _] = site_checks(granted(ispyb, "write", "look_up"), tmp_path)
    with ispyb.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE zwrap_messages")
    with pytest.raises(ConfigurationError, match=r"^Table zwrap_messages is missing"):
        table()


def test_check_names_columns_that_the_database_lacks(ispyb: Database, tmp_path: Path) -> None:
    url = granted(ispyb, "look_up")
    with lacking(ispyb, "BLSample", "SMILES"):
        [_, look_up] = site_checks(url, tmp_path)
        [remark] = look_up()
    assert remark.endswith("which the look-up takes for NULL: BLSample.SMILES.")
    with lacking(ispyb, "DataCollection", "runStatus"):
        [_, look_up] = site_checks(url, tmp_path)
        with pytest.raises(MessageError, match=r"^The look-up: .*'DataCollection.runStatus'"):
            look_up()
