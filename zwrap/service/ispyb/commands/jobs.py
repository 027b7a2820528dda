"""Command that creates a processing job, and sends it on to be started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa

from zwrap.errors import MessageError
from zwrap.service.ispyb.commands.recording import fields, mappings
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row, parameter, table

_JOB = fields(
    "ProcessingJob",
    {
        "DCID": Field(
            "dataCollectionId", "number of the data collection; 0: that of the first sweep"
        ),
        "source": Field("automatic", "`automatic` (1), or anything else (0)"),
        "comment": Field("comments", "remarks, for people"),
        "displayname": Field("displayName", "name of the job, for people"),
        "recipe": Field("recipe", "name of the recipe"),
    },
)
_PARAMETER = fields(
    "ProcessingJobParameter",
    {"key": Field("parameterKey", "name"), "value": Field("parameterValue", "value")},
)
_SWEEP = fields(
    "ProcessingJobImageSweep",
    {
        "DCID": Field("dataCollectionId", "number of its data collection", required=True),
        "start": Field("startImage", "number of the first image"),
        "end": Field("endImage", "number of the last image"),
    },
)
_FIELDS = {
    **_JOB,
    **{f"parameters[].{name}": each for name, each in _PARAMETER.items()},
    **{f"sweeps[].{name}": each for name, each in _SWEEP.items()},
    "triggervariables[]": Field("", "further parameters of the request: `key` and `value`"),
    "autostart": Field("", "true: the request goes to output `trigger`, false: to `held`"),
}


class _Sweep(NamedTuple):
    """One sweep, as it was sent or found, and where it stands in the message."""

    values: Mapping[str, object]
    at: str


def _create(call: Call) -> int:
    """Write a job with its parameters and sweeps, and send the request; return its number."""
    sweeps = [
        _Sweep(each, f"sweeps[{place}].")
        for place, each in enumerate(mappings(call, "sweeps", default=[]))
    ]
    parameters = mappings(call, "parameters", default=[])
    variables = mappings(call, "triggervariables", default=[])
    collection = parameter(call, "DCID", _JOB) if call.get("DCID") else None
    if not sweeps:
        sweeps = [_found_sweep(call, collection)]
    row = Row(call, "ProcessingJob")
    row.take({name: each for name, each in _JOB.items() if name not in ("DCID", "source")})
    row.put("automatic", int(call.get("source") == "automatic"), "source")
    row.put("dataCollectionId", collection or sweeps[0].values.get("DCID"), "DCID")
    job = row.insert()
    for place, each in enumerate(parameters):
        at = f"parameters[{place}]."
        found = Row(call, "ProcessingJobParameter").take(_PARAMETER, each, at)
        found.put("processingJobId", job).insert()
    for sweep in sweeps:
        found = Row(call, "ProcessingJobImageSweep").take(_SWEEP, sweep.values, sweep.at)
        found.put("processingJobId", job).insert()
    request = {str(each.get("key")): each.get("value") for each in variables}
    call.send(
        "trigger" if call.get("autostart") else "held",
        {"parameters": {**request, "ispyb_process": job}},
    )
    return job


def _found_sweep(call: Call, collection: object) -> _Sweep:
    """Return the images of a data collection, by its own record."""
    about = f"Command {call.command!r}: "
    if collection is None:
        raise MessageError(f"{about}DCID and sweeps are missing; one of them is expected.")
    columns = table("DataCollection").columns
    query = sa.select(columns.startImageNumber, columns.numberOfImages)
    found = call.connection.execute(query.where(columns.dataCollectionId == collection)).first()
    if found is None:
        raise MessageError(
            f"{about}DCID (DataCollection.dataCollectionId) is {collection}, and there is no such "
            "row."
        )
    start, count = found
    if not start or not count:
        raise MessageError(
            f"{about}DataCollection {collection} has no startImageNumber or numberOfImages; say by "
            "'sweeps' which images the job is for."
        )
    return _Sweep({"DCID": collection, "start": start, "end": start + count - 1}, "DCID: ")


JOB = Command(
    "create_ispyb_job",
    _create,
    _FIELDS,
    "A processing job; the request to start it, whose parameters are the trigger variables and "
    "`ispyb_process`, its number, goes to an output",
)
