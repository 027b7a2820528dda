"""Commands about single images: their quality, and crystals that X-rays found on a grid."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from zwrap.errors import MessageError, short
from zwrap.service.ispyb.commands.recording import fields, mappings, number_of
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row, parameter

# -- their quality ---------------------------------------------------------------------------------

_IMAGE = "number of the image; `file-pattern-index` comes first"
_QUALITY = fields(
    "ImageQualityIndicators",
    {
        "dcid": Field("dataCollectionId", "number of the data collection", required=True),
        "file-pattern-index": Field("imageNumber", _IMAGE),
        "file-number": Field("imageNumber", _IMAGE),
        "n_spots_total": Field("spotTotal", "number of spots; this or `dozor_score` is needed"),
        "n_spots_no_ice": Field("goodBraggCandidates", "number of spots without rings of ice"),
        "estimated_d_min": Field("method1Res", "estimated resolution, Å; also in method2Res"),
        "total_intensity": Field("totalIntegratedSignal", "total intensity of spots"),
        "dozor_score": Field("dozor_score", "score of dozor"),
    },
)


def _store_quality(call: Call) -> int:
    """Write the quality of an image, or change it: what is null stays. Returns 1."""
    collection = number_of(call, "dcid", _QUALITY)
    named = "file-pattern-index" if call.get("file-pattern-index") else "file-number"
    image = parameter(call, named, _QUALITY)
    if not image:
        raise MessageError(f"Command {call.command!r}: {named} is missing: the number of an image.")
    if call.get("n_spots_total") is None and call.get("dozor_score") is None:
        raise MessageError(
            f"Command {call.command!r}: n_spots_total and dozor_score are missing; one of them is "
            "expected."
        )
    row = Row(call, "ImageQualityIndicators").take(
        {each: spec for each, spec in _QUALITY.items() if "file" not in each and each != "dcid"}
    )
    row.put("method2Res", row.values["method1Res"], "estimated_d_min")
    columns = row.table.columns
    this = sa.and_(columns.dataCollectionId == collection, columns.imageNumber == image)
    query = sa.select(columns.imageNumber).where(this).with_for_update()
    if call.connection.execute(query).first() is None:
        row.put("dataCollectionId", collection, "dcid").put("imageNumber", image, named).insert()
    else:
        row.update_where(this)
    return 1


QUALITY = Command(
    "store_per_image_analysis_results",
    _store_quality,
    _QUALITY,
    "The quality of one image; of one that is known, what is null stays",
)

# -- crystals on a grid ----------------------------------------------------------------------------

_CENTRING = fields(
    "XrayCentring",
    {
        "dcgid": Field("dataCollectionGroupId", "number of the group", required=True),
        "status": Field("status", "`success`, `failed` or `pending`", required=True),
        "type": Field("xrayCentringType", "`2d` or `3d`", required=True),
    },
)
_FOUND = fields(
    "XrayCentringResult",
    {
        "n_voxels": Field("numberOfVoxels", "number of voxels"),
        "total_count": Field("totalCount", "sum over its voxels"),
        "sample_id": Field("blSampleId", "number of the sample"),
    },
)
_PLACES = {
    "centre_of_mass": Field("XrayCentringResult.centreOfMassX", "its centre, in voxels"),
    "max_voxel": Field("XrayCentringResult.maxVoxelX", "its largest voxel"),
    "bounding_box": Field(
        "XrayCentringResult.boundingBoxMinX",
        "two corners of its box, in voxels, a list of two lists",
    ),
}
"""Fields that are lists of coordinates; columns end in X, Y and, in three dimensions, Z."""


def _insert_centring(call: Call) -> int:
    """Write a centring with the crystals that it found; return its number."""
    row = Row(call, "XrayCentring").take(_CENTRING)
    dimensions = 3 if row.values["xrayCentringType"] == "3d" else 2
    found = [
        _crystal(call, each, f"results[{place}].", dimensions)
        for place, each in enumerate(mappings(call, "results"))
    ]
    number = row.insert()
    for each in found:
        each.put("xrayCentringId", number).insert()
    return number


def _crystal(call: Call, given: Mapping[str, object], at: str, dimensions: int) -> Row:
    """Return the row of a crystal."""
    row = Row(call, "XrayCentringResult").take(_FOUND, given, at)
    box = given.get("bounding_box")
    corners = [None, None] if box is None else box
    if not isinstance(corners, list) or len(corners) != 2:
        raise MessageError(
            f"Command {call.command!r}: {at}bounding_box is {short(box)}; a list of two corners is "
            "expected."
        )
    for field, stem, place in (
        ("centre_of_mass", "centreOfMass", given.get("centre_of_mass")),
        ("max_voxel", "maxVoxel", given.get("max_voxel")),
        ("bounding_box[0]", "boundingBoxMin", corners[0]),
        ("bounding_box[1]", "boundingBoxMax", corners[1]),
    ):
        _put_place(call, row, f"{at}{field}", stem, place, dimensions)
    return row


def _put_place(call: Call, row: Row, field: str, stem: str, place: object, dimensions: int) -> None:
    """Set the columns of a place; further coordinates than there are dimensions are left out."""
    if place is None or place == []:
        place = [None] * dimensions
    if not isinstance(place, list) or len(place) < dimensions:
        raise MessageError(
            f"Command {call.command!r}: {field} is {short(place)}; {dimensions} coordinates are "
            "expected."
        )
    for axis, each in zip("XYZ"[:dimensions], place, strict=False):
        row.put(f"{stem}{axis}", each, field)


CENTRING = Command(
    "insert_xray_centring",
    _insert_centring,
    {**_CENTRING, **{f"results[].{name}": each for name, each in {**_FOUND, **_PLACES}.items()}},
    "Crystals that X-rays found on a grid",
)
