"""ISPyB's XML of data reduction (AutoProcContainer), as xia2, autoPROC and EDNA write it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

from zwrap.errors import ProgramError
from zwrap.host.printable import shown_path
from zwrap.program.ispyb import SHELLS, Scaling, Solution, Values, cell, command_list, refined
from zwrap.program.parsers.generic import Options, value
from zwrap.program.parsers.reports import with_resolution
from zwrap.program.parsers.xmltext import root

log = logging.getLogger(__name__)

_STATISTICS = {
    "resolutionLimitHigh": "res_lim_high",
    "resolutionLimitLow": "res_lim_low",
    "completeness": "completeness",
    "multiplicity": "multiplicity",
    "ccHalf": "cc_half",
    "anomalousCompleteness": "anom_completeness",
    "ccAnomalous": "cc_anom",
    "anomalousMultiplicity": "anom_multiplicity",
    "nTotalObservations": "n_tot_obs",
    "nTotalUniqueObservations": "n_tot_unique_obs",
    "rMerge": "r_merge",
    "rMeasAllIPlusIMinus": "r_meas_all_iplusi_minus",
    "rMeasWithinIPlusIMinus": "r_meas_within_iplusi_minus",
    "rPimAllIPlusIMinus": "r_pim_all_iplusi_minus",
    "rPimWithinIPlusIMinus": "r_pim_within_iplusi_minus",
    "meanIOverSigI": "mean_i_sig_i",
    "fractionalPartialBias": "fract_partial_bias",
    "resIOverSigI2": "res_i_sig_i_2",
    "anomalous": "anom",
}
_INTEGRATION = {
    "anomalous": "anom",
    "startImageNumber": "start_image_no",
    "endImageNumber": "end_image_no",
    "refinedDetectorDistance": "refined_detector_dist",
    "refinedXBeam": "refined_xbeam",
    "refinedYBeam": "refined_ybeam",
    "rotationAxisX": "rot_axis_x",
    "rotationAxisY": "rot_axis_y",
    "rotationAxisZ": "rot_axis_z",
    "beamVectorX": "beam_vec_x",
    "beamVectorY": "beam_vec_y",
    "beamVectorZ": "beam_vec_z",
}
_FAILED = ("0", "false", "failed", "failure")
"""Values of `processingStatus`, in small letters, of a program that says that it failed."""

_AXES = ("a", "b", "c", "alpha", "beta", "gamma")


def ispyb_commands(path: Path, options: Options) -> object:
    """Return commands for ISPyB: one solution, with a scaling for each scaling container.

    autoPROC repeats the scaling container, with the same statistics, for each sweep: with option
    `scaling: last` only the last one counts. It has X and Y of the beam in the other order than
    ISPyB: option `swap_beam`. With option `program` the results are those of a second program,
    which is registered under this name, and with `attachments` the files that the document names
    are added, those that are there. Option `resolution` is as `with_resolution` says.
    """
    document = root(path)
    found = _solution(path, document, options)
    name = options.get("program")
    return command_list(
        with_resolution([found], options),
        attachments=_attachments(path, document) if options.get("attachments") else (),
        program=str(name) if name else None,
    )


def solution(path: Path) -> Solution:
    """Return the solution of one crystal; ProgramError names what is missing in the file."""
    return _solution(path, root(path), {})


def _solution(path: Path, document: Element, options: Options) -> Solution:
    """Return the solution in a document; ProgramError if the program says that it failed."""
    _check_status(path, document)
    found = _first(path, document, "AutoProc")
    axes = [_number(path, found, f"refinedCell_{axis}") for axis in _AXES]
    containers = list(document.iter("AutoProcScalingContainer"))
    if options.get("scaling") == "last":
        del containers[:-1]
    scalings = [_scaling(path, each, options) for each in containers]
    if not scalings:
        raise ProgramError(f"{path} holds no element AutoProcScalingContainer.")
    return Solution(refined(_text(path, found, "spaceGroup"), axes), scalings)


def _check_status(path: Path, document: Element) -> None:
    """Raise ProgramError, with the program's own message, if it says that it failed."""
    for program in document.iter("AutoProcProgram"):
        status = program.findtext("processingStatus", "").strip()
        if status.lower() in _FAILED:
            message = program.findtext("processingMessage", "").strip()[:300]
            raise ProgramError(
                f"{path} says that processing failed (processingStatus {status})"
                f"{f': {message}' if message else ''}."
            )


def _attachments(path: Path, document: Element) -> list[Values]:
    """Return the files that a document names, as values of attachments.

    One that is not there is left out, with a line in the log: ISPyB would refuse it, and with it
    the whole list of commands. A directory that is no absolute path begins at that of the document.
    """
    found: list[Values] = []
    for element in document.iter("AutoProcProgramAttachment"):
        name = _text(path, element, "fileName")
        directory = path.absolute().parent / _text(path, element, "filePath")
        if _is_missing(directory / name):
            log.warning(
                "%s names the file %s, which is not there and is left out",
                shown_path(path), shown_path(directory / name),
            )  # fmt: skip
            continue
        kind = element.findtext("fileType", "").strip().lower() or "log"
        found.append({"file_name": name, "file_path": str(directory), "file_type": kind})
    return found


def _is_missing(file: Path) -> bool:
    """Return True if there is no such file; False if nobody knows, because it cannot be reached."""
    with contextlib.suppress(OSError):
        return not file.is_file()
    return False


def _scaling(path: Path, container: Element, options: Options) -> Scaling:
    """Return the statistics and integrations of a scaling container."""
    statistics = {
        _text(path, element, "scalingStatisticsType"): _values(path, element, _STATISTICS)
        for element in container.iter("AutoProcScalingStatistics")
    }
    missing = [shell for shell in SHELLS if shell not in statistics]
    if missing:
        raise ProgramError(f"{path} holds no AutoProcScalingStatistics of {', '.join(missing)}.")
    names = dict(_INTEGRATION)
    if options.get("swap_beam"):
        names |= {"refinedXBeam": "refined_ybeam", "refinedYBeam": "refined_xbeam"}
    return Scaling(
        {shell: statistics[shell] for shell in SHELLS},
        [
            {
                **cell([_number(path, element, f"cell_{axis}") for axis in _AXES]),
                **_values(path, element, names),
            }
            for element in container.iter("AutoProcIntegration")
        ],
    )


def _values(path: Path, element: Element, names: Mapping[str, str]) -> dict[str, float | None]:
    """Return the numbers in an element, by their names in ISPyB's commands."""
    return {
        name: _number(path, element, tag)
        for tag, name in names.items()
        if element.findtext(tag, "").strip()
    }


def _first(path: Path, root: Element, tag: str) -> Element:
    """Return the first element with a tag; ProgramError if there is none."""
    found = next(root.iter(tag), None)
    if found is None:
        raise ProgramError(f"{path} holds no element {tag}.")
    return found


def _text(path: Path, element: Element, tag: str) -> str:
    """Return the text of a child element; ProgramError if it is missing or empty."""
    text = element.findtext(tag, "").strip()
    if not text:
        raise ProgramError(f"{path} holds nothing in element {tag} of {element.tag}.")
    return text


def _number(path: Path, element: Element, tag: str) -> float | None:
    """Return the number in a child element, None for ``****``; ProgramError if it holds none."""
    text = _text(path, element, tag)
    found = value(text)
    if isinstance(found, str):
        raise ProgramError(f"{path} holds {text[:40]!r} in element {tag}; a number is expected.")
    return found
