"""The labels of known errors: one rule for all tables, and the same label for the same fault.

The texts are those of raise statements and C++ errors in github.com/dials/dials, cctbx/dxtbx,
xia2/xia2 and cctbx/cctbx_project, or of the kinds that XDS and phaser have.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from zwrap.program.causes.errorlist import SHIPPED, KnownErrors
from zwrap.program.causes.errortables import read_table
from zwrap.program.reading import find_program
from zwrap.program.run import Run

DOCS = Path(__file__).parents[2] / "docs/programs.md"
OLD = "Please report this error to https://github.com/dials/dials/issues: "
NEW = (
    "Please report this error at https://github.com/dials/dials/issues or to "
    "dials-user-group@jiscmail.ac.uk: "
)


def label(directory: Path, program: str, files: dict[str, str]) -> str | None:
    """Return the label for a failed run of a shipped definition that left these files."""
    for name, text in {"stdout": "", "stderr": "", **files}.items():
        (directory / name).write_text(text)
    definition = find_program(f"zwrap:{program}", {})
    assert definition
    out, err = (directory / each for each in ("stdout", "stderr"))
    run = Run(directory=directory, stdout=out, stderr=err, began=0.0, exit_status=1)
    known = KnownErrors(definition, {}).recognized(run)
    return known.cause if known else None


def labels() -> dict[str, set[str]]:
    """Return each label of the shipped tables, with the names of its tables."""
    found: dict[str, set[str]] = {}
    for table in SHIPPED.glob("*.yaml"):
        for error in read_table(table):
            found.setdefault(error.cause, set()).add(table.stem)
    return found


def test_the_rule_in_the_docs_places_each_label_of_the_tables_once() -> None:
    section = DOCS.read_text().split("### Which label")[1].split("## What is checked")[0]
    placed = Counter(re.findall(r"`([a-z][a-z0-9-]*)`", section))
    assert set(placed) == set(labels())
    assert [name for name, times in placed.items() if times > 1] == []


def test_only_the_last_table_blames_the_input_without_saying_how() -> None:
    assert labels()["wrong-input"] == {"python"}


KINDS = {
    "File not found: scaled.expt": "file-not-found",
    "The phil file x.phil doesn't exist": "file-not-found",
    "Could not read scaled.refl": "wrong-input-file",
    "Format error in x.cif:": "wrong-input-file",
    "Unable to interpret x.ccp4 as map file": "wrong-input-file",
    "Could not import reference geometry": "wrong-input-file",
    "Not a SHELX reflection file: x.hkl": "wrong-input-file",
    "Grouping dose does not have 'values:' specified": "wrong-input-file",
    "No crystal symmetry found in x.hkl": "unit-cell-missing",
    "Missing or incomplete symmetry information.": "unit-cell-missing",
    "no spacegroup specified": "unit-cell-missing",
    "No wavelength set": "no-geometry",
    "No oscillation set": "no-geometry",
    "A model file is required as input.": "input-missing",
    "Please select one of the files.": "input-missing",
    "Both wavelength and energy have been specified!": "parameters-contradict",
    "Cannot set both d_min and bounds": "parameters-contradict",
    "Please specify either an id or a file, not both.": "parameters-contradict",
    "Invalid combination of the input parameters": "parameters-contradict",
    "Incompatible space groups in merged and unmerged data:": "space-groups-differ",
    "The unit cells in the model and reflections files are not isomorphous": "unit-cells-differ",
    "No reflection data in file: x.cif": "no-reflections-left",
    "No suitable data available after resolution cuts": "no-reflections-left",
    "No experiments after filtering by sigma_b": "no-reflections-left",
    "No suitable arrays.": "wrong-columns",
    "no candidate FreeR_flag columns found": "wrong-columns",
    "Expected key not found in reflection table: d": "wrong-columns",
    "Multiple intensity arrays - please specify one:": "wrong-columns",
    'dials Error: Could not find "imageset_id" in table': "wrong-columns",
    "Can only specify one of target_mtz/target_model": "parameters-contradict",
    "Please provide a change_of_basis_op.": "input-missing",
    "invalid value encountered in sqrt": "internal-error",
    "cctbx Error: Incomplete matrix symbol.": "wrong-parameter-value",
    "cctbx Error: Change of basis yields non-integral Miller index.": "wrong-parameter-value",
    "SHELX hkl file F8.2 format overflow: 1000000.0": "export-failed",
    "Cannot perform the analysis in dataset mode with only one dataset.": "too-few-datasets",
    "matplotlib must be installed to generate a plot.": "python-module-missing",
    "Image 7 has an unexpected array size in X": "images-unreadable",
    "cannot find distance in header": "images-unreadable",
    "Could not find matching format for /d/x_0001.cbf": "images-unreadable",
}
"""Messages, and their labels."""
FRAMES = {
    "dials": ["Sorry: {}", "ValueError: {}", "RuntimeError: " + OLD + "{}",
        "RuntimeError: " + NEW + "{}"],
    "xia2": ["Error: {}", 'Status: error "{}"'],
}  # fmt: skip
"""Program to the forms in which it tells of an error."""


@pytest.mark.parametrize(("text", "cause"), KINDS.items())
def test_a_message_has_one_label_in_each_form_in_which_it_is_told(
    tmp_path: Path, text: str, cause: str
) -> None:
    for form in FRAMES["dials"]:
        told = {"stderr": f"before\n{form.format(text)}\n"}
        assert label(tmp_path, "dials.scale", told) == cause, form
    for form in FRAMES["xia2"]:
        told = {"xia2.txt": f"before\n{form.format(text)}\nPlease send the contents\n"}
        assert label(tmp_path, "xia2", told) == cause, form


@pytest.mark.parametrize("form", FRAMES["dials"][2:])
def test_the_address_of_the_authors_is_no_file_that_is_not_there(tmp_path: Path, form: str) -> None:
    told = {"stderr": form.format("solution not found") + "\n"}
    assert label(tmp_path, "dials.scale", told) == "internal-error"


@pytest.mark.parametrize(("text", "cause"), [
    ("Column x not present in reflection table", "wrong-columns"),
    ("Batch values not found", "wrong-columns"),
    ("Input data must be scaled.", "not-scaled"),
    ("x", "internal-error"),
])  # fmt: skip
def test_a_missing_key_is_a_fault_of_the_program_unless_it_names_a_column(
    tmp_path: Path, text: str, cause: str
) -> None:
    for address in ("", OLD, NEW):
        told = {"stderr": f"KeyError: '{address}{text}'\n"}
        assert label(tmp_path, "dials.scale", told) == cause, address


@pytest.mark.parametrize(("last", "cause"), [
    ("DialsIndexError: RMSD too high, 4.2", "indexing-failed"),
    (f"DialsIndexError: {NEW}Ewald proximity volume too high", "indexing-failed"),
    ("DialsIndexError: Target unit cell must be provided for ffbidx", "unit-cell-missing"),
    ("DialsIndexError: No reflections left to index!", "too-few-spots"),
])  # fmt: skip
def test_an_error_of_indexing_says_that_indexing_failed_if_no_more_is_known(
    tmp_path: Path, last: str, cause: str
) -> None:
    told = {"stderr": f"before\ndials.algorithms.indexing.{last}\n"}
    assert label(tmp_path, "dials.index", told) == cause


def test_a_bare_assertion_in_the_code_that_reads_images_is_theirs(tmp_path: Path) -> None:
    frame = '  File "/x/dxtbx/format/FormatTIFF.py", line 1, in f\n    assert a == 0\n'
    told = {"stderr": f"Traceback (most recent call last):\n{frame}AssertionError\n"}
    assert label(tmp_path, "dials.import", told) == "images-unreadable"


XDS = [
    ("INIT", "CANNOT ALLOCATE MEMORY", "out-of-memory"),
    ("INIT", "INSUFFICIENT MEMORY", "out-of-memory"),
    ("INIT", "ILLEGAL IMAGE FORMAT", "images-unreadable"),
    ("INIT", "ILLEGAL DATA_RANGE", "wrong-image-range"),
    ("INIT", "NAME_TEMPLATE_OF_DATA_FRAMES MISSING", "input-missing"),
    ("IDXREF", "TOO FEW SPOTS", "too-few-spots"),
    ("IDXREF", "INCONSISTENT SPACE_GROUP_NUMBER AND UNIT_CELL_CONSTANTS", "parameters-contradict"),
    ("INTEGRATE", "INSUFFICIENT NUMBER OF STRONG REFLECTIONS", "too-few-reflections"),
    ("CORRECT", "FILE INTEGRATE.HKL HAS A WRONG HEADER", "wrong-input-file"),
    ("XSCALE", "INPUT_FILE IS NOT OF TYPE XDS_ASCII", "wrong-input-file"),
]
"""Step, text of an error by its kind, and its label."""


@pytest.mark.parametrize(("step", "text", "cause"), XDS)
def test_an_error_of_xds_has_the_label_of_its_kind_before_that_of_its_step(
    tmp_path: Path, step: str, text: str, cause: str
) -> None:
    told = f" ***** {step} ***** (VERSION X)\n  !!! ERROR !!! {text}\n"
    assert label(tmp_path, "xds", {"stdout": told}) == cause


PHASER = {
    "OUT OF MEMORY ERROR": "out-of-memory",
    "FILE OPENING ERROR: x.pdb": "file-not-found",
    "SYNTAX ERROR: Use a keyword": "wrong-parameter-value",
    "INPUT ERROR: Invalid resolution": "wrong-parameter-value",
    "FATAL RUNTIME ERROR: No scattering in coordinate file": "wrong-input-file",
    "INPUT ERROR: Column label I not in MTZ file": "wrong-columns",
    "KILL-TIME ELAPSED ERROR: Job killed": "interrupted",
    "FATAL RUNTIME ERROR: something new": "molecular-replacement-failed",
    "UNHANDLED ERROR: something new": "molecular-replacement-failed",
}
"""Error that ends phaser, and its label."""


@pytest.mark.parametrize(("text", "cause"), PHASER.items())
def test_an_error_of_phaser_has_the_label_of_its_kind(
    tmp_path: Path, text: str, cause: str
) -> None:
    last = "Error: phaser failed (exit status 1).\n"
    told = {"stderr": last, "08-phaser.log": f"before\n{text}\nafter\n"}
    assert label(tmp_path, "dimple", told) == cause


def test_a_long_line_of_phaser_is_searched_fast(tmp_path: Path) -> None:
    text = f"INPUT ERROR: {'Ensemble ' * 20_000}\n"
    began = time.process_time()
    told = {"stderr": "", "08-phaser.log": text}
    assert label(tmp_path, "dimple", told) == "molecular-replacement-failed"
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(("last", "cause"), [
    ("OSError: Can't read data (can't open directory: /x/plugin)", "hdf5-plugin-missing"),
    ("RuntimeError: Can't open file x.expt: Permission denied", "permission-denied"),
    ("RuntimeError: Could not read x.refl: Input/output error", "input-output-error"),
    ("RuntimeError: Couldn't load x.so: Cannot allocate memory", "out-of-memory"),
    ("Sorry: Unable to read x.refl: Stale file handle", "stale-file-handle"),
])  # fmt: skip
def test_a_fault_of_the_machine_comes_before_the_file_that_it_kept_away(
    tmp_path: Path, last: str, cause: str
) -> None:
    assert label(tmp_path, "dials.scale", {"stderr": f"before\n{last}\n"}) == cause
