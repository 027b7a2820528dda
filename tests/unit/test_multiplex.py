"""Results of xia2.multiplex and dials.merge: ISPyB's commands, cell and space group of the MTZ."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import ProgramError
from zwrap.program.parsers.mtzheader import read_mtz_header
from zwrap.program.parsers.table import parse

SAVED = Path(__file__).parents[1] / "data/programs/xia2.multiplex"
RESULT = SAVED / "xia2.multiplex.json"
MTZ = SAVED / "scaled.mtz"


def commands(parser: str, file: Path, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parse(parser, file, options)["ispyb_command_list"]  # type: ignore[index]
    return found


def test_all_data_of_a_real_run_become_one_solution() -> None:
    autoproc, scaling, integration, *messages = commands("xia2.multiplex", RESULT, mtz=MTZ)
    assert autoproc["spacegroup"] == "P 21 21 21"
    assert (autoproc["refinedcell_a"], autoproc["refinedcell_gamma"]) == (5.428, 90.0)
    overall, inner, outer = (scaling[shell] for shell in ("overall", "innerShell", "outerShell"))
    assert overall["n_tot_obs"] == 11870
    assert overall["res_lim_high"] == pytest.approx(0.590, abs=5e-4)
    assert overall["res_lim_low"] == pytest.approx(6.746, abs=5e-4)
    assert inner["res_lim_high"] == pytest.approx(1.596, abs=5e-4)
    assert outer["res_lim_low"] == pytest.approx(0.601, abs=5e-4)
    assert overall["cc_anom"] == pytest.approx(-0.0290934, abs=1e-6)
    assert integration["integration_id"] == "$ispyb_integration_id"
    assert messages
    assert {each["ispyb_command"] for each in messages} == {"add_program_message"}


def test_entries_of_xtriage_are_left_out_by_their_text() -> None:
    every = [each["message"] for each in commands("xia2.multiplex", RESULT, mtz=MTZ)[3:]]
    rest = commands("xia2.multiplex", RESULT, mtz=MTZ, leave_out=[every[0]])[3:]
    assert [each["message"] for each in rest] == every[1:]


def test_the_first_wavelength_of_dials_merge_becomes_one_solution(tmp_path: Path) -> None:
    data = json.loads(RESULT.read_text())["datasets"]["All data"]
    file = tmp_path / "dials.merge.json"
    file.write_text(json.dumps({"0.6889": {**data, "xtriage_output": data["xtriage"]}}))
    autoproc, scaling, integration, *messages = commands("dials.merge", file, mtz=MTZ)
    assert autoproc["spacegroup"] == "P 21 21 21"
    assert scaling["overall"]["n_tot_unique_obs"] == 1556
    assert "integration_id" not in integration
    assert messages


def test_without_anomalous_statistics_the_others_are_sent(tmp_path: Path) -> None:
    data = json.loads(RESULT.read_text())["datasets"]["All data"]
    file = tmp_path / "dials.merge.json"
    file.write_text(json.dumps({"1.0": {**data, "merging_stats_anom": None}}))
    scaling = commands("dials.merge", file, mtz=MTZ)[1]
    assert scaling["overall"]["cc_half"] == pytest.approx(0.99972, abs=1e-5)
    assert "cc_anom" not in scaling["overall"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{}", "holds the statistics of no wavelength"), ('{"1.0": {}}', " at /1.0/merging")],
)
def test_too_little_is_a_complaint(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "dials.merge.json"
    file.write_text(text)
    with pytest.raises(ProgramError, match=complaint):
        parse("dials.merge", file, {"mtz": MTZ})


def test_without_the_mtz_file_there_is_no_cell() -> None:
    with pytest.raises(ProgramError, match=r"The MTZ file to .* is missing"):
        parse("xia2.multiplex", RESULT, {})


def mtz(directory: Path, *records: str, order: str = "<", wide: bool = False) -> Path:
    stamp = b"\x44\x41\0\0" if order == "<" else b"\x11\x11\0\0"
    begin = struct.pack(f"{order}i", -1 if wide else 21) + stamp
    begin += struct.pack(f"{order}q", 21) if wide else bytes(8)
    file = directory / "a.mtz"
    text = "".join(record.ljust(80) for record in records)
    file.write_bytes((b"MTZ " + begin).ljust(80, b"\0") + text.encode())
    return file


CELL = "CELL  10.0 20.0 30.0 90 95.5 90"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wide", [True, False])
def test_headers_of_both_byte_orders_and_of_large_files(
    tmp_path: Path, order: str, wide: bool
) -> None:
    file = mtz(tmp_path, CELL, "SYMINF  2 1 P 4 'P1211' PG2", "END", order=order, wide=wide)
    header = read_mtz_header(file)
    assert header.cell == [10.0, 20.0, 30.0, 90.0, 95.5, 90.0]
    assert header.spacegroup == "P 1 21 1"


@pytest.mark.parametrize(
    ("written", "symbol"),
    [("P43212", "P 43 21 2"), ("P 43 21 2", "P 43 21 2"), ("H32", "H 3 2"), ("P 1 21/c 1",) * 2],
)
def test_symbols_have_blanks(tmp_path: Path, written: str, symbol: str) -> None:
    file = mtz(tmp_path, CELL, f"SYMINF  8 4 P 96 '{written}' PG422", "END")
    assert read_mtz_header(file).spacegroup == symbol


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([CELL, "END"], "no cell or no space group"),
        (["CELL 1 2 x 4 5 6", "SYMINF 'P1'", "END"], "no cell or no space group"),
        ([CELL, "SYMINF 'P1'"], "ends before its MTZ header does"),
    ],
)
def test_a_header_that_is_not_whole_is_a_complaint(
    tmp_path: Path, records: list[str], complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        read_mtz_header(mtz(tmp_path, *records))


def test_another_file_is_no_mtz_file(tmp_path: Path) -> None:
    file = tmp_path / "a.mtz"
    file.write_text("MT")
    with pytest.raises(ProgramError, match="is not an MTZ file"):
        read_mtz_header(file)
