"""ISPyB's XML of data reduction (AutoProcContainer), as xia2, autoPROC and EDNA write it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.ispyb import SHELLS, Scaling, Solution, cell, command_list, refined
from zwrap.program.parsers.generic import content, number

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
}
_INTEGRATION = {
    "startImageNumber": "start_image_no",
    "endImageNumber": "end_image_no",
    "refinedDetectorDistance": "refined_detector_dist",
    "refinedXBeam": "refined_xbeam",
    "refinedYBeam": "refined_ybeam",
}
_AXES = ("a", "b", "c", "alpha", "beta", "gamma")


def ispyb_commands(path: Path, options: Mapping[str, object]) -> object:
    """Return commands for ISPyB: one solution, with a scaling for each scaling container."""
    del options
    return command_list([solution(path)])


def solution(path: Path) -> Solution:
    """Return the solution of one crystal; ProgramError names what is missing in the file."""
    try:
        root = ET.fromstring(content(path))  # noqa: S314  (expat limits entities)
    except (ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise ProgramError(f"{path} is not valid XML: {error}.") from None
    found = _first(path, root, "AutoProc")
    axes = [_number(path, found, f"refinedCell_{axis}") for axis in _AXES]
    scalings = [_scaling(path, each) for each in root.iter("AutoProcScalingContainer")]
    if not scalings:
        raise ProgramError(f"{path} holds no element AutoProcScalingContainer.")
    return Solution(refined(_text(path, found, "spaceGroup"), axes), scalings)


def _scaling(path: Path, container: ET.Element) -> Scaling:
    """Return the statistics and integrations of a scaling container."""
    statistics = {
        _text(path, element, "scalingStatisticsType"): _values(path, element, _STATISTICS)
        for element in container.iter("AutoProcScalingStatistics")
    }
    missing = [shell for shell in SHELLS if shell not in statistics]
    if missing:
        raise ProgramError(f"{path} holds no AutoProcScalingStatistics of {', '.join(missing)}.")
    return Scaling(
        {shell: statistics[shell] for shell in SHELLS},
        [
            {
                **cell([_number(path, element, f"cell_{axis}") for axis in _AXES]),
                **_values(path, element, _INTEGRATION),
            }
            for element in container.iter("AutoProcIntegration")
        ],
    )


def _values(path: Path, element: ET.Element, names: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers in an element, by their names in ISPyB's commands."""
    return {
        name: _number(path, element, tag)
        for tag, name in names.items()
        if element.findtext(tag, "").strip()
    }


def _first(path: Path, root: ET.Element, tag: str) -> ET.Element:
    """Return the first element with a tag; ProgramError if there is none."""
    found = next(root.iter(tag), None)
    if found is None:
        raise ProgramError(f"{path} holds no element {tag}.")
    return found


def _text(path: Path, element: ET.Element, tag: str) -> str:
    """Return the text of a child element; ProgramError if it is missing or empty."""
    text = element.findtext(tag, "").strip()
    if not text:
        raise ProgramError(f"{path} holds nothing in element {tag} of {element.tag}.")
    return text


def _number(path: Path, element: ET.Element, tag: str) -> float:
    """Return the number in a child element; ProgramError if it holds none."""
    text = _text(path, element, tag)
    value = number(text)
    if isinstance(value, str):
        raise ProgramError(f"{path} holds {text[:40]!r} in element {tag}; a number is expected.")
    return value
