"""Known errors by the kind of their wording: texts that no table knows have the right cause.

The texts are those that the sources named print: issues, the messages at raise, assert and
sys.exit in the programs' repositories, and DIALS 3.12 of Debian with input that is wrong.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zwrap.program.causes.errorlist import KnownErrors
from zwrap.program.reading import find_program
from zwrap.program.run import Run

NEWS = "Please report this error to https://github.com/dials/dials/issues: "
OLD = "Please report this error to dials-support@lists.sourceforge.net: "


def label(directory: Path, program: str, name: str, text: str, status: int = 1) -> str | None:
    """Return the label for a run of a shipped definition that left one file."""
    (directory / name).write_text(text)
    definition = find_program(f"zwrap:{program}", {})
    assert definition
    out, err = (directory / each for each in ("stdout", "stderr"))
    run = Run(directory=directory, stdout=out, stderr=err, began=0.0, exit_status=status)
    known = KnownErrors(definition, {}).recognized(run)
    return known.cause if known else None


HELD_OUT = [
    # DIALS 3.12 of Debian, with input that is wrong
    ("DIALS", "dials.find_spots", "stderr",
        (f"RuntimeError: {OLD}spotfinder.mp.nproc element is less than the minimum allowed value: "
        "0 < 1 (command line argument, line 1)"), "wrong-parameter-value"),
    ("DIALS", "dials.integrate", "stderr",
        (f'RuntimeError: {OLD}One True or False value expected, integration.profile.fitting="maybe"'
        " found (command line argument, line 1)"), "wrong-parameter-value"),
    ("DIALS", "dials.index", "stderr",
        ("    assert self.is_compatible_unit_cell(), \\\n"
        f"AssertionError: {OLD}Space group is incompatible with unit cell parameters."),
        "parameters-contradict"),
    ("DIALS", "dials.index", "stderr",
        ("    self.Bmat = matrix.sqr(uc.fractionalization_matrix()).transpose()\n"
        f"AttributeError: {OLD}'NoneType' object has no attribute 'fractionalization_matrix'"),
        "unit-cell-missing"),
    ("DIALS", "dials.index", "stderr",
        f"    assert len(reflections) == len(experiments)\nAssertionError: {OLD}",
        "files-do-not-match"),
    ("DIALS", "dials.index", "stderr",
        ('Sorry: Unable to handle the following arguments:\n'
        '  "../pre/cut.refl" failed during ExperimentList processing:\n'
        '    Traceback (most recent call last):\n'
        '      File "<frozen codecs>", line 322, in decode\n'
        "    UnicodeDecodeError: 'utf-8' codec can't decode byte 0x93 in position 0: invalid"),
        "wrong-input-file"),
    ("DIALS", "dials.index", "stderr",
        ('Sorry: Unable to handle the following arguments:\n'
        '  "../pre/cut.expt" failed during ExperimentList processing:\n'
        '    Traceback (most recent call last):\n'
        "    json.decoder.JSONDecodeError: Unterminated string starting at: line 24 column 9"),
        "wrong-input-file"),
    ("DIALS", "dials.integrate", "stderr",
        f'    assert "miller_index" in reference\nAssertionError: {OLD}', "wrong-input-file"),
    ("DIALS", "dials.integrate", "stderr",
        ("dials Internal Error: ./src/dials/algorithms/integration/integrator.h(236): "
        "DIALS_ASSERT(block_size > 0) failure."), "wrong-parameter-value"),
    ("DIALS", "dials.cosym", "stderr",
        f"AttributeError: {OLD}'NoneType' object has no attribute 'get_unit_cell'",
        "wrong-input-file"),
    ("DIALS", "dials.export", "stdout",
        "Error: 'NoneType' object has no attribute 'get_recalculated_unit_cell'",
        "wrong-input-file"),
    ("command_line/export.py", "dials.export", "stdout", "Error: list index out of range",
        "internal-error"),
    ("DIALS", "dials.scale", "stderr",
        f'RuntimeError: {OLD}Experiment with identifier "8c761539" already in ExperimentList',
        "files-do-not-match"),
    ("DIALS", "dials.scale", "stderr", "OSError: [Errno 27] File too large", "file-too-large"),
    ("DIALS", "dials.import", "stderr",
        f"EOFError: {OLD}Compressed file ended before the end-of-stream marker was reached",
        "wrong-input-file"),
    ("DIALS", "dials.import", "stdout",
        "Unable to handle the following arguments:\n  ../../a_master.h5\n\n", "images-unreadable"),
    ("DIALS", "dials.estimate_resolution", "stderr",
        f"RuntimeError: {OLD}cctbx Error: MTZ file read error: notes.txt", "mtz-unreadable"),
    ("DIALS", "dials.index", "stderr",
        ("ImportError: /usr/lib/python3/dist-packages/scitbx_math_ext.so: failed to map segment "
        "from shared object"), "out-of-memory"),
    ("DIALS", "dials.export", "stdout", "Error: cctbx Error: MTZ write failed.",
        "input-output-error"),
    ("DIALS", "dials.scale", "stderr",
        ('  "/data/" failed during ExperimentList processing:\n'
         "    Traceback (most recent call last):\n" + "      File x, line 1, in read\n" * 40
        + "    [Errno 21] Is a directory: '/data/'\n"), "wrong-argument"),
    # issues
    ("dials#827", "dials.find_spots", "stderr", f"RuntimeError: {OLD}exit code = 1",
        "program-crashed"),
    ("dials#1113", "dials.export", "stderr",
        '    assert "intensity.prf.value" in reflection_table\nAssertionError', "not-integrated"),
    ("xia2#208", "aimless", "stdout",
        "FATAL ERROR message:\n RESTORE tag error: ParameterVariance != VarianceCovariance",
        "scaling-failed"),
    ("servalcat#3", "dimple", "stdout", "Fortran runtime error: Bad value during integer read",
        "program-crashed"),
    # sources of DIALS and dxtbx
    ("algorithms/scaling/model/model.py", "dials.scale", "stderr",
        ("Sorry: The reflection table must contain the column 'analytical_correction'\n"
        "when using the option analytical_correction=True."), "wrong-columns"),
    ("algorithms/spot_prediction/reflection_predictor.py", "dials.integrate", "stderr",
        "Sorry: Prediction at d_min of 0.3 is not possible with wavelength 0.9",
        "wrong-parameter-value"),
    ("command_line/export.py", "dials.export", "stderr",
        f"ValueError: {NEWS}XDS exporter requires 0 or 1 reflection table", "input-missing"),
    ("command_line/detect_blanks.py", "xia2", "xia2-error.txt",
        "RuntimeError: dials.detect_blanks can only be used with rotation data",
        "stills-and-sweeps"),
    ("util/slice.py", "dials", "stderr", f"IndexError: {NEWS}requested slice outside current scan",
        "wrong-image-range"),
    ("util/reference.py", "dials.scale", "stderr",
        f"KeyError: {NEWS}'Unable to find F_meas in cif file'", "wrong-columns"),
    ("util/reference.py", "dials.scale", "stderr",
        (f"ValueError: {NEWS}Unrecognised input format for reference data file (expected .cif or "
        ".mtz)"), "wrong-input-file"),
    ("command_line/dials_import.py", "dials.import", "stderr",
        f"AssertionError: {NEWS}Reference detector model does not match input detector model",
        "files-do-not-match"),
    ("algorithms/refinement/refiner.py", "dials.refine", "stderr",
        f"RuntimeError: {NEWS}Refinement engine foo not recognised", "wrong-parameter-value"),
    ("algorithms/scaling/algorithm.py", "dials.scale", "stderr",
        f"ValueError: {NEWS}Can't specify reference in addition to target_mtz/target_model",
        "parameters-contradict"),
    ("algorithms/indexing/lattice_search/ffb_indexer.py", "dials.index", "stderr",
        ("dials.algorithms.indexing.DialsIndexError: ffbidx requires the fast feedback indexer "
        "package. Please run `mamba install ffbidx`"), "python-module-missing"),
    ("command_line/filter_reflections.py", "dials", "stderr",
        "Sorry: d_min must be less than d_max", "wrong-parameter-value"),
    ("dxtbx format/FormatCBFFullPilatusDLS6MSN100.py", "dials.import", "stderr",
        ('  File "/p/dxtbx/format/FormatCBFFullPilatusDLS6MSN100.py", line 60, in _goniometer\n'
        "    raise ValueError(\n"
        f"ValueError: {NEWS}Don't understand this goniometer: ['GON_OMEGA']"), "images-unreadable"),
    ("dxtbx format/FormatROD.py", "dials.import", "stderr",
        ('  File "/p/dxtbx/format/FormatROD.py", line 82, in _read_ascii_header\n'
        f"    raise ValueError(x)\nValueError: {NEWS}Wrong header format"), "images-unreadable"),
    # sources of xia2, dimple and libccp4; XDS as public code reads it
    ("Schema/XProject.py", "xia2", "xia2.txt", "Error: No wavelengths specified in xinfo file",
        "wrong-input-file"),
    ("Schema/Interfaces/Indexer.py", "xia2", "xia2.txt", "Error: cell must be a 6-tuple of floats",
        "wrong-parameter-value"),
    ("Schema/Interfaces/Indexer.py", "xia2", "xia2.txt", "Error: cannot eliminate only solution",
        "indexing-failed"),
    ("Experts/FindImages.py", "xia2", "xia2.txt", "Error: number too big for template",
        "wrong-image-range"),
    ("Wrappers/CCP4/Pointless.py", "xia2", "xia2.txt",
        "Error: error getting solution from pointless", "symmetry-failed"),
    ("dimple main.py", "dimple", "stderr",
        "Error: No such directory: $CCP4_SCR, refmac shall not work!.", "ccp4-not-set-up"),
    ("libccp4", "aimless", "stdout", (">>>>>> CCP4 library signal csym:Cannot find SYMINFO file - "
        "no symmetry information (Error)\n\t raised in ccp4spg_load <<<<<<"), "ccp4-not-set-up"),
    ("libccp4", "aimless", "stdout", ">>>>>> CCP4 library signal library_file:Write failed (Error)",
        "input-output-error"),
    ("libccp4", "aimless", "stdout", (">>>>>> CCP4 library signal cmtz:Cannot allocate memory "
        "(FATAL ERROR)"), "out-of-memory"),
    ("libccp4", "pointless", "stdout", (">>>>>> CCP4 library signal cmtz:File column type "
        "different from type expected by program (Error)"), "wrong-columns"),
    ("mxproc", "xds", "stdout", "  !!! ERROR !!! REDUCE returns IRANK=           2",
        "indexing-failed"),
    ("AutoXDS", "xds", "stdout", "  !!! ERROR !!! CANNOT READ SPOT.XDS", "file-not-found"),
    ("yamtbx", "xds", "stdout", "  !!! ERROR !!! USELESS DATA ON INPUT REFLECTION FILE a.HKL",
        "no-reflections-left"),
    # the C library, bash and Python
    ("bash", "xds", "stderr", "run.sh: line 3: 12345 Killed                  xds_par",
        "program-killed"),
    ("bash", "xds", "stderr", "run.sh: line 3: 12345 Bus error               (core dumped) xds_par",
        "program-crashed"),
    ("ifort", "xds", "stderr", "forrtl: severe (41): insufficient virtual memory",
        "out-of-memory"),
    ("gfortran", "aimless", "stderr", "Fortran runtime error: End of file", "program-crashed"),
    ("strerror", "dials.import", "stderr", "FileExistsError: [Errno 17] File exists: 'a'",
        "file-exists"),
    ("gai_strerror", "dimple", "stderr",
        "Error: <urlopen error [Errno -3] Temporary failure in name resolution>.",
        "network-unreachable"),
    # typical failures, as pages for users and issues have them
    ("neggia", "xds", "stdout", " NEGGIA ERROR: OPENING FILE RETURNED ERROR CODE: 2\n",
        "images-missing"),
    ("XDSwiki", "xds", "stdout",
        (" [generic_data_plugin] - ERROR - CANNOT OPEN LIBRARY /opt/xds/dectris-neggia.so: cannot "
        "open shared object file: No such file or directory\n"), "hdf5-plugin-missing"),
    ("xdsme", "xds", "stdout",
        " ***** IDXREF *****\n !!! ERROR !!! INSUFFICIENT NUMBER OF ACCEPTED SPOTS.\n",
        "too-few-spots"),
    ("libomp", "xds", "stderr",
        ("OMP: Error #34: System unable to allocate necessary resources for OMP thread:\n"
        "OMP: System error #11: Resource temporarily unavailable\n"
        "OMP: Hint Try decreasing the value of OMP_NUM_THREADS.\n"), "too-many-processes"),
    ("libgomp", "xds", "stderr",
        "libgomp: Thread creation failed: Resource temporarily unavailable", "too-many-processes"),
    ("bash", "xds", "stderr",
        "/bin/bash: /opt/xds/xds_par: cannot execute binary file: Exec format error",
        "program-failed"),
    ("xia2#83", "xia2", "xia2.txt",
        ('Status: error "scitbx Internal Error: /x/scitbx/math/zernike.h(158): '
        'SCITBX_ASSERT(l_max>0) failure."\nPlease send the contents of xia2.txt'),
        "internal-error"),
    ("dials#2554", "dials.integrate", "stderr",
        "Sorry: Unequal number of reflection tables and experiments after splitting",
        "files-do-not-match"),
    ("xia2#115", "pointless", "stdout",
        ("FATAL ERROR message: \nResolution range of Reference data and observed data do not "
        "overlap\n"), "files-do-not-match"),
    ("argparse", "dimple", "stderr", "dimple: error: unrecognized arguments: --foo",
        "unknown-parameter"),
    ("servalcat#3", "dimple", "06-refmac5_jelly.log",
        "Fortran runtime error: Bad value during integer read\n", "program-crashed"),
    ("refmac", "dimple", "08-refmac5_restr.log",
        " Refmac:  Error in label assignments in LABIN\n", "wrong-columns"),
    ("phaser", "dimple", "07-phaser.log", "** Sorry - No solution with all components\n",
        "no-molecular-replacement-solution"),
    ("phaser", "dimple", "07-phaser.log",
        "INPUT ERROR: The composition entered will not fit in the unit cell volume\n",
        "molecular-replacement-failed"),
    ("XDS", "xds", "stdout", "ERROR: XDS license has expired.\n", "licence-expired"),
    ("dials#1655", "dials.export", "stdout",
        ("The data in None are already merged.  Only unmerged (but scaled) data may be used in "
        "this program.\n"), "no-equivalent-reflections"),
    ("dxtbx", "dials.import", "stderr",
        "IOError: No format support found for /data/x_0001.img", "images-unreadable"),
    ("dxtbx#154", "dials.index", "stderr",
        "_pickle.UnpicklingError: invalid load key, '\\x00'.", "wrong-input-file"),
    ("Python", "dials.find_spots", "stderr", "KeyboardInterrupt\n", "interrupted"),
    ("ld.so", "pointless", "stderr",
        ("pointless: symbol lookup error: /opt/ccp4/lib/libclipper-core.so.2: undefined symbol: "
        "_ZN7clipper4Cell"), "library-missing"),
    ("aimless", "aimless", "stdout", "FATAL ERROR message: \nColumn M/ISYM not found in file\n",
        "wrong-columns"),
    ("refmac", "dimple", "08-refmac5_restr.log",
        " Refmac:  There is an error in the input coordinate file\n", "wrong-input-file"),
    ("refmac", "dimple", "08-refmac5_restr.log",
        " Refmac:  Problem in some of the instructions\n", "wrong-parameter-value"),
    ("dials#801", "dials.cosym", "stderr", "    assert refl.size() > 0\nAssertionError",
        "no-reflections-left"),
    ("ld.so", "dials.index", "stderr",
        ("ImportError: /lib/x86_64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS "
        "block"), "library-missing"),
    ("XDS", "xds", "stdout",
        " ***** IDXREF *****\n !!! ERROR !!! INCORRECT SPACE GROUP NUMBER\n",
        "wrong-parameter-value"),
    ("aimless", "aimless", "stdout", "FATAL ERROR message: \nToo few reflections for scaling\n",
        "too-few-reflections"),
    ("requests", "dimple", "stderr",
        ("requests.exceptions.ConnectionError: HTTPSConnectionPool(host='files.rcsb.org', "
        "port=443): Max retries exceeded with url: /download/4uqi.pdb"), "network-unreachable"),
    ("ssl", "dimple", "stderr",
        ("Error: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>."),
        "network-unreachable"),
    ("xia2#124", "xia2", "xia2.txt",
        "Status: error \"can't convert negative value to unsigned\"", "internal-error"),
    ("xia2#200", "xia2", "xia2.txt", 'Status: error "float argument required, not NoneType"',
        "internal-error"),
]  # fmt: skip
"""Source, definition, file, text, and the cause that a person gives it."""

UNHARMED = [
    ("dials.refine", "stdout", "must be between 1 and 5 for a good fit"),
    ("dials.cosym", "stdout", "WARN: WARNING: No profile-integrated reflections found"),
    ("dials.scale", "stdout", "d_min should be less than d_max"),
    ("dials.index", "stderr", "UserWarning: the unit cell must be given\n  warnings.warn(text)"),
    ("xia2", "xia2.txt", "Images 3 outside the scan were left out"),
    ("aimless", "stdout", " AIMLESS:  Normal termination"),
    ("xds", "stdout", " ***** IDXREF *****\n\n ***** INTEGRATE *****\n  cpu time used"),
]  # fmt: skip
"""Definition, file, and text that stands in good runs, too."""

STEPS = {
    "XYCORR": "images-unreadable",
    "COLSPOT": "spot-finding-failed",
    "IDXREF": "indexing-failed",
    "INTEGRATE": "integration-failed",
    "CORRECT": "scaling-failed",
}
"""Step of XDS to the cause of an error in it that no entry knows."""


@pytest.mark.parametrize(("source", "program", "name", "text", "cause"), HELD_OUT)
def test_a_text_has_the_cause_that_a_person_gives_it(
    tmp_path: Path, source: str, program: str, name: str, text: str, cause: str
) -> None:
    assert label(tmp_path, program, name, f"before\n{text}\n") == cause, source


@pytest.mark.parametrize(("program", "name", "text"), UNHARMED)
def test_the_same_words_in_a_log_are_no_cause(
    tmp_path: Path, program: str, name: str, text: str
) -> None:
    assert label(tmp_path, program, name, f"before\n{text}\nafter\n") is None


@pytest.mark.parametrize(("step", "cause"), STEPS.items())
def test_an_unknown_error_of_xds_is_named_by_its_step(
    tmp_path: Path, step: str, cause: str
) -> None:
    text = f" ***** INIT *****\n\n ***** {step} ***** (VERSION X)\n  !!! ERROR !!! SOMETHING NEW\n"
    assert label(tmp_path, "xds", "stdout", text) == cause


def test_the_last_line_of_the_error_output_counts_without_a_prefix(tmp_path: Path) -> None:
    text = "Mosflm exporter: no experiments were specified in the input"
    assert label(tmp_path, "dials.export", "stderr", f"before\n{text}\n") == "input-missing"
    assert label(tmp_path, "dials.export", "stderr", f"{text}\nafter\n") is None


FATAL = [
    ("Can't open file x.mtz", "file-not-found"),
    ("No HKLIN filename given", "input-missing"),
    ("Can't write file x.sca", "input-output-error"),
    ("Failed to read file x.mtz", "mtz-unreadable"),
    ("Cannot have both HKLREF and XYZIN filenames given", "parameters-contradict"),
    ("Specified SPACEGROUP P 4 must belong to same crystal system and point group",
        "space-groups-differ"),
    ("Merged test dataset (HKLIN) has different Laue symmetry to reference set",
        "space-groups-differ"),
    ("All reflection pairs rejected", "no-reflections-left"),
    ("No general reflections accepted in normalisation:", "no-reflections-left"),
    ("Column pair must be both present or both absent: I(+)", "wrong-columns"),
    ("Syntax error, keywords:", "wrong-parameter-value"),
    ("BFACTOR RUN number 3 is not known", "wrong-parameter-value"),
    ("ERROR: cannot decide on which Laue group to select", "symmetry-failed"),
    ("MtzMrgFile::MakeHklList: not a merged file", "wrong-input-file"),
    ("WavelengthChebyshevScale::Restore: ncoeffs mismatch", "scaling-failed"),
    ("something of another kind", "program-failed"),
]  # fmt: skip
"""Messages of Message_fatal in github.com/aaronfinke/lawless, and their causes."""


@pytest.mark.parametrize(("text", "cause"), FATAL)
def test_a_fatal_message_of_aimless_and_pointless_has_a_cause_by_its_kind(
    tmp_path: Path, text: str, cause: str
) -> None:
    shown = f"\n**** ERROR ****\nFATAL ERROR message: \n{text}\n"
    assert label(tmp_path, "pointless", "stdout", shown) == cause


@pytest.mark.parametrize("program", ["dials.index", "xia2", "fast_dp"])
def test_a_large_error_output_is_searched_fast(tmp_path: Path, program: str) -> None:
    text = "INFO: the scan must be in the input, and no file should be given here\n" * 40_000
    began = time.process_time()
    assert label(tmp_path, program, "stderr", f"{text}ValueError: odd\n") == "internal-error"
    assert time.process_time() - began < 6.0
