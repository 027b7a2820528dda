"""What the Dispatcher's look-up makes of rows, and how it waits for a database that is away."""

from __future__ import annotations

import datetime as dt
import decimal
import re
from contextlib import contextmanager
from pathlib import Path

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, OutageError, WaitingError
from zwrap.message.limits import DEFAULTS
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.ispyb.checks import checks
from zwrap.service.ispyb.lookup import images
from zwrap.service.ispyb.lookup.energy import EV_ANGSTROM, scan_info
from zwrap.service.ispyb.lookup.fields import kinds, of_collection, of_job, visit_directory
from zwrap.service.ispyb.lookup.filter import LookUp
from zwrap.service.ispyb.lookup.found import Collection, Job, as_json
from zwrap.service.ispyb.lookup.templates import fill_templates
from zwrap.transport.memory import MemoryTransport

from .clock import ManualClock

ROW = {
    "dataCollectionId": 7, "dataCollectionGroupId": 3, "BLSAMPLEID": None, "runStatus": None,
    "imageDirectory": "/dls/i03/data/2016/cm14451-4/tmp/fake/", "fileTemplate": "TRP_4_####.cbf",
    "imagePrefix": "TRP_M1S6", "dataCollectionNumber": 4, "startImageNumber": 1,
    "numberOfImages": 1800, "overlap": 0.0, "axisRange": 0.1, "wavelength": 0.979493,
}  # fmt: skip


def collection(
    experiment_type: str | None = None, grid: object = None, **row: object
) -> Collection:
    return Collection({**ROW, **row}, experiment_type=experiment_type, grid=dict(grid or {}))


# -- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "pattern", "path"),
    [
        ("x_1_####.cbf", "x_1_%04d.cbf", "/d/x_1_0030.cbf"),
        ("50%_####.cbf", "50%%_%04d.cbf", "/d/50%_0030.cbf"),
        ("x_1_%05d.edf", "x_1_%05d.edf", "/d/x_1_00030.edf"),
        ("x_1_master.h5", "x_1_master.h5", "/d/x_1_master.h5"),
        ("50%_master.h5", "50%_master.h5", "/d/50%_master.h5"),
        ("Frames/*.tiff", "Frames/*.tiff", "/d/Frames/*.tiff"),
    ],
)
def test_images_are_named_by_their_template(template: str, pattern: str, path: str) -> None:
    row = {"imageDirectory": "/d/", "fileTemplate": template}
    assert images.pattern(template) == pattern
    assert images.image(row, 30) == path
    assert images.sweep(row, 30, 99) == f"{path}:30:99"
    assert images.image(row, None) == (None if path.find("30") > 0 else path)


def test_what_is_not_known_names_no_images() -> None:
    for row in ({"imageDirectory": None, "fileTemplate": "x.h5"}, {"imageDirectory": "/d"}):
        assert images.image(row, 1) is None
        assert images.sweep(row, 1, 2) is None
    row = {"imageDirectory": "/d", "fileTemplate": "x.h5"}
    assert images.sweep(row, None, 2) is images.sweep(row, 1, None) is None
    assert images.first_and_last({"startImageNumber": 0, "numberOfImages": 100}) == (0, 99)
    assert images.first_and_last({"startImageNumber": 5, "numberOfImages": None}) == (5, None)
    assert images.sweep({**row, "fileTemplate": "x_##.h5"}, 0, 9) == "/d/x_00.h5:0:9"


# -- a data collection -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "true"),
    [
        ({}, {"rotation"}),
        ({"axisRange": 0, "grid": {"steps_x": 2}}, {"grid"}),
        ({"axisRange": 0, "numberOfImages": 1}, {"screen"}),
        ({"numberOfImages": 3, "overlap": -44.5}, {"screen"}),
        ({"axisRange": 0, "experiment_type": "Serial Fixed"}, {"serial_fixed"}),
        ({"axisRange": 0, "experiment_type": "Serial Jet"}, {"serial_jet"}),
        ({"experiment_type": "Characterization"}, {"rotation", "characterization"}),
        (
            {"experiment_type": "Diamond Anvil High Pressure"},
            {"rotation", "diamond_anvil_cell"},
        ),
    ],
)
def test_kind_of_a_data_collection(given: dict[str, object], true: set[str]) -> None:
    assert {name for name, value in kinds(collection(**given)).items() if value} == true


def test_kind_that_the_database_does_not_tell_is_null() -> None:
    found = kinds(collection(overlap=None, numberOfImages=None))
    assert found["rotation"] is found["screen"] is None


def test_other_rotation_scans_of_the_group_are_further_images() -> None:
    still = {**ROW, "dataCollectionId": 9, "axisRange": 0}
    group = [ROW, {**ROW, "dataCollectionId": 8, "fileTemplate": "TRP_3_####.cbf"}, still]
    found = of_collection(Collection(ROW, group=group))
    assert found["ispyb_images"] == ("/dls/i03/data/2016/cm14451-4/tmp/fake/TRP_3_0001.cbf:1:1800")
    assert found["ispyb_dcg_dcids"] == [8, 9]
    assert found["ispyb_related_sweeps"] == [[7, 1, 1800], [8, 1, 1800], [9, 1, 1800]]
    assert (
        of_collection(Collection({**ROW, "numberOfImages": 1}, group=group))["ispyb_images"] == ""
    )


def test_visit_directory_is_the_part_that_ends_with_the_visit() -> None:
    directory = "/dls/i03/data/2016/cm14451-4/tmp/fake/"
    assert visit_directory(directory, "cm14451-4") == "/dls/i03/data/2016/cm14451-4"
    assert visit_directory("/data/CM14451-4", "cm14451-4") == "/data/CM14451-4"
    assert visit_directory(directory, "cm14451-44") is None
    assert visit_directory("", None) is None


def test_crystal_has_a_name_that_xia2_takes() -> None:
    assert of_collection(collection())["ispyb_crystal"] == "xTRPM1S64"
    assert of_collection(collection(imagePrefix=None))["ispyb_crystal"] == "DEFAULT"


def test_cell_of_which_a_length_is_missing_is_false() -> None:
    crystal = {"spaceGroup": "P212121", "cell_a": 68.0, "cell_b": 84.0, "cell_c": 89.0,
               "cell_alpha": 90.0, "cell_beta": 90.0}  # fmt: skip

    def cell(**more: object) -> tuple[object, object]:
        found = of_collection(Collection(ROW, crystal={**crystal, **more}))
        return found["ispyb_space_group"], found["ispyb_unit_cell"]

    assert cell(cell_gamma=90.0) == ("P212121", [68.0, 84.0, 89.0, 90.0, 90.0, 90.0])
    assert cell() == ("P212121", False)
    assert cell(spaceGroup=None) == (None, None)


@pytest.mark.parametrize(
    ("offset", "place", "values"),
    [
        (0.0, "peak", {"fp": -7.0, "fpp": 5.0}),
        (-9.0, "infl", {"fp": -10.0, "fpp": 3.0}),
        (40.0, "hrem", {}),
        (-50.0, "lrem", {}),
    ],
)
def test_energy_scan_says_where_the_wavelength_is(
    offset: float, place: str, values: dict[str, float]
) -> None:
    scan = {
        "energyScanId": 1, "blSampleId": 5, "element": "Se", "peakEnergy": 12660.0,
        "inflectionEnergy": 12650.0, "peakFPrime": -7.0, "peakFDoublePrime": 5.0,
        "inflectionFPrime": -10.0, "inflectionFDoublePrime": 3.0,
    }  # fmt: skip
    found = scan_info([scan], EV_ANGSTROM / (12660.0 + offset), sample=5)
    assert found == {"energyscanid": 1, "atom_type": "Se", "edge_position": place, **values}


def test_energy_scans_of_the_sample_go_first() -> None:
    rows = [
        {"energyScanId": each, "blSampleId": each, "element": "Se", "peakEnergy": energy,
         "inflectionEnergy": energy, "peakFPrime": None, "peakFDoublePrime": None}
        for each, energy in ((1, 12660.0), (2, 13000.0), (3, None))
    ]  # fmt: skip
    wavelength = EV_ANGSTROM / 12660.0
    assert scan_info(rows, wavelength, sample=2)["energyscanid"] == 2
    assert scan_info(rows, wavelength, sample=3)["energyscanid"] == 1
    assert scan_info(rows, None, sample=2) == scan_info([], wavelength, sample=2) == {}


ASKED = """
beamline crystal dc_info dcg_dcids dcg_experiment_type dcid diffraction_plan image image_first
image_last image_pattern images pdb preferred_datacentre process project protein_info related_dcids
reprocessing_parameters results_directory smiles space_group visit_directory working_directory
"""
"""Parameters that public recipes ask for, without `ispyb_`. Sources: recipe "xia2 and the DIALS
pipeline" of Diamond, python-zocalo-examples, cryoem-services, documentation of python-dlstbx."""

OF_SITE = {"preferred_datacentre", "results_directory", "working_directory"}
OF_REQUEST = {"dcid", "process"}


def test_every_parameter_that_public_recipes_ask_for_is_filled_in() -> None:
    found = {**of_collection(collection()), **of_job(Job({}, [], []))}
    known = {name.removeprefix("ispyb_") for name in found}
    assert set(ASKED.split()) - known == OF_SITE | OF_REQUEST


def test_page_names_every_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ispyb.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `ispyb_")]
    told = {name for row in rows for name in re.findall(r"`(ispyb_\w+)`", row.split("|")[1])}
    found = {**of_collection(collection()), **of_job(Job({}, [], []))}
    assert told == {*found, "ispyb_dcid"}


# -- a processing job --------------------------------------------------------------------------

SWEEP = {"startImage": 1, "endImage": 900, "dataCollectionId": 7,
         "imageDirectory": "/d", "fileTemplate": "x_####.cbf"}  # fmt: skip


def test_parameters_of_a_processing_job_keep_all_their_values() -> None:
    job = Job(
        {"processingJobId": 4, "dataCollectionId": 7, "recipe": "xia2"},
        [("d_min", "1.8"), ("absorption", "high"), ("d_min", "2.0")],
        [SWEEP, {**SWEEP, "fileTemplate": "y.h5"}],
    )
    found = of_job(job)
    assert found["ispyb_processing_parameters"] == {"d_min": ["1.8", "2.0"], "absorption": ["high"]}
    assert found["ispyb_parameters"] == found["ispyb_processing_parameters"]
    assert found["ispyb_reprocessing_parameters"] == {"d_min": "2.0", "absorption": "high"}
    assert found["ispyb_images"] == "/d/x_0001.cbf:1:900,/d/y.h5:1:900"


def test_sweep_that_names_no_images_is_told() -> None:
    job = Job({"processingJobId": 4}, [], [{**SWEEP, "fileTemplate": None}])
    with pytest.raises(MessageError, match="job 4 has a sweep of data collection 7, for which"):
        of_job(job)


def test_values_of_columns_are_those_of_json() -> None:
    assert as_json(dt.datetime(2016, 10, 7, 11, 47, 13)) == "2016-10-07T11:47:13"  # noqa: DTZ001
    assert as_json(dt.date(2016, 10, 7)) == "2016-10-07"
    assert as_json(decimal.Decimal("1.5")) == 1.5
    assert as_json(b"abc") == "abc"
    assert as_json(None) is None


# -- directories -------------------------------------------------------------------------------

KNOWN = {
    "ispyb_visit": "cm14451-4", "ispyb_beamline": "i03", "guid": "G",
    "ispyb_visit_directory": "/dls/i03/data/2016/cm14451-4", "ispyb_dc_info": ROW,
}  # fmt: skip


def filled(template: str, **more: object) -> object:
    parameters: dict[str, object] = {**KNOWN, **more}
    fill_templates({"ispyb_x": template}, parameters, 2016, DEFAULTS)
    return parameters["ispyb_x"]


def test_directories_are_those_of_the_site() -> None:
    assert filled("{ispyb_visit_directory}/tmp/zocalo/{below_visit}/{collection}/{guid}") == (
        "/dls/i03/data/2016/cm14451-4/tmp/zocalo/tmp/fake/TRP_M1S6_4/G"
    )
    assert filled("/data/{ispyb_beamline}/{year}/{ispyb_visit}/") == "/data/i03/2016/cm14451-4"
    assert filled("{ispyb_dc_info[imagePrefix]}//{collection}") == "TRP_M1S6//TRP_M1S6_4"
    bare = {**ROW, "imagePrefix": None, "dataCollectionNumber": None}
    assert filled("/work/{collection}/{guid}", ispyb_dc_info=bare) == "/work/G"
    elsewhere = {**ROW, "imageDirectory": "/other/raw"}
    assert filled("/work/{below_visit}", ispyb_dc_info=elsewhere) == "/work/other/raw"


def test_later_templates_use_earlier_ones() -> None:
    parameters: dict[str, object] = dict(KNOWN)
    templates = {
        "ispyb_visit_directory": "/v/{ispyb_visit}",
        "ispyb_d": "{ispyb_visit_directory}/x",
    }
    fill_templates(templates, parameters, None, DEFAULTS)
    assert parameters["ispyb_d"] == "/v/cm14451-4/x"


def test_template_that_asks_for_what_is_not_known_gives_none() -> None:
    assert filled("/data/{ispyb_visit}", ispyb_visit=None) is None
    assert filled("/data/{ispyb_dc_info[wavelength]}", ispyb_dc_info={"wavelength": None}) is None
    assert filled("/data/{misspelt}") is None


# -- the filter --------------------------------------------------------------------------------


class Away:
    """A database that is away until it is told otherwise, and what was asked of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = OutageError("The database is away.")

    @contextmanager
    def __call__(self):
        self.asked += 1
        if self.error:
            raise self.error
        yield None


def test_request_without_an_id_is_untouched_whatever_is_away() -> None:
    away = Away()
    look_up = LookUp(away, {"ispyb_working_directory": "/x"})
    for parameters in ({}, {"guid": "1", "x": 2}, {"ispyb_dcid": None}, {"ispyb_process": 0}):
        message = {"recipes": ["a"]}
        assert look_up.fill(message, parameters) == (message, parameters)
        assert look_up.is_ready(message, parameters)
    assert away.asked == 0


def test_database_that_is_away_is_temporary_for_the_request_and_not_asked_for_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away, clock = Away(), ManualClock()
    look_up = LookUp(away, {}, clock=clock)

    def waits() -> float:
        with pytest.raises(WaitingError, match=r"^The database is away") as raised:
            look_up.fill({}, {"ispyb_dcid": 7})
        assert not isinstance(raised.value, OutageError), "other requests go on"
        assert raised.value.retry_after_s is not None
        return raised.value.retry_after_s

    assert [waits(), waits()] == [5.0, 5.0]
    assert away.asked == 1
    clock.now += 5.0
    assert waits() == 10.0
    clock.now += 4.0
    assert waits() == 6.0
    assert away.asked == 2
    away.error = MessageError("SELECT is denied.")  # on a table; no fault of the request
    clock.now += 6.0
    with pytest.raises(WaitingError, match="SELECT is denied"):
        look_up.fill({}, {"ispyb_dcid": 7})
    assert [line.getMessage() for line in caplog.records] == [
        "Requests that name data wait until this is over: The database is away."
    ]


@pytest.mark.parametrize("wrong", ["x", "", 0, -1, True, 1.5, [7], "1" * 11, 2**32, "٣"])
def test_id_that_is_none_is_told(wrong: object) -> None:
    with pytest.raises(
        MessageError, match=r"^Parameter 'ispyb_dcid' of the request is .* expected"
    ):
        LookUp(Away(), {}).fill({}, {"ispyb_dcid": wrong})


LOOKING = """
version: 1
db: {plugin: ispyb, look_up: true}
environments: {default: [db]}
"""


@pytest.mark.parametrize(
    ("installed", "told"),
    [(True, "The database of ISPyB is not described"), (False, r"pip install 'zwrap\[ispyb\]'")],
)
def test_dispatcher_that_cannot_look_up_does_not_start(
    installed: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISPYB_CREDENTIALS", raising=False)
    if not installed:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    configuration = Configuration.from_string(LOOKING).activate()
    with pytest.raises(ConfigurationError, match=told):
        Dispatcher(configuration, MemoryTransport())


def test_check_tells_what_to_install_even_where_the_driver_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ISPYB_CREDENTIALS", "/not/read.cfg")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    configuration = Configuration.from_string(LOOKING).activate()
    with pytest.raises(ConfigurationError, match=r"pip install 'zwrap\[ispyb\]'"):
        list(checks(configuration))
