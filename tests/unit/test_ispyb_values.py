"""Values are checked by the types of ISPyB's columns before they are sent to the database."""

import math
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from zwrap.errors import MessageError
from zwrap.service.ispyb.commands.table import COMMANDS, MICROSCOPY, command
from zwrap.service.ispyb.values import FREE_TEXT, checked
from zwrap.service.ispyb.writing import column_of

TIME = "AutoProcProgram.processingEndTime"
at = datetime.fromisoformat


def check(name: str, value: object) -> object:
    return checked(column_of(name), value, "Command 'c': f")


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("AutoProc.autoProcProgramId", 7, 7),
        ("AutoProc.autoProcProgramId", " 7", 7),
        ("AutoProc.autoProcProgramId", 7.0, 7),
        ("AutoProc.autoProcProgramId", "7.0", 7),
        ("AutoProc.autoProcProgramId", 2**32 - 1, 2**32 - 1),
        ("AutoProcIntegration.anomalous", True, 1),
        ("AutoProc.refinedCell_a", "57.9", 57.9),
        ("AutoProc.refinedCell_a", 57, 57.0),
        ("AutoProc.refinedCell_a", "-1e-3", -0.001),
        ("AutoProc.spaceGroup", "P 41 21 2", "P 41 21 2"),
        ("AutoProc.spaceGroup", 96, "96"),
        ("AutoProc.spaceGroup", None, None),
        ("ProcessingJobParameter.parameterValue", True, "1"),
        ("ImageQualityIndicators.dozor_score", 1e300, 1e300),
        ("AutoProcProgramAttachment.fileType", "log", "Log"),
        ("AutoProcProgramMessage.severity", "warning", "WARNING"),
        (TIME, "2026-11-29 01:20:38", at("2026-11-29 01:20:38")),
        (TIME, "2026-11-29T01:20:38.75", at("2026-11-29 01:20:38")),
        (TIME, "2026/3/9 1:02", at("2026-03-09 01:02")),
        (TIME, "2026-11-29", at("2026-11-29")),
    ],
)  # fmt: skip
def test_value_is_sent_as_its_column_has_it(name: str, value: object, taken: object) -> None:
    assert check(name, value) == taken
    assert type(check(name, value)) is type(taken)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AutoProc.autoProcProgramId", "7a", "is '7a'; a whole number is expected"),
        ("AutoProc.autoProcProgramId", "", "is ''; a whole number is expected"),
        ("AutoProc.autoProcProgramId", 7.5, "is 7.5; a whole number is expected"),
        ("AutoProc.autoProcProgramId", True, "is True; a whole number is expected"),
        ("AutoProc.autoProcProgramId", [7], "is [7]; a whole number is expected"),
        ("AutoProc.autoProcProgramId", 2**32, "from -2147483648 to 4294967295 is expected"),
        ("AutoProc.autoProcProgramId", "$ispyb_x", "no earlier command stored a result"),
        pytest.param(
            "AutoProc.autoProcProgramId", "9" * 5000, "a whole number is expected", id="long text"
        ),
        pytest.param(
            "AutoProc.autoProcProgramId", 10**5000, "from -2147483648 to 4294967295", id="large"
        ),
        ("AutoProc.autoProcProgramId", math.nan, "the database holds no such number"),
        ("AutoProcProgramAttachment.importanceRank", 256, "from -128 to 255 is expected"),
        ("AutoProc.refinedCell_a", math.nan, "is nan; the database holds no such number"),
        ("AutoProc.refinedCell_a", math.inf, "is inf; the database holds no such number"),
        ("AutoProc.refinedCell_a", "NaN", "is 'NaN'; a number is expected"),
        ("AutoProc.refinedCell_a", "1_0", "is '1_0'; a number is expected"),
        ("AutoProc.refinedCell_a", 1e39, "a number of 32 bits is expected"),
        ("AutoProc.refinedCell_a", "1e999", "a number of 32 bits is expected"),
        ("ImageQualityIndicators.dozor_score", 10**400, "a number of 64 bits is expected"),
        ("AutoProc.refinedCell_a", True, "is True; a number is expected"),
        ("AutoProc.spaceGroup", "P" * 46, "it has 46 characters, and at most 45 are accepted"),
        ("AutoProc.spaceGroup", ["P"], "is ['P']; a text is expected"),
        ("AutoProc.spaceGroup", "P\ud800", "half characters"),
        ("AutoProcProgramAttachment.fileName", "x" * 256, "it has 256 characters"),
        ("AutoProcProgramMessage.severity", "FATAL", "one of 'ERROR', 'WARNING', 'INFO' is"),
        (TIME, "yesterday", "a date and time such as"),
        (TIME, "2026-02-30", "a date and time such as"),
        (TIME, 1e300, "a date and time such as"),
    ],
)  # fmt: skip
def test_other_value_is_refused_with_parameter_column_and_what_is_accepted(
    name: str, value: object, said: str
) -> None:
    with pytest.raises(MessageError) as failure:
        check(name, value)
    told = str(failure.value)
    assert told.startswith(f"Command 'c': f ({name}) is ")
    assert said in told
    assert len(told) < 300


@pytest.fixture
def summer_in_london(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("value", ["2026-07-01T12:00:00Z", "2026-07-01 14:00:00+02:00", 1782907200])
def test_time_with_an_offset_becomes_that_of_the_local_clock(
    summer_in_london: None, value: object
) -> None:
    assert check(TIME, value) == at("2026-07-01 13:00")


def test_text_for_people_is_cut_to_its_column_with_an_ellipsis() -> None:
    message = check("AutoProcProgramMessage.message", "ä" * 201)
    assert message == "ä" * 197 + "..."
    description = check("AutoProcProgramMessage.description", "ä" * 40_000)  # 80 000 bytes
    assert isinstance(description, str)
    assert description.endswith("ä...")
    assert 65_530 <= len(description.encode()) <= 65_535


def test_fields_name_columns_that_are_there_and_have_checks() -> None:
    columns = {each.column for one in COMMANDS.values() for each in one.fields.values()}
    for name in sorted((columns | FREE_TEXT) - {""}):
        assert checked(column_of(name), None, name) is None
        with pytest.raises(MessageError):  # a list fits into no column
            checked(column_of(name), [[]], name)


def test_all_commands_of_the_mx_service_are_taken() -> None:
    assert set(COMMANDS) == {
        "add_datacollection_attachment",
        "add_program_attachment",
        "add_program_message",
        "buffer",
        "create_ispyb_job",
        "insert_data_collection",
        "insert_data_collection_group",
        "insert_dimple_result",
        "insert_dimple_results",
        "insert_metal_id_result",
        "insert_mxmr_run",
        "insert_mxmr_run_blob",
        "insert_pdb_files",
        "insert_phasing_analysis_results",
        "insert_scaling",
        "insert_screening",
        "insert_screening_input",
        "insert_screening_output",
        "insert_screening_output_lattice",
        "insert_screening_strategy",
        "insert_screening_strategy_sub_wedge",
        "insert_screening_strategy_wedge",
        "insert_xray_centring",
        "register_integration",
        "register_processing",
        "retrieve_program_attachments_for_program_id",
        "retrieve_programs_for_job_id",
        "retrieve_proposal_title",
        "store_dimple_failure",
        "store_per_image_analysis_results",
        "update_processing_status",
        "update_program_name",
        "upsert_data_collection_mx",
        "upsert_integration",
        "write_autoproc",
    }


def test_unknown_command_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(MessageError, match="Did you mean 'insert_scaling'"):
        command("insert_scalings")
    for name in MICROSCOPY:
        with pytest.raises(MessageError, match=f"{name} is of electron microscopy, and not taken"):
            command(name)
