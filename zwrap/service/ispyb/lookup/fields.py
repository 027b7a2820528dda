"""The parameters that the look-up makes of what it found; names and meaning are python-dlstbx's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from zwrap.errors import MessageError
from zwrap.service.ispyb.lookup import images
from zwrap.service.ispyb.lookup.energy import scan_info
from zwrap.service.ispyb.lookup.found import Collection, Job, Row, number, text, whole

Parameters = dict[str, object]
"""Parameters of a request, by name."""

DETECTOR_CLASSES = ("eiger", "pilatus")
"""Beginnings of names of detectors, which are their classes."""

DETECTOR_NAMES = {
    "Eiger2 XE 16M": "Eiger16M",
    "Eiger2 X 4M": "Eiger4M",
    "Eiger2 X CdTe 9M": "Eiger9MCdTe",
}
"""Model of a detector to its name in Diamond's fast feedback service."""

CELL = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")


def of_job(job: Job) -> Parameters:
    """Return the parameters that tell about a processing job.

    Raises:
        MessageError: One of its sweeps names no images.
    """
    every: dict[str, list[str | None]] = {}
    for key, value in job.parameters:
        every.setdefault(key, []).append(value)
    return {
        "ispyb_processing_job": dict(job.row),
        "ispyb_processing_parameters": every,
        "ispyb_parameters": every,
        "ispyb_reprocessing_parameters": {key: values[-1] for key, values in every.items()},
        "ispyb_images": ",".join(_sweep(job, each) for each in job.sweeps),
    }


def _sweep(job: Job, row: Row) -> str:
    """Return one sweep of a processing job."""
    found = images.sweep(row, whole(row, "startImage"), whole(row, "endImage"))
    if found is None:
        raise MessageError(
            f"Processing job {job.row['processingJobId']} has a sweep of data collection "
            f"{row['dataCollectionId']}, for which the database has no directory, no file template,"
            " or no first and last image; these are needed to name its images."
        )
    return found


def of_collection(found: Collection) -> Parameters:
    """Return the parameters that tell about a data collection, but for those of directories."""
    row = found.row
    kind = kinds(found)
    first, last = images.first_and_last(row)
    sweep = images.sweep(row, first, last)
    result: Parameters = {
        "ispyb_dc_info": {**row, "gridinfo": found.grid},
        "ispyb_dc_class": kind,
        "ispyb_dcg_experiment_type": found.experiment_type,
        "ispyb_beamline": found.beamline,
        "ispyb_visit": found.visit,
        "ispyb_visit_directory": visit_directory(text(row, "imageDirectory"), found.visit),
        "ispyb_detectorclass": _detector_class(found),
        "ispyb_detectorname": DETECTOR_NAMES.get(found.detector or ""),
        "ispyb_image_first": first,
        "ispyb_image_last": last,
        "ispyb_image_template": row["fileTemplate"],
        "ispyb_image_directory": row["imageDirectory"],
        "ispyb_image_pattern": images.pattern(text(row, "fileTemplate")),
        "ispyb_images": "" if kind["screen"] and not kind["grid"] else _other_images(found),
        "ispyb_project": (found.visit or "AUTOMATIC").replace("-", "v"),
        "ispyb_crystal": _crystal(row),
        "ispyb_reference_geometry": None,  # a file, which the database does not know
        **_of_group(found),
        **_of_sample(found),
        **_of_events(found.events),
    }
    if sweep:
        result["ispyb_image"] = sweep
    return result


def kinds(found: Collection) -> dict[str, bool | None]:
    """Return of each kind of data collection whether this one is of it; None: not known."""
    kind, count = found.experiment_type, number(found.row, "numberOfImages")
    serial = kind in ("Serial Fixed", "Serial Jet")
    screen = None if count is None else count == 1 or (count > 1 and found.row["overlap"] != 0)
    return {
        "grid": bool(found.grid),
        "screen": screen and not serial,
        "characterization": kind == "Characterization",
        "rotation": images.is_rotation(found.row),
        "serial_fixed": kind == "Serial Fixed",
        "serial_jet": kind == "Serial Jet",
        "diamond_anvil_cell": kind == "Diamond Anvil High Pressure",
    }


def visit_directory(directory: str, visit: str | None) -> str | None:
    """Return the part of a directory that ends with the name of the visit; None without one."""
    path = PurePosixPath(directory)
    for each in reversed((path, *path.parents)):
        if visit and each.name.lower() == visit.lower():
            return str(each)
    return None


def _detector_class(found: Collection) -> str | None:
    """Return the class of the detector, from its model, else from the file template."""
    model = (found.detector or "").lower()
    for name in DETECTOR_CLASSES:
        if model.startswith(name):
            return name
    template = text(found.row, "fileTemplate")
    if template.endswith("master.h5"):
        return "eiger"
    return "pilatus" if template.endswith(".cbf") else None


def _other_images(found: Collection) -> str:
    """Return the sweeps of the other rotation scans of the group."""
    others = (
        images.sweep(each, *images.first_and_last(each))
        for each in found.group
        if each["dataCollectionId"] != found.row["dataCollectionId"] and images.is_rotation(each)
    )
    return ",".join(filter(None, others))


def _crystal(row: Row) -> str:
    """Return a name for the crystal that xia2 takes: letters and digits."""
    prefix, count = text(row, "imagePrefix"), row["dataCollectionNumber"]
    if not prefix or not count:
        return "DEFAULT"
    return "x" + re.sub("[^A-Za-z0-9]+", "", f"{prefix}{count}")


def _of_group(found: Collection) -> Parameters:
    """Return the parameters that tell about other data collections."""
    related: list[object] = [
        {"dcids": members, "sample_group_id": group, "name": name}
        for group, name, members in found.sample_groups
    ]
    if not found.row["BLSAMPLEID"]:
        related.append({"dcids": found.related})
    elif found.related:
        sample = {"sample_id": found.row["BLSAMPLEID"], "name": found.sample.get("name")}
        related.append({"dcids": found.related, **sample})
    sweeps, files, others = [], [], []
    for each in found.group:
        dcid, (first, last) = each["dataCollectionId"], images.first_and_last(each)
        sweeps.append([dcid, first, last])
        files.append([dcid, images.image(each, first)])
        if dcid != found.row["dataCollectionId"]:
            others.append(dcid)
    return {
        "ispyb_related_dcids": related,
        "ispyb_related_sweeps": sweeps,
        "ispyb_related_images": files,
        "ispyb_dcg_dcids": others,
    }


def _of_sample(found: Collection) -> Parameters:
    """Return the parameters that tell about sample, crystal and protein."""
    group, cell = _space_group_and_cell(found.crystal)
    pin = ("containerId", "location", "subLocation", "loopType")
    return {
        "ispyb_space_group": group,
        "ispyb_unit_cell": cell,
        "ispyb_diffraction_plan": found.plan,
        "ispyb_protein_info": found.protein,
        "ispyb_energy_scan_info": scan_info(
            found.scans, number(found.row, "wavelength"), found.row["BLSAMPLEID"]
        ),
        "ispyb_pdb": _structures(found.structures),
        "ispyb_smiles": found.sample.get("SMILES"),
        "ispyb_preferred_processing": found.pipeline or "xia2/DIALS",
        "ispyb_pin_info": {name: found.sample[name] for name in pin} if found.sample else {},
        "ispyb_msp_sample_ids": {str(place): sample for place, sample in found.pin},
    }


def _of_events(events: list[Row]) -> Parameters:
    """Return the parameters that tell about the events of a serial experiment."""
    shots = sum(
        number(each, "repetition") or 0 for each in events if each["eventType"] == "XrayDetection"
    )
    return {
        "ispyb_ssx_events": [dict(each) for each in events] or None,
        "ispyb_ssx_shots_per_image": int(shots) or None,
    }


def _structures(rows: list[Row]) -> list[dict[str, str | None]]:
    """Return the entries of the Protein Data Bank that have a valid code."""
    codes = [(text(row, "code").strip(), text(row, "source") or None) for row in rows]
    return [
        {"filepath": None, "code": code, "source": source}
        for code, source in codes
        if len(code) == 4 and code.isalnum()
    ]


def _space_group_and_cell(
    crystal: Mapping[str, object],
) -> tuple[object, list[float] | bool | None]:
    """Return space group and cell of a crystal; False for a cell of which parts are not known."""
    group = crystal.get("spaceGroup")
    if not group:
        return None, None
    lengths = [crystal.get(name) for name in CELL]
    cell = [float(each) for each in lengths if isinstance(each, (int, float)) and each]
    return group, cell if len(cell) == len(CELL) else False
