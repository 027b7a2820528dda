"""Commands about screening: what was found on few images, and strategies of data collection."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from zwrap.service.ispyb.commands.recording import fields, recorded
from zwrap.service.ispyb.contract import Call, Field
from zwrap.service.ispyb.writing import parameter, table

_SCREENING = {
    "dcgid": Field("dataCollectionGroupId", "number of the group; none: that of the collection"),
    "dcid": Field("dataCollectionId", "number of the data collection"),
    "programversion": Field("programVersion", "program"),
    "shortcomments": Field("shortComments", "remarks in a few words, for people"),
    "comments": Field("comments", "remarks, for people"),
    "autoprocprogramid": Field("autoProcProgramId", "number of the program run"),
}


def _group(call: Call) -> Mapping[str, object]:
    """Return the group of the data collection, if the message names none."""
    known = fields("Screening", _SCREENING)
    group = parameter(call, "dcgid", known)
    collection = parameter(call, "dcid", known)
    if group is None and collection is not None:
        columns = table("DataCollection").columns
        query = sa.select(columns.dataCollectionGroupId)
        group = call.connection.scalar(query.where(columns.dataCollectionId == collection))
    return {"dataCollectionGroupId": group}


SCREENING = recorded(
    "insert_screening",
    "One screening",
    "Screening",
    _SCREENING,
    fixed=_group,
)

INPUT = recorded(
    "insert_screening_input",
    "What a screening began with",
    "ScreeningInput",
    {
        "screening_id": Field("screeningId", "number of the screening", required=True),
        "beamx": Field("beamX", "beam centre in x"),
        "beamy": Field("beamY", "beam centre in y"),
        "rmserrlim": Field("rmsErrorLimits", "limit of the error of spot positions"),
        "minfractionindexed": Field("minimumFractionIndexed", "least fraction of indexed spots"),
        "maxfractionrejected": Field(
            "maximumFractionRejected", "largest fraction of rejected spots"
        ),
        "minsignal2noise": Field("minimumSignalToNoise", "least signal to noise"),
    },
)


def _outcome(call: Call) -> Mapping[str, object]:
    """Return what follows from other parameters, or is the same for all."""
    return {
        "mosaicityEstimated": int(bool(call.get("mosaicity"))),
        "indexingSuccess": 1,
        "strategySuccess": 1,
        "alignmentSuccess": int(bool(call.get("alignmentSuccess"))),
    }


OUTPUT = recorded(
    "insert_screening_output",
    "What a screening found; indexing and strategy count as successful",
    "ScreeningOutput",
    {
        "screening_id": Field("screeningId", "number of the screening", required=True),
        "statusdescription": Field("statusDescription", "what came out, for people"),
        "rejectedreflections": Field("rejectedReflections", "number of rejected reflections"),
        "resolutionobtained": Field("resolutionObtained", "resolution, Å"),
        "spotdeviationr": Field("spotDeviationR", "radial deviation of spots"),
        "spotdeviationtheta": Field("spotDeviationTheta", "deviation of spots in theta"),
        "beamshiftx": Field("beamShiftX", "shift of the beam centre in x"),
        "beamshifty": Field("beamShiftY", "shift of the beam centre in y"),
        "numspotsfound": Field("numSpotsFound", "number of spots"),
        "numspotsused": Field("numSpotsUsed", "number of spots that were used"),
        "numspotsrejected": Field("numSpotsRejected", "number of spots that were rejected"),
        "mosaicity": Field("mosaicity", "mosaic spread; a value also sets mosaicityEstimated to 1"),
        "ioversigma": Field("iOverSigma", "I/sigma(I)"),
        "diffractionrings": Field("diffractionRings", "1 if there are rings, else 0"),
        "rankingresolution": Field("rankingResolution", "resolution that counts for the rank, Å"),
        "program": Field("program", "program"),
        "dosetotal": Field("doseTotal", "total dose"),
        "totalexposuretime": Field("totalExposureTime", "total exposure, s"),
        "totalrotationrange": Field("totalRotationRange", "total rotation, degrees"),
        "totalnoimages": Field("totalNumberOfImages", "number of images"),
        "rfriedel": Field("rFriedel", "R factor between Friedel mates"),
        "alignmentSuccess": Field("alignmentSuccess", "true if the crystal was aligned"),
    },
    fixed=_outcome,
)

_LATTICE: dict[str, Field] = {
    "screening_output_id": Field("screeningOutputId", "number of the outcome", required=True),
    "spacegroup": Field("spaceGroup", "space group"),
    "pointgroup": Field("pointGroup", "point group"),
    "bravaislattice": Field("bravaisLattice", "Bravais lattice"),
    **{
        f"raworientationmatrix{row}{column}": Field(
            f"rawOrientationMatrix_{row}_{column}", "orientation matrix"
        )
        for row in "abc"
        for column in "xyz"
    },
    **{f"unitcell{axis}": Field(f"unitCell_{axis}", "cell, Å") for axis in "abc"},
    **{
        f"unitcell{angle}": Field(f"unitCell_{angle}", "cell, degrees")
        for angle in ("alpha", "beta", "gamma")
    },
    "labelitindexing": Field("labelitIndexing", "1 if LABELIT indexed it, else 0"),
}
LATTICE = recorded(
    "insert_screening_output_lattice",
    "Lattice of the outcome of a screening",
    "ScreeningOutputLattice",
    _LATTICE,
)


STRATEGY = recorded(
    "insert_screening_strategy",
    "A strategy",
    "ScreeningStrategy",
    {
        "screening_output_id": Field("screeningOutputId", "number of the outcome", required=True),
        "phistart": Field("phiStart", "first phi, degrees"),
        "phiend": Field("phiEnd", "last phi, degrees"),
        "rotation": Field("rotation", "rotation, degrees"),
        "exposuretime": Field("exposureTime", "exposure of an image, s"),
        "resolution": Field("resolution", "resolution, Å"),
        "completeness": Field("completeness", "completeness"),
        "multiplicity": Field("multiplicity", "multiplicity"),
        "anomalous": Field("anomalous", "1 if Friedel mates are kept apart, else 0 (0)"),
        "program": Field("program", "program"),
        "rankingresolution": Field("rankingResolution", "resolution that counts for the rank, Å"),
        "transmission": Field("transmission", "transmission"),
    },
    fixed=lambda call: {"anomalous": call.get("anomalous") or 0},
)

WEDGE = recorded(
    "insert_screening_strategy_wedge",
    "A wedge of a strategy: one orientation of the crystal",
    "ScreeningStrategyWedge",
    {
        "screening_strategy_id": Field(
            "screeningStrategyId", "number of the strategy", required=True
        ),
        "wedgenumber": Field("wedgeNumber", "number in the strategy (1)"),
        "resolution": Field("resolution", "resolution, Å"),
        "completeness": Field("completeness", "completeness"),
        "multiplicity": Field("multiplicity", "multiplicity"),
        "dosetotal": Field("doseTotal", "total dose"),
        "noimages": Field("numberOfImages", "number of images"),
        "phi": Field("phi", "phi, degrees"),
        "kappa": Field("kappa", "kappa, degrees"),
        "chi": Field("chi", "chi, degrees"),
        "comments": Field("comments", "remarks, for people"),
        "wavelength": Field("wavelength", "wavelength, Å"),
    },
    fixed=lambda call: {"wedgeNumber": call.get("wedgenumber") or 1},
)

SUB_WEDGE = recorded(
    "insert_screening_strategy_sub_wedge",
    "A part of a wedge; its number is always 1",
    "ScreeningStrategySubWedge",
    {
        "screening_strategy_wedge_id": Field(
            "screeningStrategyWedgeId", "number of the wedge", required=True
        ),
        "rotationaxis": Field("rotationAxis", "name of the axis"),
        "axisstart": Field("axisStart", "first angle, degrees"),
        "axisend": Field("axisEnd", "last angle, degrees"),
        "exposuretime": Field("exposureTime", "exposure of an image, s"),
        "transmission": Field("transmission", "transmission"),
        "oscillationrange": Field("oscillationRange", "rotation of an image, degrees"),
        "completeness": Field("completeness", "completeness"),
        "multiplicity": Field("multiplicity", "multiplicity"),
        "resolution": Field("RESOLUTION", "resolution, Å"),
        "dosetotal": Field("doseTotal", "total dose"),
        "noimages": Field("numberOfImages", "number of images"),
        "comments": Field("comments", "remarks, for people"),
    },
    fixed=lambda _: {"subWedgeNumber": 1},
)
