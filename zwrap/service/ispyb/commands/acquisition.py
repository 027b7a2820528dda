"""Commands about data collections and their groups."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from zwrap.service.ispyb.commands.recording import recorded
from zwrap.service.ispyb.contract import Call, Field
from zwrap.service.ispyb.writing import table

_GROUP = Field("dataCollectionGroupId", "number of the group")


def _experiment(call: Call) -> Mapping[str, object]:
    """Return the number of a kind of experiment, and the remark that Diamond's service makes."""
    columns = table("ExperimentType").columns
    query = sa.select(sa.func.max(columns.experimentTypeId))
    name = call.get("experiment_type")
    number = call.connection.scalar(query.where(columns.name == str(name)))
    return {"experimentTypeId": number, "comments": "Created for Murfey"}


GROUP = recorded(
    "insert_data_collection_group",
    "A group of data collections",
    "DataCollectionGroup",
    {
        "session_id": Field("sessionId", "number of the session", required=True),
        "experiment_type": Field("experimentType", "kind of experiment, such as `OSC`"),
        "start_time": Field("startTime", "time of its start"),
    },
    fixed=_experiment,
)

COLLECTION = recorded(
    "insert_data_collection",
    "A data collection",
    "DataCollection",
    {
        "dcgid": _GROUP._replace(required=True),
        "session_id": Field("SESSIONID", "number of the session"),
        "start_time": Field("startTime", "time of its start"),
        "image_directory": Field("imageDirectory", "directory of its images"),
        "image_suffix": Field("imageSuffix", "end of their names"),
        "voltage": Field("voltage", "voltage, kV"),
    },
    fixed=lambda _: {"binning": None},
)

SNAPSHOTS = recorded(
    "upsert_data_collection_mx",
    "Pictures of the crystal of a data collection",
    "DataCollection",
    {
        "dcid": Field("dataCollectionId", "number of a collection to change; null: a new one"),
        "dcgid": _GROUP,
        **{
            f"xtal_snapshot{place}": Field(f"xtalSnapshotFullPath{place}", "path of a picture")
            for place in (1, 2, 3, 4)
        },
    },
    number="dcid",
    fixed=lambda _: {"SESSIONID": None, "binning": None},
)
