"""Results of xia2 (github.com/xia2/xia2): xia2.json since version 0.3.8, xia2.txt before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.ispyb import Scaling, Solution, cell, command_list, refined
from zwrap.program.parsers import ispyb_xml
from zwrap.program.parsers.document import Place, read_document
from zwrap.program.parsers.generic import beside, first_character, read
from zwrap.program.parsers.geometry import detector_distance_and_beam
from zwrap.program.parsers.merging import in_ispyb_names, table
from zwrap.program.parsers.reports import with_resolution, xtriage


def ispyb_commands(path: Path, options: Mapping[str, object]) -> object:
    """Return commands for ISPyB from xia2.json; for xia2 0.3 from ispyb.xml, else from xia2.txt.

    Each crystal has its own solution, each wavelength its own scaling. Option `log` is the
    xia2.txt, option `report` the xia2-report.json, whose xtriage entries become program messages,
    without those of option `leave_out`; option `resolution` is as `with_resolution` says.
    """
    begin = first_character(path)
    if path.suffix == ".json" or begin == "{":
        found = solutions(path)
    else:
        check_age(beside(options, "log") or path)
        is_xml = path.suffix == ".xml" or begin == "<"
        found = [ispyb_xml.solution(path)] if is_xml else printed_solutions(path)
    return command_list(with_resolution(found, options), xtriage(options))


def solutions(path: Path) -> list[Solution]:
    """Return the scaled crystals of xia2.json; ProgramError if there is none."""
    crystals = read_document(path)["_crystals"]
    scaled = [
        _solution(crystal, scaler)
        for crystal in crystals.values()
        if (scaler := crystal.get("_scaler"))
    ]
    if not scaled:
        raise ProgramError(
            f"{path} holds no scaling results (_scaler is null): xia2 wrote it after integration "
            "and did not get to the end of scaling."
        )
    return scaled


def _solution(crystal: Place, scaler: Place) -> Solution:
    """Return the solution of one crystal, with a scaling for each wavelength."""
    spacegroups = scaler["_scalr_likely_spacegroups"]
    statistics = _statistics(scaler["_scalr_statistics"])
    if not statistics:
        raise ProgramError(f"{scaler.file} holds no statistics at {scaler.route}.")
    order = list(crystal["_wavelengths"].mapping()) if crystal.get("_wavelengths") else []
    names = sorted(statistics, key=lambda name: order.index(name) if name in order else len(order))
    integraters = list(_integraters(crystal, scaler))
    return Solution(
        refined(spacegroups[0].text(), scaler["_scalr_cell"].numbers(6)),
        [
            Scaling(
                in_ispyb_names(statistics[name]),
                [_integration(i) for i in integraters if _wavelength(i) in (name, None)],
            )
            for name in names
        ],
    )


def _statistics(place: Place) -> dict[str, dict[str, list[object]]]:
    """Return statistics by wavelength and name; a key is the JSON text of a list of three names."""
    found = {}
    for key, values in place.items():
        try:
            _, _, wavelength = json.loads(key)
        except (ValueError, TypeError, RecursionError):
            raise ProgramError(
                f"{place.file} has key {key[:60]!r} at {place.route}; the names of project, "
                "crystal and wavelength are expected."
            ) from None
        found[str(wavelength)] = {name: value.listing() for name, value in values.items()}
    return found


def _integraters(crystal: Place, scaler: Place) -> Iterator[Place]:
    """Yield the integrated sweeps in the order in which they were measured."""
    integraters = scaler.get("_scalr_integraters")
    if integraters and integraters.value:
        yield from (integrater for _, integrater in sorted(integraters.items(), key=_epoch))
        return
    for wavelength in crystal["_wavelengths"].values():
        for sweep in wavelength["_sweeps"].entries():
            if integrater := sweep.get("_integrater"):
                yield integrater


def _epoch(item: tuple[str, Place]) -> float:
    """Return the time of a sweep, which is the key of its integrater; 0.0 for another key."""
    try:
        return float(item[0])
    except ValueError:
        return 0.0


def _wavelength(integrater: Place) -> str | None:
    """Return the name of a sweep's wavelength; None if it has none."""
    name = integrater.get("_intgr_dname")
    return name.text() if name else None


def _integration(integrater: Place) -> dict[str, object]:
    """Return the values of one integrated sweep."""
    first, last = integrater["_intgr_wedge"].numbers(2)
    return {
        **cell(integrater["_intgr_cell"].numbers(6)),
        "start_image_no": int(first),
        "end_image_no": int(last),
        **_geometry(integrater),
    }


def _geometry(integrater: Place) -> dict[str, float]:
    """Return refined distance and beam centre, in mm; nothing if the indexer kept no models."""
    refiner = integrater.get("_intgr_refiner")
    indexers = refiner.get("_refinr_indexers") if refiner else None
    for indexer in indexers.values() if indexers else ():
        models = indexer.get("_indxr_experiment_list")
        if models and models.get("detector") and models.get("beam"):
            distance, fast, slow = detector_distance_and_beam(
                models["detector"][0], models["beam"][0]
            )
            # ISPyB's X and Y are along slow and fast here, as in xia2's own reports.
            return {
                "refined_detector_dist": distance,
                "refined_xbeam": slow,
                "refined_ybeam": fast,
            }
    return {}


def check_age(log: Path) -> None:
    """Raise ProgramError for a log of a xia2 newer than 0.3, which must have left a xia2.json."""
    version = re.search(r"^XIA2 (\S+)", read(log), re.MULTILINE)
    if not version or not version[1].startswith("0.3"):
        which = f"xia2 {version[1]}" if version else "a program that does not say its version"
        raise ProgramError(f"{log} was written by {which}, which left no xia2.json.")


def printed_solutions(path: Path) -> list[Solution]:
    """Return the one solution in a xia2.txt of xia2 0.3, with a scaling for each wavelength."""
    text = read(path)
    lines = text.splitlines()
    tables = [
        table(lines[below] for below in range(number + 1, len(lines)))
        for number, line in enumerate(lines)
        if re.match(r"For \S+/\S+/\S+", line)
    ]
    group = re.search(r"^Assuming spacegroup: (.+)$", text, re.MULTILINE)
    numbers = re.search(r"^Unit cell.*:\s*\n(.*)\n(.*)$", text, re.MULTILINE)
    values = [
        float(word)
        for word in re.findall(r"(?<!\d)\d++\.\d+", " ".join(numbers.groups() if numbers else ()))
    ]
    if not tables or not all(tables) or not group or len(values) != 6:
        raise ProgramError(f"{path} holds no table of merging statistics, space group and cell.")
    scalings = [Scaling(in_ispyb_names(rows)) for rows in tables]
    return [Solution(refined(group[1].strip(), values), scalings)]
