"""Shipped definitions: each is sound, says where it comes from, and reads real output."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from zwrap.program.checks.references import complaints
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.keys.expectation import Expectation, disappointments
from zwrap.program.reading import INLINE_PROGRAM, program_names, read_definition
from zwrap.wrapper.trial import Trial

SAVED = Path(__file__).parents[1] / "data/programs"
NAMES = [name for name in program_names() if name != INLINE_PROGRAM]
EXPECTED: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (SAVED / "expectations.yaml").read_text()
)


@pytest.mark.parametrize("name", NAMES)
def test_each_definition_says_what_it_is_for_and_where_it_comes_from(name: str) -> None:
    file = SHIPPED_PROGRAMS / f"{name}.yaml"
    assert read_definition(file).description
    lines = file.read_text().splitlines()
    remarks = "\n".join(line for line in lines if line.startswith("#"))
    assert re.search(r"\bSource: ", remarks), f"{name}.yaml names no source in its remarks"


@pytest.mark.parametrize("name", NAMES)
def test_each_definition_names_only_what_there_is(name: str) -> None:
    definition = read_definition(SHIPPED_PROGRAMS / f"{name}.yaml")
    assert [fault.said for fault in complaints(definition)] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_input_is_described(name: str) -> None:
    inputs = read_definition(SHIPPED_PROGRAMS / f"{name}.yaml").inputs
    assert not [key for key, declared in inputs.items() if not declared.description]


@pytest.mark.parametrize(
    ("name", "case"), [(name, number) for name in EXPECTED for number in range(len(EXPECTED[name]))]
)
def test_saved_output_is_judged_and_read_as_expected(name: str, case: int, tmp_path: Path) -> None:
    given = dict(EXPECTED[name][case])
    written = given.pop("written")
    expected = msgspec.convert({"directory": name, **given}, Expectation)
    working = tmp_path / name
    shutil.copytree(SAVED / name, working)
    for file in written:
        (working / file).write_text("not looked at\n")
    definition = read_definition(SHIPPED_PROGRAMS / f"{name}.yaml")
    for value in definition.inputs.values():
        value.file = False  # input files are not among what was saved
    judged = Trial(definition, expected.job_parameters, None, working, saved=True).judge(
        expected.exit_status
    )
    outputs = {each.name: each.value for each in judged.outputs if not each.said}
    failed = bool(judged.failures)
    assert not disappointments(expected, failed=failed, cause="", outputs=outputs), judged


def test_the_log_of_a_real_dimple_becomes_a_record_for_ispyb(
    elsewhere: Path, tmp_path: Path
) -> None:
    shutil.copyfile(elsewhere / "dimple/dimple_blobs.log", tmp_path / "dimple.log")
    shutil.copyfile(SAVED / "dimple/08-find-blobs.log", tmp_path / "08-find-blobs.log")
    for file in ("final.mtz", "final.pdb", "blob1v1.png"):
        (tmp_path / file).write_text("not looked at\n")
    definition = read_definition(SHIPPED_PROGRAMS / "dimple.yaml")
    definition.inputs["data"].file = False
    parameters = {"dimple": {"data": ["a.mtz"], "pdb": ["a.pdb"], "scaling_id": [7]}}
    judged = Trial(definition, parameters, None, tmp_path, saved=True).judge(0)
    assert judged.failures == []
    [record] = [each.message["payload"] for each in judged.messages if each.destination == "ispyb"]
    assert record["mxmrrun"] == {
        "auto_proc_scaling_id": 7,
        "auto_proc_program_id": None,
        "rfree_start": 0.4452,
        "rfree_end": 0.4407,
        "rwork_start": 0.4528,
        "rwork_end": 0.4457,
    }
    assert len(record["blobs"]) == 4
    assert record["blobs"][1] == {
        "xyz": [-9.39, 36.17, 11.3],
        "height": 87.42,
        "map_type": "difference",
    }
    assert record["auto_proc_program"]["start_time"] == "2021-10-08 14:36:30"
    assert record["auto_proc_program"]["end_time"] > "2021-10-08 14:39"
    assert {each["file_name"]: each["importance_rank"] for each in record["attachments"]} == {
        "final.mtz": 1,
        "final.pdb": 1,
        "dimple.log": 2,
        "08-find-blobs.log": 2,
        "blob1v1.png": 2,
    }
