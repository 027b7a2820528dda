"""Commands about program runs write exactly their rows, and refuse others in one sentence."""

from collections.abc import Iterator

import pytest

from zwrap.errors import MessageError

from ..commanding import Commands, at
from ..database import Database, lacking

pytestmark = pytest.mark.slow


def test_program_is_registered(commands: Commands) -> None:
    job = commands.database.insert("ProcessingJob", dataCollectionId=commands.ids.collection)
    parameters = {
        "program": "autoPROC+STARANISO",
        "cmdline": "c" * 300,
        "environment": {"cpus": 4, "nodes": "n1"},
        "rpid": str(job),
    }
    number = commands("register_processing", parameters)
    assert commands.row("AutoProcProgram") == {
        "autoProcProgramId": number,
        "processingPrograms": "autoPROC+STARANISO",
        "processingCommandLine": "c" * 252 + "...",
        "processingEnvironment": "cpus=4, nodes=n1",
        "processingPipelineId": 14,
        "processingJobId": job,
        "recordTimeStamp": "now",
    }


@pytest.mark.parametrize(
    ("parameters", "pipeline"),
    [
        ({"program": "fast_dp"}, 3),
        ({"program": "big_ep", "upstream_source": "dials"}, 13),
        ({"program": "something else"}, None),
        ({}, None),
    ],
)
def test_pipeline_is_that_of_the_program(
    commands: Commands, parameters: dict[str, object], pipeline: int | None
) -> None:
    commands("register_processing", parameters)
    assert commands.row("AutoProcProgram").get("processingPipelineId") == pipeline
    assert commands.row("AutoProcProgram")["processingEnvironment"] == ""


@pytest.mark.parametrize("form", ["plain", "list", "environment"])
def test_parent_is_the_program_of_the_scaling(commands: Commands, form: str) -> None:
    scaling = commands.scaling()
    [parent] = commands.rows("AutoProcProgram")
    given: dict[str, object] = {
        "plain": {"scaling_id": str(scaling)},
        "list": {"scaling_id": [scaling]},
        "environment": {"environment": {"scaling_id": scaling}},
    }[form]
    commands("register_processing", {"program": "dimple", **given})
    assert (
        commands.rows("AutoProcProgram")[1]["parentAutoProcProgramId"]
        == (parent["autoProcProgramId"])
    )


def test_wrong_registrations_are_refused(commands: Commands) -> None:
    def said(**parameters: object) -> str:
        return commands.refused("register_processing", parameters)

    assert said(scaling_id=99) == (
        "Command 'register_processing': scaling_id (AutoProcScaling.autoProcScalingId) is 99, and "
        "there is no such row."
    )
    assert said(rpid="job") == (
        "Command 'register_processing': rpid (AutoProcProgram.processingJobId) is 'job'; a whole "
        "number is expected."
    )
    assert said(rpid=99) == (
        "Command 'register_processing': rpid (AutoProcProgram.processingJobId) is 99, and there is "
        "no such row in ProcessingJob.processingJobId."
    )
    assert "it has 256 characters, and at most 255 are accepted" in said(program="p" * 256)
    assert "environment (AutoProcProgram.processingEnvironment) is 7" not in said(environment=[7])


def test_status_is_kept_once_the_program_has_ended(commands: Commands) -> None:
    number = commands.program()

    def update(**parameters: object) -> dict[str, object]:
        given = {"program_id": number, **parameters}
        assert commands("update_processing_status", given) == number
        row = commands.row("AutoProcProgram")
        return {name[10:]: row.get(name) for name in row if name[10:] in (
            "Status", "Message", "StartTime", "EndTime")}  # fmt: skip

    running = {"Message": "running", "StartTime": "now", "EndTime": "now"}
    assert update(message="running") == running
    assert update(status="running") == running
    later = {**running, "EndTime": at("2036-11-29 12:00:00")}
    assert update(update_time="2036-11-29T12:00:00") == later
    assert update(update_time="2036-11-29T11:00:00", message="overtaken") == later
    ended = {"Message": "m" * 252 + "...", "StartTime": "now", "EndTime": "now", "Status": 0}
    assert update(status="failure", message="m" * 300) == ended
    assert update(status="success", message="no") == ended
    assert commands("update_program_name", {"program_id": number, "program": "x"}) == number
    assert commands.row("AutoProcProgram")["processingPrograms"] == "xia2 dials"


def test_start_time_is_set_once(commands: Commands) -> None:
    number = commands.program()
    times = {"start_time": "2026-01-01 10:00:00", "update_time": "2026-01-01 10:00:01"}
    commands("update_processing_status", {"program_id": number, **times})
    times = {"start_time": "2026-01-01 11:00:00", "update_time": "2026-01-01 11:00:01"}
    parameters = {"program_id": number, "status": "success", "message": "done", **times}
    commands("update_processing_status", parameters)
    row = commands.row("AutoProcProgram")
    assert row["processingStartTime"] == at("2026-01-01 10:00:00")
    assert row["processingEndTime"] == at("2026-01-01 11:00:01")
    assert row["processingStatus"] == 1


def test_program_gets_another_name(commands: Commands) -> None:
    number = commands.program()
    commands("update_program_name", {"program_id": number, "program": "xia2 3dii"})
    assert commands.row("AutoProcProgram") == {
        "autoProcProgramId": number,
        "processingPrograms": "xia2 3dii",
        "processingCommandLine": "xia2",
        "processingEnvironment": "",
        "processingPipelineId": 6,
        "processingStartTime": "now",
        "processingEndTime": "now",
        "recordTimeStamp": "now",
    }


@pytest.mark.parametrize("name", ["update_processing_status", "update_program_name"])
def test_state_of_an_unknown_program_is_refused(commands: Commands, name: str) -> None:
    column = "program_id (AutoProcProgram.autoProcProgramId)"
    assert commands.refused(name, {"program_id": 99}) == (
        f"Command {name!r}: {column} is 99, and there is no such row."
    )
    assert commands.refused(name, {}) == (
        f"Command {name!r}: {column} is missing: number of the program run."
    )
    assert "no earlier command stored a result of this name" in commands.refused(
        name, {"program_id": "$ispyb_autoprocprogram_id"}
    )
    if name == "update_processing_status":
        said = commands.refused(name, {"program_id": 1, "status": 1})
        assert "status is 1; 'success' or 'failure' is expected" in said


def test_column_that_an_older_database_lacks_costs_only_messages_that_fill_it(
    commands: Commands,
) -> None:
    program = commands("register_processing", {"program": "xia2"})
    message = {"program_id": program, "severity": "INFO", "message": "ok"}
    with lacking(commands.database, "AutoProcProgramMessage", "description"):
        commands("add_program_message", message)
        with pytest.raises(MessageError, match="error 1054, the schema of the site lacks a column"):
            commands("add_program_message", {**message, "description": "more"})
    [row] = commands.rows("AutoProcProgramMessage")
    assert (row["message"], row.get("description")) == ("ok", None)


def test_null_in_place_of_a_default_is_written(commands: Commands) -> None:
    commands("insert_data_collection", {"dcgid": commands.ids.group})
    assert commands.database.table("DataCollection").c.binning.server_default is not None
    assert commands.database.rows("DataCollection")[-1]["binning"] is None


def test_program_message(commands: Commands) -> None:
    commands.environment = {"ispyb_autoprocprogram_id": commands.program()}
    number = commands(
        "add_program_message",
        {
            "program_id": "$ispyb_autoprocprogram_id",
            "severity": "warning",
            "message": "m" * 201,
            "description": "two\nlines",
        },
    )
    assert commands.row("AutoProcProgramMessage") == {
        "autoProcProgramMessageId": number,
        "autoProcProgramId": commands.environment["ispyb_autoprocprogram_id"],
        "severity": "WARNING",
        "message": "m" * 197 + "...",
        "description": "two\nlines",
        "recordTimeStamp": "now",
    }
    said = commands.refused("add_program_message", {"program_id": 99, "severity": "INFO"})
    assert said == (
        "Command 'add_program_message': program_id (AutoProcProgramMessage.autoProcProgramId) is "
        "99, and there is no such row in AutoProcProgram.autoProcProgramId."
    )
    said = commands.refused("add_program_message", {"program_id": 99})
    assert said == (
        "Command 'add_program_message': severity (AutoProcProgramMessage.severity) is missing, and "
        "a value is expected."
    )


@pytest.fixture
def western(ispyb: Database) -> Iterator[None]:
    """Let tables have the character set that they have at Diamond."""
    tables = ("AutoProcProgramMessage", "AutoProc")

    def convert(charset: str) -> None:
        with ispyb.engine.connect() as connection:
            for table in tables:
                connection.exec_driver_sql(
                    f"ALTER TABLE {table} CONVERT TO CHARACTER SET {charset}"
                )

    convert("latin1")
    yield
    convert("utf8mb4")


def test_text_for_people_is_written_where_characters_are_not_taken(
    western: None, commands: Commands
) -> None:
    parameters = {"program_id": commands.program(), "severity": "INFO"}
    commands("add_program_message", {**parameters, "message": "\u03c3(I) ≥ 1.5 Å, 90°"})
    assert commands.row("AutoProcProgramMessage")["message"] == "?(I) ? 1.5 Å, 90°"
    said = commands.refused("write_autoproc", {"spacegroup": "P \u03c3"})
    assert said == (
        "Command 'write_autoproc': spacegroup (AutoProc.spaceGroup) is 'P \u03c3', with characters "
        "that the column cannot hold."
    )
