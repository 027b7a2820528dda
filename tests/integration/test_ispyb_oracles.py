"""What our parsers make of saved runs becomes the rows that the programs' own files tell of."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.parsers.table import parse
from zwrap.program.reading import read_definition
from zwrap.wrapper.trial import Trial

from ..commanding import Commands, at
from ..saved_runs import staraniso

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[1] / "data"
XIA2 = DATA / "xia2/v3.12.0/success_insulin_sad"


def number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def compared(rows: list[dict[str, Any]], elements: list[ET.Element], **tolerance: float) -> int:
    """Compare rows with elements of ISPyB's XML, whose names are those of columns."""
    assert len(rows) == len(elements)
    count = 0
    for row, element in zip(rows, elements, strict=True):
        columns = {name.lower(): value for name, value in row.items()}
        for child in element:
            value = number((child.text or "").strip())
            found = columns.get(child.tag.lower())
            if isinstance(value, float) and found is not None:
                assert float(found) == pytest.approx(value, **tolerance), child.tag
                count += 1
    return count


def by_type(rows: list[Any], name: Any) -> list[Any]:
    return sorted(rows, key=name)


def test_rows_of_a_run_of_xia2(commands: Commands) -> None:
    program = commands.program()
    commands.environment["ispyb_autoprocprogram_id"] = program
    options = {"report": XIA2 / "xia2-report.json"}
    sent: Any = parse("xia2", XIA2 / "xia2.json", options)
    step = {"dcid": str(commands.ids.collection), "program_id": "$ispyb_autoprocprogram_id"}
    commands.carry_out(sent["ispyb_command_list"], step)

    solution = commands.row("AutoProc")
    assert solution["autoProcProgramId"] == program
    assert solution["spaceGroup"] == "I 2 3"
    assert solution["refinedCell_a"] == pytest.approx(78.1, abs=0.2)
    scaling = commands.row("AutoProcScaling")
    assert scaling["autoProcId"] == solution["autoProcId"]
    integration = commands.row("AutoProcIntegration")
    assert integration["dataCollectionId"] == commands.ids.collection
    assert integration["autoProcProgramId"] == program
    link = commands.row("AutoProcScaling_has_Int")
    assert link["autoProcIntegrationId"] == integration["autoProcIntegrationId"]
    assert link["autoProcScalingId"] == scaling["autoProcScalingId"]

    [container] = ET.parse(XIA2 / "ispyb.xml").iter("AutoProcScalingContainer")
    kind = "scalingStatisticsType"
    rows = by_type(commands.rows("AutoProcScalingStatistics"), lambda row: row[kind])
    assert [row[kind] for row in rows] == ["innerShell", "outerShell", "overall"]
    elements = list(container.iter("AutoProcScalingStatistics"))
    elements = by_type(elements, lambda each: each.findtext(kind))
    assert compared(rows, elements, rel=0.01, abs=0.001) == 3 * 16
    elements = list(container.iter("AutoProcIntegration"))
    assert compared([integration], elements, rel=1e-4) >= 9

    [*_, first] = json.loads((XIA2 / "xia2-report.json").read_text())["xtriage"]
    told = commands.rows("AutoProcProgramMessage")
    assert {row["autoProcProgramId"] for row in told} == {program}
    assert told[-1]["message"] == first["text"]
    assert told[-1]["description"] == first["summary"]
    assert told[-1]["severity"] == ("INFO", "WARNING", "ERROR")[first["level"]]


def test_rows_of_a_run_of_fast_dp(commands: Commands) -> None:
    commands.environment["ispyb_autoprocprogram_id"] = commands.program()
    sent: Any = parse("fast_dp", DATA / "fast_dp/fast_dp.json", {})
    saved = json.loads((DATA / "fast_dp/fast_dp.json").read_text())
    commands.carry_out(sent["ispyb_command_list"], {"dcid": commands.ids.collection})
    assert commands.row("AutoProc")["spaceGroup"] == saved["spacegroup"]
    cell = [commands.row("AutoProcIntegration")[f"cell_{axis}"] for axis in "abc"]
    assert cell == pytest.approx(saved["unit_cell"][:3])
    columns = {
        "n_tot_obs": "nTotalObservations", "r_merge": "rMerge", "cc_half": "ccHalf",
        "res_lim_high": "resolutionLimitHigh", "multiplicity": "multiplicity",
        "mean_i_sig_i": "meanIOverSigI", "anom_completeness": "anomalousCompleteness",
        "cc_anom": "ccAnomalous", "r_meas_all_iplusi_minus": "rMeasAllIPlusIMinus",
    }  # fmt: skip
    for row in commands.rows("AutoProcScalingStatistics"):
        statistics = saved["scaling_statistics"][row["scalingStatisticsType"]]
        for name in columns.keys() & statistics.keys():
            assert row[columns[name]] == pytest.approx(statistics[name], rel=1e-5), name
        assert len(columns.keys() & statistics.keys()) >= 6


def test_rows_of_a_run_of_autoproc_and_staraniso(commands: Commands, tmp_path: Path) -> None:
    file = staraniso(tmp_path)
    options = {
        "scaling": "last", "swap_beam": True, "program": "autoPROC+STARANISO", "attachments": True,
    }  # fmt: skip
    sent: Any = parse("ispyb-xml", file, options)
    commands.carry_out(sent["ispyb_command_list"], {"dcid": commands.ids.collection})
    document = ET.parse(file)

    program = commands.row("AutoProcProgram")
    assert program["processingPrograms"] == "autoPROC+STARANISO"
    assert program["processingPipelineId"] == 14
    assert program["processingStatus"] == 1
    assert program["processingMessage"] == "processing successful"
    solution = next(document.iter("AutoProc"))
    assert compared([commands.row("AutoProc")], [solution], rel=1e-5) == 6
    container = list(document.iter("AutoProcScalingContainer"))[-1]
    kind = "scalingStatisticsType"
    rows = by_type(commands.rows("AutoProcScalingStatistics"), lambda row: row[kind])
    elements = list(container.iter("AutoProcScalingStatistics"))
    elements = by_type(elements, lambda each: each.findtext(kind))
    assert compared(rows, elements, rel=1e-5) >= 3 * 14
    integration = commands.row("AutoProcIntegration")
    [element] = container.iter("AutoProcIntegration")
    x, y = (float(element.findtext(f"refined{axis}Beam", "")) for axis in "XY")
    assert (integration["refinedXBeam"], integration["refinedYBeam"]) == pytest.approx((y, x))
    for axis in ("refinedXBeam", "refinedYBeam"):
        element.remove(element.find(axis))
    assert compared([integration], [element], rel=1e-5) >= 15
    attached = [row["fileName"] for row in commands.rows("AutoProcProgramAttachment")]
    assert attached == [
        each.findtext("fileName") for each in document.iter("AutoProcProgramAttachment")
    ]


def test_rows_of_a_run_of_dimple(commands: Commands, elsewhere: Path, tmp_path: Path) -> None:
    shutil.copyfile(elsewhere / "dimple/dimple_blobs.log", tmp_path / "dimple.log")
    shutil.copyfile(DATA / "programs/dimple/08-find-blobs.log", tmp_path / "08-find-blobs.log")
    for name in ("final.mtz", "final.pdb"):
        (tmp_path / name).write_text("not looked at\n")
    definition = read_definition(SHIPPED_PROGRAMS / "dimple.yaml")
    definition.inputs["data"].file = False
    scaling = commands.scaling()
    parameters = {"dimple": {"data": ["a.mtz"], "pdb": ["a.pdb"], "scaling_id": [scaling]}}
    judged = Trial(definition, parameters, None, tmp_path, saved=True).judge(0)
    [record] = [each.message["payload"] for each in judged.messages if each.destination == "ispyb"]
    commands.carry_out([record], {})

    run = commands.row("MXMRRun")
    names = ("rValueStart", "rValueEnd", "rFreeValueStart", "rFreeValueEnd")
    assert [run[name] for name in names] == pytest.approx([0.4528, 0.4457, 0.4452, 0.4407])
    assert run["autoProcScalingId"] == scaling
    program = commands.rows("AutoProcProgram")[-1]
    assert run["autoProcProgramId"] == program["autoProcProgramId"]
    assert program["processingStartTime"] == at("2021-10-08 14:36:30")
    assert program["processingStatus"] == 1
    blobs = commands.rows("MXMRRunBlob")
    assert len(blobs) == 4
    assert [blobs[1][axis] for axis in "xyz"] == pytest.approx([-9.39, 36.17, 11.3])
    files = {row["fileName"]: row["fileType"] for row in commands.rows("AutoProcProgramAttachment")}
    assert files == {
        "final.mtz": "Result", "final.pdb": "Result", "dimple.log": "Log",
        "08-find-blobs.log": "Log",
    }  # fmt: skip
