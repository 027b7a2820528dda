"""What shipped definitions and parsers send to the ISPyB service is what its commands take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.ispyb import Scaling, Solution, command_list, refined
from zwrap.program.parsers.table import parse
from zwrap.program.reading import INLINE_PROGRAM, program_names, read_definition
from zwrap.service.ispyb.commands.table import COMMANDS

DATA = Path(__file__).parents[1] / "data"
NAMES = [name for name in program_names() if name != INLINE_PROGRAM]
BY_STEP = {"fast_ep": "insert_phasing_analysis_results", "metal_id": "insert_metal_id_result"}
"""Definition whose message has no command, as those of Diamond's classes, to that of its step."""


def commands_in(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield the commands in a payload, or in a part of one."""
    if isinstance(value, Mapping):
        if "ispyb_command" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from commands_in(each)


def names_in(value: object, at: str = "") -> Iterator[str]:
    """Yield the names of parameters, with those of mappings and lists before them."""
    if isinstance(value, Mapping) and "then" in value:
        yield from names_in(value["then"], f"{at}[]")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from names_in(each, f"{at}.{name}" if at else name)
    else:
        yield at


def unread(command: Mapping[str, Any], name: str) -> set[str]:
    known = set(COMMANDS[name].fields)
    for shell in ("overall", "innerShell", "outerShell"):
        known |= {field.replace("SHELL", shell) for field in known}
    return set(names_in(command)) - known - {"ispyb_command", "store_result"}


@pytest.mark.parametrize("name", NAMES)
def test_messages_of_a_definition_are_read_whole(name: str) -> None:
    definition = read_definition(SHIPPED_PROGRAMS / f"{name}.yaml")
    found = list(commands_in(definition.messages))
    assert [each["ispyb_command"] for each in found if each["ispyb_command"] not in COMMANDS] == []
    assert [each for each in found if unread(each, each["ispyb_command"])] == []
    if name in BY_STEP:
        payload: Any = definition.messages["ispyb"]
        while "if" in payload:
            payload = payload["then"]
        if name == "fast_ep":
            payload = {"scaling_id": payload["scaling_id"]}  # the rest is fast_ep's own document
        assert unread(payload, BY_STEP[name]) == set()


@pytest.mark.parametrize(
    ("parser", "file"),
    [
        ("xia2", "xia2/v3.12.0/success_insulin_sad/xia2.json"),
        ("fast_dp", "fast_dp/fast_dp.json"),
        ("ispyb-xml", "autoPROC/autoPROC_staraniso.xml"),
    ],
)
def test_command_lists_of_parsers_are_read_whole(parser: str, file: str) -> None:
    log = DATA / file
    options = {"log": log.with_name("xia2.txt")} if parser == "xia2" else {}
    sent: Any = parse(parser, log, options)
    assert [
        each for each in sent["ispyb_command_list"] if unread(each, each["ispyb_command"])
    ] == []


def test_all_that_a_command_list_may_hold_is_read() -> None:
    solution = Solution(refined("P 1", [1.0] * 6), [Scaling({"overall": {}}, [{}])])
    message = {"level": 2, "text": "t", "summary": "s"}
    attachment = {"file_name": "f", "file_path": "/", "file_type": "log"}
    sent = command_list([solution], [message], [attachment], "second")["ispyb_command_list"]
    assert [each for each in sent if unread(each, str(each["ispyb_command"]))] == []
    assert len({each["ispyb_command"] for each in sent}) == 7
