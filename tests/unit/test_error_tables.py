"""The shipped tables of known errors: right causes, and none for what a good run has left.

The texts are those that the sources named in the tables print, filled in.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from zwrap.program.causes.errorlist import SHIPPED, KnownErrors
from zwrap.program.causes.errortables import read_table
from zwrap.program.causes.knownerrors import EXIT_STATUS, KnownError, places
from zwrap.program.causes.recognition import recognized, searched
from zwrap.program.reading import find_program, program_names
from zwrap.program.run import Run

NAMES = sorted(file.stem for file in SHIPPED.glob("*.yaml"))

OF = {
    "xia2": ["xia2", "dials", "wording", "common", "xia2-stages", "python"],
    "dials": ["dials", "wording", "common", "python"],
    "fast_dp": ["fast_dp", "xds", "ccp4", "wording", "common", "python"],
    "xds": ["xds", "common"],
    "dimple": ["dimple", "ccp4", "wording", "common", "python"],
    "aimless": ["ccp4", "common"],
    "autoPROC": ["autoPROC", "xds", "ccp4", "common"],
}
"""Program to its tables."""

GOOD = (
    "xia2/v3.12.0/success_insulin_sad/xia2.txt",
    "xia2/v3.12.0/success_insulin_sad/LogFiles/*.log",
    "xia2/v3.12.0/success_insulin_sad/LogFiles/*.txt",
    "xia2/v3.12.0/success_insulin_sad/*.log",
    "xia2/BAZ2BA_x839/3daii-run/*.txt",
    "xia2/BAZ2BA_x839/3daii-run/LogFiles/*.log",
    "xia2/doc_blocks/*",
    "dials/*/*.log",
    "dials/v3.12.1_quartz/[cers]*.stdout",
    "xia2_multiplex/*/*.log",
    "xia2_multiplex/*/*/*.log",
    "dimple/*.log",
    "pointless/*.log",
    "autoPROC/*/*.xml",
    "autoPROC/*.xml",
    "xds/CORRECT.LP",
    "xds/*XSCALE.LP",
)
"""Patterns of what good runs have left."""


def entries(program: str) -> list[KnownError]:
    return [error for name in OF[program] for error in read_table(SHIPPED / f"{name}.yaml")]


def cause(directory: Path, program: str, name: str, text: str, status: int = 1) -> str | None:
    """Return the label for a run that left one file."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    out, err = (directory / each for each in ("stdout", "stderr"))
    run = Run(directory=directory, stdout=out, stderr=err, began=0.0, exit_status=status)
    known = recognized(entries(program), run)
    return known.cause if known else None


XIA2 = {
    'Status: error "Required file /w/scale/AUTOMATIC_DEFAULT_scaled.sca not found"': (
        "scaling-failed"
    ),
    'Aimless failed, see log file for more details:\n/w/27_aimless.log': "scaling-failed",
    "Error setting up xia2 environment: CCP4 not defined - is CCP4 set up?": "ccp4-not-set-up",
    "Error: Could not find /d/absent_1_0001.cbf in /w/xia2-dials": "images-not-found",
    "Error: No image directory found in command line arguments. Run": "images-not-given",
    "Error: Unknown command-line options: nprocs=4": "unknown-parameter",
    "Error: /path/to/image_0001.cbf:start:end": "wrong-image-range",
    "Error: No sweeps found matching criteria": "no-sweeps-found",
    "Error: No spots found in sweep SWEEP1": "no-spots-found",
    "Error: dials.index failed, see log file for more details: /w/9_dials.index.log":
        "indexing-failed",
    'Status: error "Indexing has failed: see /w/112_dials.index.log for more details."':
        "indexing-failed",
    'Status: error "error in indexing"': "indexing-failed",
    "Error: [XDS] insufficient percentage (< 50%) of indexed reflections": "indexing-failed",
    "Error: no solution for lattice oP with given cell": "given-lattice-not-found",
    "Error: executable freerflag does not exist in PATH": "program-not-found",
    "Error: preselected integrater xdsr not available: xds not installed?": "program-not-found",
    "Error: installed XDS expired on 31-Dec-2025": "licence-expired",
    "Error: Cannot find plugin durin-plugin.so": "hdf5-plugin-missing",
    "Error: only sweeps, not stills, can be processed. Perhaps try xia2.ssx?":
        "stills-not-supported",
    "Error: dials.integrate subprocess failed with exitcode 1: see /w/12_dials.integrate.log for "
    "more details": "integration-failed",
    "Error: dials.integrate killed: see /w/12_dials.integrate.log for more details":
        "out-of-memory",
    'Status: error "dials.integrate requires more memory than is available.': "out-of-memory",
    "Error: dials.export subprocess failed with exitcode 1: see /w/3_dials.export.log":
        "export-failed",
    "Error: dials.scale subprocess failed with exitcode 1: see /w/scale/1_dials.scale.log":
        "scaling-failed",
    "Error: dials.symmetry terminated with an error: see /w/s.log for more details":
        "symmetry-failed",
    "Error: Too few reflections for profile modelling:\nexpected >= 50, got 12":
        "too-few-reflections",
    "Error: DIALS did not refine the data, see log file for more details:  /w/r.log":
        "refinement-failed",
    'Status: error "XDS refinement failed (no mosaic spread range reported)"': "refinement-failed",
    "Error: ctruncate failure": "truncation-failed",
    "Error: unit cell parameters differ in a.mtz and b.mtz": "unit-cells-differ",
    "Error: Duplicate batch offsets detected: 0": "duplicate-batches",
    "Error: [Errno 2] No such file or directory: '/w/6_dials.index.report.html'": "report-failed",
    "Error: [Errno 28] No space left on device": "disk-full",
    "Error: [Errno 122] Disk quota exceeded: 'xia2.json'": "quota-exceeded",
    "Error: [Errno 13] Permission denied: '/w/automatic.xinfo'": "permission-denied",
}  # fmt: skip
STDERR = {
    "dials": {
        "nexus_ext.cc(122): DXTBX_ASSERT(status2 >= 0) failure.": "hdf5-unreadable",
        "TypeError: Unsupported integer dtype int64": "hdf5-unreadable",
        "Sorry: No experiments found matching template ['/d/x_####.cbf']": "images-not-found",
        "ValueError: Missing images 3, 4 from imageset (1-10)": "images-missing",
        "ValueError: Image file /d/x_0001.cbf format is unknown": "images-unreadable",
        "Sorry: Unable to handle the following arguments:\n  absent.expt": "wrong-argument",
        "RuntimeError: The following definitions were not recognised\n  nprocs = 4":
            "unknown-parameter",
        "dials.index: error: Invalid phil parameter: Error interpreting nproc=x":
            "wrong-parameter-value",
        "Sorry: File integrated.refl does not exist": "file-not-found",
        "Sorry: \n    More than 1 sequence was found. Two things": "several-sweeps",
        "RuntimeError: Please report this error to dials-support@lists.sourceforge.net: cctbx "
        "Error: Space group symbol not recognized: Pxyz": "wrong-parameter-value",
        "Sorry: Unknown command line parameter definition: parameter = 3": "unknown-parameter",
        "The supplied reflection table does not have the required data column: xyzobs.mm.value":
            "wrong-input-file",
        "dials.algorithms.scaling.scaling_utilities.BadDatasetForScalingException: Please report "
        "this error to dials-support@lists.sourceforge.net: Unable to use": "no-reflections-left",
        "Sorry: Unable to handle the following arguments:\n  \"absent.refl\" failed during "
        "ExperimentList processing:\n    File absent.refl does not exist": "file-not-found",
        "No suitable lattice could be found.": "indexing-failed",
        "Sorry: Indexing failed: fft3d peak search failed to find sufficient number of peaks.":
            "indexing-failed",
        "Too few spots remaining for nearest neighbour analysis (7)": "too-few-spots",
        "Experiment id 0 contains no reflections": "too-few-reflections",
        "There are no free parameters for refinement": "refinement-failed",
        "MemoryError: \n          Not enough memory to run integration jobs.  This could":
            "out-of-memory",
        "No reflections left after applying significance filter": "too-few-reflections",
        "Mismatched number of experiments and reflection tables found: 2 & 1.":
            "files-do-not-match",
        "Incompatible unit cell: (1, 2, 3, 90, 90, 90)": "unit-cells-differ",
        "Sorry: All data sets have been rejected as bad.": "no-reflections-left",
        "Sorry: Only data scaled together as a single reflection dataset\ncan be": "not-scaled",
        "OSError: Please report this error to dials-support@lists.sourceforge.net: Can't read data "
        "(Required filter 'bitshuffle; see https://x' is not registered)": "hdf5-plugin-missing",
        "OSError: Unable to open file (unable to open file: name = 'x.h5')": "hdf5-unreadable",
        "KeyError: Please report this error to dials-support@lists.sourceforge.net: 'd'":
            "internal-error",
        "Sorry: something of another kind": "wrong-input",
    },
    "fast_dp": {
        "Fast DP error: /d/x_0001.cbf does not exist": "images-not-found",
        "Fast DP error: images missing: 3 4": "images-missing",
        "Fast DP error: grid scan data": "not-a-rotation",
        "Autoindexing failed\nFast DP error: error in IDXREF: INSUFFICIENT PERCENTAGE (< 50%)":
            "indexing-failed",
        "Autoindexing failed\nFast DP error: error in COLSPOT: NO SPOTS": "spot-finding-failed",
        "Autoindexing failed\nFast DP error: [Errno 2] No such file or directory: 'XYCORR.LP'":
            "xds-did-not-run",
        "Integration failed\nFast DP error: error in INTEGRATE: automatic determination of spot":
            "integration-failed",
        "Scaling failed\nFast DP error: error in CORRECT: X": "scaling-failed",
        "Merging failed\nFast DP error: aimless complains no data": "no-reflections-left",
        "Pointgroup determination failed": "symmetry-failed",
    },
    "dimple": {
        "Error: $CCP4_SCR not found, giving up.": "ccp4-not-set-up",
        "Error: File not found: model.pdb.": "file-not-found",
        "Error: One mtz file should be given.": "wrong-argument",
        "Error: No intensity (IMEAN) column in the MTZ file.": "wrong-columns",
        "Error: free-R column not found in a.mtz.": "no-free-r-flags",
        "Error: Program not found: /ccp4/bin/refmac5.": "program-not-found",
        "Giving up.\nError: No phaser solution..": "no-molecular-replacement-solution",
        "Error: refmac5 jelly failed (exit status 1).": "refinement-failed",
        "Error: phaser failed (exit status 1).": "molecular-replacement-failed",
    },
    "aimless": {
        " File must be sorted": "not-sorted",
        " Scaling has failed to converge": "scaling-not-converged",
        " *** No observations ***": "no-reflections-left",
        "aimless: simpleminimise.cpp:75: void X::run(): Assertion `H(i,i) > 0.0' failed.":
            "program-crashed",
        " FATAL ERROR message:\n   Cannot open MTZ file x.mtz": "file-not-found",
    },
    "autoPROC": {
        " !!! ERROR !!! CANNOT OPEN OR READ FILE LP_01.tmp": "xds-jobs-failed",
        " !!! ERROR !!! INSUFFICIENT PERCENTAGE (< 50%) OF INDEXED REFLECTIONS": "indexing-failed",
        "NEGGIA ERROR: CANNOT OPEN /d/x_master.h5": "hdf5-unreadable",
        "Sorry, license expired on 31-Dec-2025": "licence-expired",
        "/bin/bash: line 1: process: command not found": "program-not-found",
        "process: error while loading shared libraries: libx.so: cannot open": "library-missing",
    },
}  # fmt: skip


@pytest.mark.parametrize(("text", "label"), XIA2.items())
def test_the_last_words_of_xia2_have_the_right_cause(tmp_path: Path, text: str, label: str) -> None:
    assert cause(tmp_path / "a", "xia2", "xia2.txt", f"XIA2 3.12.0\n{text}\n") == label
    assert cause(tmp_path / "b", "xia2", "stdout", f"XIA2 3.12.0\n{text}\n") == label


@pytest.mark.parametrize(
    ("program", "text", "label"),
    [(program, text, label) for program, texts in STDERR.items() for text, label in texts.items()],
)
def test_last_words_have_the_right_cause(
    tmp_path: Path, program: str, text: str, label: str
) -> None:
    assert cause(tmp_path, program, "stderr", f"before\n{text}\n") == label


REPORTED = [
    ("xia2#50", "xia2", "xia2.txt",
        'Status: error "no Integrater implementations assigned for scaling"', "no-sweeps-found"),
    ("dials#2631", "xia2", "xia2.txt",
        ("Warning: Ambiguous parameter definition: space_group = P43212\n"
        "Error: dials.export subprocess failed with exitcode 1: see /w/1_dials.export.log"),
        "export-failed"),
    ("xia2#193", "xia2", "xia2.txt",
        'Status: error "[XDS] invalid minimum pixel value < 0"', "wrong-parameter-value"),
    ("xia2#738", "xia2", "stderr",
        "AttributeError: 'NoneType' object has no attribute 'get_image_range'",
        "stills-not-supported"),
    ("xia2#703", "xia2", "stderr",
        "KeyError: 'Intensity column labels not found in MTZ file'", "wrong-columns"),
    ("xia2 Modules/SSX", "xia2", "stderr",
        "ValueError: No images successfully indexed", "indexing-failed"),
    ("xia2 Modules/SSX", "xia2", "stderr",
        "ValueError: No crystals remain after filtering", "no-reflections-left"),
    ("dials#93", "dials", "stderr",
        ("IOError: Unable to open file (Unable to open file: name = 'l.h5', errno = 24, error "
        "message = 'too many open files', flags = 0)"), "too-many-open-files"),
    ("dials#1021", "dials", "stderr",
        "ValueError: min() arg is an empty sequence", "internal-error"),
    ("dials#1142", "dials", "stderr",
        "ValueError: max() arg is an empty sequence", "internal-error"),
    ("dials#1494", "dials", "stdout",
        "Resolution fit against cc_half failed: No reflections left for fitting",
        "no-reflections-left"),
    ("dials#2127", "dials", "stdout",
        "Error integrating e_00100 dials Internal Error: /p/a.cc(242): DIALS_ASSERT(b) failure.",
        "internal-error"),
    ("dials#2189", "dials", "stderr", "Error: ", "internal-error"),
    ("dials#2974", "dials", "stdout",
        ("Performing a round of scaling with an LBFGS minimizer. \n\nlbfgs error: Line search "
        "failed: Number of function evaluations has reached maxfev()."), "scaling-failed"),
    ("dials command_line/integrate.py", "dials", "stderr",
        "Sorry: Found negative variances (prf). Are bad pixels properly masked out?",
        "bad-pixels"),
    ("xia2#813", "xds", "stdout",
        "  !!! ERROR !!! ILLEGAL (OBSOLETE ?) KEYWORD OR PARAMETER VALUE", "unknown-parameter"),
    ("AutoXDS", "xds", "stdout", " !!! ERROR !!! MISPLACED PARAMETER", "unknown-parameter"),
    ("mxproc/AutoProcess", "xds", "stdout",
        " !!! ERROR IN REFINE !!! RETURN CODE IS IER=           0", "indexing-failed"),
    ("XChemExplorer#21", "dimple", "stdout",
        "Error: At least one of the atoms from the restraints could not be found:",
        "unknown-ligand"),
    ("ld.so", "dials", "stderr",
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        "library-missing"),
    ("ld.so", "dimple", "stderr",
        "/lib64/libm.so.6: version `GLIBC_2.29' not found (required by x)", "library-missing"),
    ("CPython", "dials", "stderr", "RuntimeError: can't start new thread", "too-many-processes"),
    ("bash", "xds", "stderr", "bash: fork: Resource temporarily unavailable",
        "too-many-processes"),
    ("strerror", "xds", "stderr", "ls: x: Transport endpoint is not connected",
        "input-output-error"),
    ("slurmstepd", "xds", "stderr",
        ("slurmstepd: error: *** JOB 12 ON node1 CANCELLED AT 2026-11-28T10:00:00 DUE TO TIME "
        "LIMIT ***"), "time-limit"),
    ("dials#434", "dials", "stderr",
        ("Boost.Python.ArgumentError: Please report this error to "
        "dials-support@lists.sourceforge.net: Python argument types in"), "internal-error"),
    ("dials#446", "dials", "stderr",
        "ImportError: numpy.core.multiarray failed to import", "python-module-missing"),
    ("dials#902", "dials", "stderr",
        ("RuntimeError: dials Error: /m/flex_reflection_table.cc(597): Experiment identifiers do "
        "not match"), "files-do-not-match"),
    ("dials#1125", "dials", "stderr",
        "Sorry: Not enough solutions: found 1, need at least 3", "indexing-failed"),
    ("dials#2069", "dials", "stderr",
        ("RuntimeError: Please report this error to dials-support@lists.sourceforge.net: dxtbx "
        "Internal Error: /m/experiment_list.h(190): DXTBX_ASSERT(index < 0) failure."),
        "files-do-not-match"),
    ("dials#2069", "dials", "stderr",
        ("Unable to combine experiments. Are experiment IDs unique? You may need to run "
        "dials.assign_experiment_identifiers first to reset IDs."), "files-do-not-match"),
    ("dials#2173", "dials", "stderr",
        ("Sorry: zero-size array to reduction operation minimum which has no identity"),
        "internal-error"),
    ("dials#2228", "dials", "stdout",
        ("dxtbx Internal Error: /m/dxtbx/model/scan.h(350): DXTBX_ASSERT(image_range_[1] + 1 == "
        "rhs.image_range_[0]) failure."), "images-missing"),
    ("dials#2332", "xia2", "xia2-error.txt",
        ("cctbx.uctbx.reduction_base.iteration_limit_exceeded: Krivy-Gruber iteration limit "
        "exceeded."), "internal-error"),
    ("dials#2527", "dials", "stderr",
        ("RuntimeError: Please report this error to dials-support@lists.sourceforge.net: No XDS "
        "file found"), "input-missing"),
    ("dials#2699", "dials", "stderr",
        ("Error: dials Internal Error: /m/find_overlapping.h(178): DIALS_ASSERT(panel.size() > 0) "
        "failure."), "internal-error"),
    ("dxtbx model/scan.h", "dials", "stderr",
        ("RuntimeError: Please report this error to dials-support@lists.sourceforge.net: dxtbx "
        "Internal Error: /m/dxtbx/model/scan.h(358): DXTBX_ASSERT(x) failure."), "images-missing"),
    ("xia2#155", "aimless", "stdout",
        " REBATCH:  *** Invalid orientation data ***", "wrong-input-file"),
    ("xia2#654", "xia2", "stderr", "ValueError: Invalid cluster method: unit_cell",
        "wrong-parameter-value"),
    ("servalcat#14", "dimple", "09-refmacat_restr.log",
        "Error: Provide restraint cif file(s) for PYR", "unknown-ligand"),
    ("XChem", "dimple", "09-refmacat_restr.log",
        " Refmac:  New ligand has been encountered. Stopping now", "unknown-ligand"),
    ("CrystalPilot", "xds", "stdout",
        " !!! ERROR !!! CANNOT OPEN OR READ FILE ../x/XDS_ASCII.HKL", "file-not-found"),
]  # fmt: skip
"""Source, program, file, text that was not known, or as another error, and its label."""

UNHARMED = [
    ("dials", "stdout", "Warning: Ambiguous parameter definition: space_group = P43212"),
    ("dials", "stdout", "WARN: No reflections left for fitting"),
    ("dials", "stdout", "ValueError: of a step that was done again"),
    ("dials", "stdout", "Error encountered during merging statistics calculation:\nfew"),
    ("dials", "stdout", "Performing a round of scaling\nlbfgs error: x\nPerforming another"),
    ("xds", "stderr", "bash: fork: retry: Resource temporarily unavailable"),
    ("dials", "stdout",
        "dxtbx Internal Error: /m/dxtbx/model/scan.h(358): DXTBX_ASSERT(x) failure." + "\n-" * 12),
    ("xia2", "xia2.txt",
        "dxtbx Internal Error: /m/dxtbx/model/scan.h(358): DXTBX_ASSERT(x) failure." + "\n-" * 12),
    ("dials", "stdout",
        ("Too few reflections to parameterise Crystal8Phi1, Crystal8g_param_0.\nTry modifying "
        "refinement.parameterisation.auto_reduction options")),
    ("dials", "stdout", "Krivy-Gruber iteration limit exceeded error for unit cell (1, 2, 3):"),
    ("dials", "stdout", "Not enough solutions: found 1 for sweep 3"),
    ("dials", "stdout",
        "CC½ resolution filter failed with the following error:\nNo reflections left for fitting"),
    ("aimless", "stdout", " REBATCH:  Normal termination"),
]  # fmt: skip
"""Program, file, and text that stands in good runs, too."""


@pytest.mark.parametrize(("source", "program", "name", "text", "label"), REPORTED)
def test_reported_texts_have_the_right_cause(
    tmp_path: Path, source: str, program: str, name: str, text: str, label: str
) -> None:
    assert cause(tmp_path, program, name, f"before\n{text}\n") == label, source


@pytest.mark.parametrize(("program", "name", "text"), UNHARMED)
def test_what_a_good_run_may_say_is_no_cause(
    tmp_path: Path, program: str, name: str, text: str
) -> None:
    assert cause(tmp_path, program, name, f"before\n{text}\nafter\n") is None


def test_what_takes_each_exception_is_the_last_table_of_all() -> None:
    for name in program_names():
        definition = find_program(f"zwrap:{name}", {}) if name != "command" else None
        if definition and "python" in definition.errors_of:
            assert definition.errors_of[-1] == "python", name


@pytest.mark.parametrize(("text", "label"), [
    (" ERROR : atom :P    3TD  1915  a    is absent in the library", "unknown-ligand"),
    ("Refmac:  No reflections in resolution bin", "no-reflections-left"),
])  # fmt: skip
def test_what_refmac_says_goes_before_its_failure(tmp_path: Path, text: str, label: str) -> None:
    (tmp_path / "stderr").write_text("Error: refmac5 jelly failed (exit status 1).\n")
    assert cause(tmp_path, "dimple", "08-refmac5_jelly.log", f"{text}\n") == label


@pytest.mark.parametrize(("directory", "label"), [
    ("fail_environment", "ccp4-not-set-up"),
    ("fail_image_not_found_no_error_file", "images-not-found"),
])  # fmt: skip
def test_real_failures_of_xia2_have_the_right_cause(
    saved: Path, directory: str, label: str
) -> None:
    place = saved / "xia2/v3.12.0" / directory
    run = Run(
        directory=place, stdout=place / "o", stderr=place / "e", began=0.0, exit_status=1
    )  # fmt: skip
    definition = find_program("zwrap:xia2", {})
    assert definition
    known = KnownErrors(definition, {}).recognized(run)
    assert known
    assert known.cause == label


def good(elsewhere: Path) -> Iterable[Path]:
    files = [file for pattern in GOOD for file in sorted(elsewhere.glob(pattern))]
    assert len(files) > 50
    return files


@pytest.mark.parametrize("name", NAMES)
def test_no_error_is_found_in_what_good_runs_have_left(name: str, elsewhere: Path) -> None:
    patterns = [
        (error, searched(error, place, 600.0))
        for error in read_table(SHIPPED / f"{name}.yaml")
        for place in places(error)[:1] if place != EXIT_STATUS
    ]  # fmt: skip
    for file in good(elsewhere):
        text = file.read_text(errors="replace")
        for error, pattern in patterns:
            assert pattern.search(text) is None, (file, error.cause)


@pytest.mark.parametrize("program", OF)
def test_a_large_log_is_searched_fast(tmp_path: Path, program: str, saved: Path) -> None:
    text = (saved / "xia2/v3.12.0/success_insulin_sad/xia2.txt").read_text()
    (tmp_path / "stdout").write_text(text * (10_000_000 // len(text)))
    out, err = (tmp_path / each for each in ("stdout", "stderr"))
    run = Run(directory=tmp_path, stdout=out, stderr=err, began=0.0, exit_status=1)
    began = time.process_time()
    assert recognized(entries(program), run) is None
    assert time.process_time() - began < 4.0


def test_each_definition_names_tables_that_there_are() -> None:
    named = set()
    for name in program_names():
        if name != "command":
            definition = find_program(f"zwrap:{name}", {})
            assert definition
            named |= set(definition.errors_of)
    assert named <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_entry_names_a_remedy(name: str) -> None:
    for error in read_table(SHIPPED / f"{name}.yaml"):
        assert error.remedy.endswith((".", ")")), error.cause
