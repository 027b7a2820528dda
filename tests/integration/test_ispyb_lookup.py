"""The Dispatcher's look-up in a real MariaDB: what it reads, with how many statements."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, WaitingError
from zwrap.message.jsontext import decode, encode
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.ispyb.database import Database as Facility
from zwrap.service.ispyb.lookup import columns
from zwrap.service.ispyb.lookup.filter import KEPT_S, LookUp
from zwrap.service.loop import Loop
from zwrap.transport.delivery import ACK, Settlement, Verb
from zwrap.transport.memory import MemoryBroker, MemoryTransport

from ..database import Collected, Database, lacking
from ..proxy import Proxy
from ..unit.clock import ManualClock

pytestmark = pytest.mark.slow

LOG = "zwrap.service.ispyb.lookup.filter"

TEMPLATES = {
    "ispyb_working_directory": "{ispyb_visit_directory}/tmp/{below_visit}/{collection}/{guid}",
    "ispyb_preferred_datacentre": "slurm",
    "ispyb_images": "",
}


class Asking:
    """A look-up in a database, and the statements that it sent."""

    def __init__(self, database: Database) -> None:
        self.statements: list[str] = []
        self.inspected = 0
        """Number of times that it asked which columns there are."""
        self.transactions = 0
        self.clock = ManualClock()
        self._engine = database.engine.execution_options(isolation_level="REPEATABLE READ")
        self.look_up = LookUp(self._reading, TEMPLATES, clock=self.clock)
        sa.event.listen(
            self._engine,
            "before_cursor_execute",
            lambda _, __, statement, *___: self._note(statement),
        )

    def _note(self, statement: str) -> None:
        if "information_schema" in statement:
            self.inspected += 1
        else:
            self.statements.append(statement)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self.transactions += 1
        with self._engine.begin() as connection:
            yield connection

    def __call__(self, message: dict | None = None, **parameters: object) -> dict:
        """Return the parameters of a request, as JSON gives them back, without `ispyb_`."""
        self.statements.clear()
        self.transactions = 0
        self.message, found = self.look_up.fill(message or {}, {"guid": "G", **parameters})
        assert decode(encode(found), "") == found, "all values are those of JSON"
        return {name.removeprefix("ispyb_"): value for name, value in found.items()}


@pytest.fixture
def asking(ispyb: Database) -> Asking:
    return Asking(ispyb)


def linked(ispyb: Database, ids: Collected) -> int:
    """Link the data collection with all that the look-up reads; return its sample."""
    pipeline = ispyb.insert("ProcessingPipeline", name="autoPROC", discipline="MX")
    container = ispyb.insert("Container", priorityPipelineId=pipeline)
    plan = ispyb.insert("DiffractionPlan", anomalousScatterer="Se", requiredResolution=1.5)
    protein = ispyb.insert(
        "Protein", proposalId=ids.proposal, acronym="thau", sequence="ATF", externalId=b"1" * 16
    )
    crystal = ispyb.insert(
        "Crystal", proteinId=protein, spaceGroup="P41212", cell_a=58, cell_b=58, cell_c=150,
        cell_alpha=90, cell_beta=90, cell_gamma=90,
    )  # fmt: skip
    samples = [
        ispyb.insert(
            "BLSample", crystalId=crystal, containerId=container, diffractionPlanId=plan,
            name=f"thau{place}", SMILES="CCO", loopType="multipin8", location="3",
            subLocation=place,
        )
        for place in (1, 2)
    ]  # fmt: skip
    detector = ispyb.insert("Detector", detectorModel="Eiger2 XE 16M")
    with ispyb.engine.begin() as connection:
        for name, values in (
            ("DataCollectionGroup", {"blSampleId": samples[0]}),
            ("DataCollection", {"BLSAMPLEID": samples[0], "detectorId": detector, "overlap": 0}),
        ):
            connection.execute(ispyb.table(name).update().values(**values))
    ispyb.insert("Protein_has_PDB", proteinid=protein,
                 pdbid=ispyb.insert("PDB", code="1LR2", source="AlphaFold"))  # fmt: skip
    ispyb.insert(
        "EnergyScan", sessionId=ids.session, blSampleId=samples[1], element="Se",
        peakEnergy=12700, inflectionEnergy=12690, peakFPrime=-7.5, peakFDoublePrime=5.5,
    )  # fmt: skip
    group = ispyb.insert("BLSampleGroup", name="merge us", proposalId=ids.proposal)
    with ispyb.engine.begin() as connection:
        for sample in samples:
            connection.execute(
                ispyb.table("BLSampleGroup_has_BLSample").insert(),
                {"blSampleGroupId": group, "blSampleId": sample},
            )
    chain = ispyb.insert("EventChain", dataCollectionId=ids.collection)
    kind = ispyb.insert("EventType", name="XrayDetection")
    ispyb.insert("Event", eventChainId=chain, eventTypeId=kind, offset=0, repetition=3)
    return samples[0]


def test_data_collection_with_all_that_is_linked_with_it(
    asking: Asking, ispyb: Database, collected: Collected
) -> None:
    sample = linked(ispyb, collected)
    found = asking(ispyb_dcid=collected.collection)
    assert asking.transactions == 1
    assert len(asking.statements) == 9
    directory = "/dls/i03/data/2026/cm12345-1"
    assert {name: found[name] for name in (
        "beamline", "visit", "visit_directory", "image", "image_pattern", "image_first",
        "image_last", "image_directory", "project", "crystal", "detectorclass", "detectorname",
        "space_group", "unit_cell", "smiles", "preferred_processing", "energy_scan_info", "pdb",
        "ssx_shots_per_image", "pin_info", "dcg_experiment_type", "images", "related_dcids",
        "working_directory", "preferred_datacentre", "msp_sample_ids",
    )} == {
        "beamline": "i03",
        "visit": "cm12345-1",
        "visit_directory": directory,
        "image": f"{directory}/thau/thau_1_00001.cbf:1:1800",
        "image_pattern": "thau_1_%05d.cbf",
        "image_first": 1,
        "image_last": 1800,
        "image_directory": f"{directory}/thau/",
        "project": "cm12345v1",
        "crystal": "xthau1",
        "detectorclass": "eiger",
        "detectorname": "Eiger16M",
        "space_group": "P41212",
        "unit_cell": [58, 58, 150, 90, 90, 90],
        "smiles": "CCO",
        "preferred_processing": "autoPROC",
        "energy_scan_info": {
            "energyscanid": 1, "atom_type": "Se", "edge_position": "peak", "fp": -7.5, "fpp": 5.5,
        },
        "pdb": [{"filepath": None, "code": "1LR2", "source": "AlphaFold"}],
        "ssx_shots_per_image": 3,
        "pin_info": {
            "containerId": ispyb.row("Container")["containerId"], "location": "3",
            "subLocation": 1, "loopType": "multipin8",
        },
        "dcg_experiment_type": "SAD",
        "images": "",
        "related_dcids": [
            {
                "dcids": [collected.collection], "name": "merge us",
                "sample_group_id": ispyb.row("BLSampleGroup")["blSampleGroupId"],
            },
            {"dcids": [collected.collection], "sample_id": sample, "name": "thau1"},
        ],
        "working_directory": f"{directory}/tmp/thau/thau_1/G",
        "preferred_datacentre": "slurm",
        "msp_sample_ids": {"1": sample, "2": sample + 1},
    }  # fmt: skip
    assert found["dc_info"]["wavelength"] == 0.97625
    assert found["dc_info"]["uuid"] == "G"
    assert dt.datetime.fromisoformat(found["dc_info"]["startTime"])
    assert found["diffraction_plan"]["anomalousScatterer"] == "Se"
    assert found["protein_info"]["sequence"] == "ATF"
    assert "externalId" not in found["protein_info"]
    assert found["ssx_events"][0]["eventType"] == "XrayDetection"


def test_data_collection_without_a_sample_takes_few_statements(
    asking: Asking, ispyb: Database, collected: Collected
) -> None:
    other = ispyb.insert(
        "DataCollection", dataCollectionGroupId=collected.group,
        imageDirectory=ispyb.row("DataCollection")["imageDirectory"],
    )  # fmt: skip
    found = asking(ispyb_dcid=str(collected.collection))
    assert (asking.transactions, len(asking.statements)) == (1, 5)
    assert found["related_dcids"] == [{"dcids": [other]}]
    assert found["dcid"] == str(collected.collection), "as the request gives it"
    assert found["space_group"] is found["protein_info"] is found["pin_info"].get("x") is None


def test_processing_job_brings_its_images_parameters_and_recipe(
    asking: Asking, ispyb: Database, collected: Collected
) -> None:
    job = ispyb.insert(
        "ProcessingJob", dataCollectionId=collected.collection, automatic=1,
        recipe="autoprocessing-xia2",
    )  # fmt: skip
    for value in ("1.8", "2"):
        ispyb.insert(
            "ProcessingJobParameter", processingJobId=job, parameterKey="d_min",
            parameterValue=value,
        )  # fmt: skip
    ispyb.insert(
        "ProcessingJobImageSweep", processingJobId=job, dataCollectionId=collected.collection,
        startImage=1, endImage=900,
    )  # fmt: skip
    found = asking(ispyb_process=job)
    assert (asking.transactions, len(asking.statements)) == (1, 8)
    assert asking.message == {"recipes": ["ispyb-autoprocessing-xia2"]}
    assert found["images"] == "/dls/i03/data/2026/cm12345-1/thau/thau_1_00001.cbf:1:900"
    assert found["parameters"] == found["processing_parameters"] == {"d_min": ["1.8", "2"]}
    assert found["processing_job"]["automatic"] == 1
    assert found["dcid"] == collected.collection
    assert found["beamline"] == "i03"
    asking({"recipes": ["mine"]}, ispyb_process=job)
    assert asking.message == {"recipes": ["mine"]}
    assert asking(ispyb_process=job, ispyb_images="/mine:1:2")["images"] == "/mine:1:2"


def test_unknown_ids_are_told(asking: Asking, collected: Collected) -> None:
    with pytest.raises(MessageError, match=r"data collection 999 .* DataCollection is expected"):
        asking(ispyb_dcid=999)
    with pytest.raises(MessageError, match=r"processing job 999 .* ProcessingJob is expected"):
        asking(ispyb_process=999)


def test_answers_are_kept_for_seconds_once_the_data_collection_is_over(
    asking: Asking, ispyb: Database, collected: Collected
) -> None:
    def ask() -> int:
        found = asking(ispyb_dcid=collected.collection)
        found["dc_info"]["comments"] = found["related_dcids"] = "changed by a filter of the site"
        return asking.transactions

    table = ispyb.table("DataCollection")
    assert [ask(), ask()] == [1, 1], "its row still changes"
    with ispyb.engine.begin() as connection:
        connection.execute(table.update().values(runStatus="DataCollection Successful"))
    assert [ask(), ask()] == [1, 0]
    assert asking(ispyb_dcid=collected.collection, ispyb_images="/x:1:2")["images"] == "/x:1:2"
    found = asking(ispyb_dcid=collected.collection, ispyb_image="mine", guid="H")
    assert found["dc_info"]["comments"] is None
    assert (found["dc_info"]["uuid"], found["image"]) == ("H", "mine")
    asking.clock.move(KEPT_S)
    assert ask() == 1


def test_request_waits_for_the_end_of_its_data_collection(
    asking: Asking, ispyb: Database, collected: Collected
) -> None:
    parameters = {"ispyb_dcid": collected.collection, "ispyb_wait_for_runstatus": True}
    assert not asking.look_up.is_ready({}, parameters)
    assert asking.look_up.is_ready({}, {"ispyb_dcid": collected.collection})
    with ispyb.engine.begin() as connection:
        connection.execute(ispyb.table("DataCollection").update().values(runStatus="Failed"))
    assert asking.look_up.is_ready({}, parameters)


RECIPE = {
    "1": {
        "queue": "work",
        "parameters": {
            "image": "{ispyb_image}", "dir": "{ispyb_working_directory}",
            "cell": "{$REPLACE:ispyb_unit_cell}", "wavelength": "{ispyb_dc_info[wavelength]:.3f}",
        },
    },
    "start": [[1, []]],
}  # fmt: skip


def site(url: str) -> Configuration:
    section = {"plugin": "ispyb", "url": url, "look_up": True, "parameters": TEMPLATES}
    text = json.dumps({"version": 1, "db": section, "environments": {"default": ["db"]}})
    return Configuration.from_string(text).activate()


class Broker(MemoryTransport):
    """Notes how deliveries are settled."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker())
        self.settlements: list[Settlement] = []

    def commit(self, messages, deliveries=(), settlement=ACK) -> None:
        if deliveries:
            self.settlements.append(settlement)
        super().commit(messages, deliveries, settlement)

    def steps(self) -> list[dict]:
        """Return the parameters of the steps that were started."""
        found = [each.message.body for each in self.broker.queues.get("work", [])]
        return [each["recipe"]["1"]["parameters"] for each in found]


def dispatched(configuration: Configuration, *bodies: dict) -> Broker:
    """Let a Dispatcher handle requests that wait."""
    transport = Broker()
    for body in bodies:
        transport.send("processing_recipe", body)
    transport.settlements.clear()
    Loop(Dispatcher(configuration, transport), transport, once=True).run()
    return transport


def test_dispatcher_starts_recipes_with_what_was_found(
    ispyb: Database, collected: Collected
) -> None:
    url = ispyb.url.render_as_string(hide_password=False)
    body = {
        "custom_recipe": RECIPE,
        "parameters": {"ispyb_dcid": collected.collection, "guid": "G"},
    }
    transport = dispatched(site(url), body)
    directory = "/dls/i03/data/2026/cm12345-1"
    assert transport.steps() == [
        {
            "image": f"{directory}/thau/thau_1_00001.cbf:1:1800",
            "dir": f"{directory}/tmp/thau/thau_1/G",
            "cell": None,
            "wavelength": "0.976",
        }
    ]


def test_database_that_is_away_holds_up_only_requests_that_name_data(
    ispyb: Database, caplog: pytest.LogCaptureFixture
) -> None:
    away = site("mysql://user:secret@127.0.0.1:1/ispyb")
    plain = {"1": {"queue": "work", "parameters": {}}, "start": [[1, []]]}
    asking = {"custom_recipe": RECIPE, "parameters": {"ispyb_dcid": 1}}
    transport = dispatched(away, asking, {"custom_recipe": plain}, asking)
    assert transport.steps() == [{}]
    first, between, last = transport.settlements
    assert between == ACK
    for settlement in (first, last):
        assert settlement.verb is Verb.RETRY
        assert not settlement.counted
        assert 4 < settlement.delay_s <= 5
    [told] = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert told.startswith(
        "Requests that name data wait until this is over: The database 127.0.0.1:1/ispyb cannot be "
        "used: "
    )
    assert "secret" not in caplog.text


def test_connection_that_is_lost_holds_up_the_request_until_the_database_answers(
    ispyb: Database, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, clock = Proxy(ispyb.credentials["port"]), ManualClock()
    database = Facility(ispyb.url.set(port=proxy.port))
    look_up = LookUp(database.reading, {}, clock=clock)
    parameters = {"ispyb_dcid": collected.collection}
    _, found = look_up.fill({}, parameters)
    for when in ("unsent", "answered"):
        proxy.cut_at("SELECT `DataCollection`", when)
        with pytest.raises(WaitingError, match="cannot be used"):
            look_up.fill({}, parameters)
        clock.move(60)
        assert look_up.fill({}, parameters) == ({}, found)
    database.close()
    proxy.close()
    assert proxy.cut == 2
    assert [line.getMessage().partition(":")[0] for line in caplog.records] == 2 * [
        "Requests that name data wait until this is over",
        "Requests that name data go on",
    ]


def test_what_is_read_is_of_one_moment(ispyb: Database, collected: Collected) -> None:
    database = Facility(ispyb.url)
    table = ispyb.table("DataCollection")
    comment = sa.select(table.c.comments)
    with database.reading() as connection:
        assert connection.execute(comment).scalar() is None
        with ispyb.engine.begin() as other:
            other.execute(table.update().values(comments="changed"))
        assert connection.execute(comment).scalar() is None
    with database.transaction() as connection:
        assert connection.execute(comment).scalar() == "changed"
    database.close()


def test_check_reads_each_column_that_the_look_up_reads(
    ispyb: Database, collected: Collected
) -> None:
    linked(ispyb, collected)
    job = ispyb.insert("ProcessingJob", dataCollectionId=collected.collection)
    some = {
        f"SELECT ({', '.join(names)})": model.__tablename__ for model, names in columns.SOME.items()
    }
    every = [("SELECT", model.__tablename__) for model in columns.ALL]
    with ispyb.engine.connect() as connection:
        connection.exec_driver_sql("DROP USER IF EXISTS looking@'%%'")
        connection.exec_driver_sql("CREATE USER looking@'%%' IDENTIFIED BY 'z'")
        for rights, table in (*some.items(), *every):
            connection.exec_driver_sql(f"GRANT {rights} ON ispyb.{table} TO looking@'%%'")
    database = Facility(ispyb.url.set(username="looking", password="z"))
    _, found = LookUp(database.reading, {}).fill({}, {"ispyb_process": job})
    database.close()
    assert found["ispyb_energy_scan_info"]
    assert found["ispyb_ssx_events"]


@contextmanager
def of_another_schema(ispyb: Database, kept: Callable[[sa.Column], bool]) -> Iterator[Facility]:
    """Yield a database with the same rows, whose tables have only some of the columns."""
    wanted = {model.__table__ for model in (*columns.ALL, *columns.SOME)}
    with ispyb.engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE other")
        try:
            for table in wanted:
                names = ", ".join(f"`{each.name}`" for each in table.columns if kept(each))
                made = f"CREATE TABLE other.{table.name} SELECT {names} FROM ispyb.{table.name}"
                connection.exec_driver_sql(made)
            facility = Facility(ispyb.url.set(database="other"))
            yield facility
            facility.close()
        finally:
            connection.exec_driver_sql("DROP DATABASE other")


def test_columns_that_the_database_lacks_are_null_and_told_once(
    ispyb: Database, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    linked(ispyb, collected)
    ispyb.insert("GridInfo", dataCollectionGroupId=collected.group, steps_x=3)
    job = ispyb.insert("ProcessingJob", dataCollectionId=collected.collection)
    with of_another_schema(ispyb, columns._is_needed) as facility:
        look_up = LookUp(facility.reading, {})
        for request in ({"ispyb_process": job}, {"ispyb_dcid": collected.collection}):
            _, found = look_up.fill({}, request)
    assert found["ispyb_visit"] == "cm12345-1"
    assert str(found["ispyb_image"]).endswith("/thau/thau_1_00001.cbf:1:1800")
    assert found["ispyb_beamline"] is found["ispyb_energy_scan_info"].get("fp") is None
    assert found["ispyb_dc_info"].keys() >= {"comments", "wavelength"}
    assert found["ispyb_dc_info"]["wavelength"] is None
    [told] = [each.getMessage() for each in caplog.records if each.name == LOG]
    assert "BLSample.SMILES, " in told
    assert "DataCollection.wavelength, " in told
    assert "runStatus" not in told


def test_one_column_that_is_lacking_changes_what_it_holds_alone(
    ispyb: Database, collected: Collected
) -> None:
    linked(ispyb, collected)
    ispyb.insert("GridInfo", dataCollectionGroupId=collected.group, steps_x=3)
    lacked = {"Container.priorityPipelineId", "GridInfo.dataCollectionId", "BLSample.subLocation"}
    request = {"ispyb_dcid": collected.collection}
    with of_another_schema(ispyb, lambda _: True) as facility:
        _, before = LookUp(facility.reading, {}).fill({}, request)
    with of_another_schema(ispyb, lambda each: str(each) not in lacked) as facility:
        _, found = LookUp(facility.reading, {}).fill({}, request)
    changed = {name for name in before if before[name] != found[name]}
    assert changed == {"ispyb_preferred_processing", "ispyb_pin_info", "ispyb_msp_sample_ids"}
    assert found["ispyb_dc_info"]["gridinfo"]["steps_x"] == 3


def test_columns_are_asked_for_once(asking: Asking, ispyb: Database, collected: Collected) -> None:
    for _ in range(3):
        asking(ispyb_dcid=collected.collection)
    assert asking.inspected == 1


def test_column_that_goes_while_the_service_runs_holds_up_requests_once(
    ispyb: Database, collected: Collected
) -> None:
    clock, facility = ManualClock(), Facility(ispyb.url)
    look_up = LookUp(facility.reading, {}, clock=clock)
    request = {"ispyb_dcid": collected.collection}
    look_up.fill({}, request)
    with lacking(ispyb, "Detector", "detectorModel"):
        with pytest.raises(WaitingError, match="detectorModel"):
            look_up.fill({}, request)
        clock.move(60)
        _, found = look_up.fill({}, request)
    facility.close()
    assert found["ispyb_detectorclass"] == "pilatus"
