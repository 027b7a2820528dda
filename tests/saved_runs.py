"""Saved runs of real programs as messages for ISPyB, each of which tells its number in a row."""

from __future__ import annotations

import copy
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zwrap.program.parsers.table import parse

DATA = Path(__file__).parent / "data"
XIA2 = DATA / "xia2/v3.12.0/success_insulin_sad"

ROWS: dict[str, dict[str, int]] = {
    "register_processing": {"AutoProcProgram": 1},
    "write_autoproc": {"AutoProc": 1},
    "insert_scaling": {"AutoProcScaling": 1, "AutoProcScalingStatistics": 3},
    "upsert_integration": {"AutoProcIntegration": 1, "AutoProcScaling_has_Int": 1},
    "add_program_message": {"AutoProcProgramMessage": 1},
    "add_program_attachment": {"AutoProcProgramAttachment": 1},
    "update_processing_status": {},
}
"""Command to the number of rows that it inserts, by table."""

QUEUE, ANSWERS = "ispyb_connector", "answers"

Commands = list[dict[str, Any]]


class SavedRuns:
    """Command lists of runs of xia2, fast_dp and autoPROC, in turn.

    Args:
        directory: Directory for the files that they attach.
        collection: Id of the data collection that they are about.
    """

    def __init__(self, directory: Path, collection: int) -> None:
        self._directory = directory
        self.collection = collection
        self._kinds = [
            self._ended("xia2", _xia2()),
            self._ended("fast_dp", _fast_dp()),
            _autoproc(directory),
        ]
        for command in itertools.chain(*self._kinds):
            if command["ispyb_command"] == "add_program_attachment":
                (directory / command["file_name"]).touch()
                command["file_path"] = str(directory)

    def commands(self, number: int) -> Commands:
        """Return the commands of a run; the first one registers it, with its number."""
        first, *others = copy.deepcopy(self._kinds[number % len(self._kinds)])
        return [{**first, "cmdline": f"run {number}"}, *others]

    def rows(self, number: int) -> Counter[str]:
        """Return the number of rows of a run, by table."""
        found: Counter[str] = Counter()
        for command in self.commands(number):
            found.update(ROWS[command["ispyb_command"]])
        return found

    def body(self, number: int) -> dict[str, Any]:
        """Return the recipe message of a run, the answer to which goes to queue `ANSWERS`."""
        parameters = {
            "ispyb_command": "multipart_message",
            "dcid": self.collection,
            "program_id": "$ispyb_autoprocprogram_id",
        }
        return {
            "environment": {"ID": f"run-{number}"},
            "payload": {"ispyb_command_list": self.commands(number)},
            "recipe": {
                "start": [[1, []]],
                "1": {"queue": QUEUE, "parameters": parameters, "output": {"output": 2}},
                "2": {"queue": ANSWERS},
            },
            "recipe-path": [],
            "recipe-pointer": 1,
        }

    @staticmethod
    def _ended(program: str, commands: Commands) -> Commands:
        """Return the commands of a run between its registration and its end."""
        record = {"program_id": "$ispyb_autoprocprogram_id"}
        began = {
            "ispyb_command": "register_processing", "program": program,
            "store_result": "ispyb_autoprocprogram_id",
        }  # fmt: skip
        ended = {
            "ispyb_command": "update_processing_status", "status": "success",
            "message": "processing successful",
        }  # fmt: skip
        return [began, *commands, {**ended, **record}]


def numbers(bodies: Iterator[dict[str, Any]]) -> list[int]:
    """Return the numbers of the runs that answers are about."""
    return [int(body["environment"]["ID"].removeprefix("run-")) for body in bodies]


def _xia2() -> Commands:
    sent: Any = parse("xia2", XIA2 / "xia2.json", {"report": XIA2 / "xia2-report.json"})
    return list(sent["ispyb_command_list"])


def _fast_dp() -> Commands:
    sent: Any = parse("fast_dp", DATA / "fast_dp/fast_dp.json", {})
    return list(sent["ispyb_command_list"])


def _autoproc(directory: Path) -> Commands:
    options = {
        "scaling": "last", "swap_beam": True, "program": "autoPROC+STARANISO", "attachments": True,
    }  # fmt: skip
    sent: Any = parse("ispyb-xml", staraniso(directory), options)
    return list(sent["ispyb_command_list"])


def staraniso(directory: Path) -> Path:
    """Write the document of a run of autoPROC, and the files that it names, into a directory."""
    saved = DATA / "autoPROC/autoPROC_staraniso.xml"
    text = re.sub("<filePath>[^<]+<", f"<filePath>{directory}<", saved.read_text())
    for name in re.findall("<fileName>([^<]+)<", text):
        (directory / name).touch()
    file = directory / saved.name
    file.write_text(text)
    return file
