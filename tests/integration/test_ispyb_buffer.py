"""Rows can be named by numbers of the sender's own."""

import time

import pytest

from zwrap.errors import TemporaryError

from ..commanding import Commands

pytestmark = pytest.mark.slow


def test_numbers_of_the_sender_stand_for_rows(commands: Commands) -> None:
    program = commands.program()
    solution = commands(
        "buffer",
        {
            "program_id": program,
            "buffer_command": {"ispyb_command": "write_autoproc", "spacegroup": "P4"},
            "buffer_store": 12,
        },
    )
    assert commands.row("AutoProc") == {
        "autoProcId": solution,
        "autoProcProgramId": program,
        "spaceGroup": "P4",
        "recordTimeStamp": "now",
    }
    assert commands.row("zc_ZocaloBuffer") == {
        "AutoProcProgramID": program, "UUID": 12, "Reference": solution,
    }  # fmt: skip
    shells: dict[str, object] = {"overall": {}, "innerShell": {}, "outerShell": {}}
    given = {
        "program_id": program,
        "buffer_lookup": {"autoproc_id": "12"},
        "buffer_command": {"ispyb_command": "insert_scaling", **shells},
        "buffer_store": 12,
    }
    scaling = commands("buffer", given)
    assert commands.row("AutoProcScaling")["autoProcId"] == solution
    assert commands.row("zc_ZocaloBuffer")["Reference"] == scaling


def test_message_with_an_unknown_number_comes_again_for_ten_minutes(commands: Commands) -> None:
    now = time.time()
    given: dict[str, object] = {
        "program_id": commands.program(),
        "buffer_lookup": {"autoproc_id": 7},
        "buffer_command": {"ispyb_command": "insert_scaling"},
    }
    for further, options in (
        ({}, {}),
        ({}, {"first_s": now - 595}),
        ({"buffer_expiry_time": now + 5}, {"first_s": now - 1000}),
        ({"buffer_expiry_time": now - 5}, {"reinjected": True}),
    ):
        with pytest.raises(TemporaryError, match="has not stored yet") as failure:
            commands("buffer", {**given, **further}, **options)
        assert failure.value.retry_after_s == 20
    said = commands.refused("buffer", given, first_s=now - 601)
    assert "buffer_lookup.autoproc_id is 7, which program run" in said
    assert "has not stored in time" in said
    assert "in time" in commands.refused("buffer", {**given, "buffer_expiry_time": now - 5})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"buffer_command": None}, "buffer_command is missing; a mapping"),
        ({"buffer_command": {}}, "buffer_command.ispyb_command is missing"),
        ({"buffer_command": {"ispyb_command": "x"}}, "Unknown ISPyB command 'x'"),
        ({"buffer_command": {"ispyb_command": "buffer"}}, "is 'buffer'; another command is"),
        ({"buffer_command": {"ispyb_command": "multipart_message"}}, "cannot be inside another"),
        ({"buffer_lookup": [1]}, "buffer_lookup is [1]; a mapping"),
        ({"buffer_lookup": {"a": "x"}}, "buffer_lookup.a (zc_ZocaloBuffer.UUID) is 'x'; a whole"),
        ({"program_id": None, "buffer_lookup": {"a": 1}}, "program_id (zc_ZocaloBuffer.AutoProcPr"),
        ({"buffer_store": "x"}, "buffer_store (zc_ZocaloBuffer.UUID) is 'x'; a whole number"),
    ],
)
def test_wrong_use_of_the_buffer_is_refused(
    commands: Commands, changes: dict[str, object], said: str
) -> None:
    given: dict[str, object] = {
        "program_id": commands.program(), "buffer_command": {"ispyb_command": "write_autoproc"},
    }  # fmt: skip
    assert said in commands.refused("buffer", {**given, **changes})
