"""The columns that the look-up reads, and how it reads a database that lacks some of them.

The ORM of package `ispyb` is of one schema; the database of a facility may be of an older one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import ispyb.sqlalchemy as models
import sqlalchemy as sa
from sqlalchemy.sql import visitors

OF_IMAGES = ("dataCollectionId", "startImageNumber", "numberOfImages", "overlap", "axisRange",
             "fileTemplate", "imageDirectory")  # fmt: skip
"""Columns of a data collection that tell which images it has."""

OF_SAMPLE = ("blSampleId", "name", "SMILES", "containerId", "location", "subLocation", "loopType")
OF_CRYSTAL = ("spaceGroup", "cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")
OF_SCAN = ("energyScanId", "blSampleId", "element", "peakEnergy", "peakFPrime", "peakFDoublePrime",
           "inflectionEnergy", "inflectionFPrime", "inflectionFDoublePrime")  # fmt: skip

ALL = (
    models.DataCollection, models.GridInfo, models.DiffractionPlan, models.Protein, models.Event,
    models.ProcessingJob, models.ProcessingJobParameter, models.ProcessingJobImageSweep,
)  # fmt: skip
"""Tables of which all columns are read."""

SOME = {
    models.DataCollectionGroup: ("dataCollectionGroupId", "sessionId", "blSampleId",
                                 "experimentType"),
    models.BLSession: ("sessionId", "proposalId", "beamLineName", "visit_number", "startDate"),
    models.Proposal: ("proposalId", "proposalCode", "proposalNumber"),
    models.Detector: ("detectorId", "detectorModel"),
    models.BLSample: (*OF_SAMPLE, "crystalId", "diffractionPlanId"),
    models.Container: ("containerId", "priorityPipelineId"),
    models.ProcessingPipeline: ("processingPipelineId", "name"),
    models.Crystal: ("crystalId", "proteinId", *OF_CRYSTAL),
    models.EnergyScan: ("sessionId", *OF_SCAN),
    models.PDB: ("pdbId", "code", "source"),
    models.ProteinHasPDB: ("proteinhaspdbid", "proteinid", "pdbid"),
    models.EventChain: ("eventChainId", "dataCollectionId"),
    models.EventType: ("eventTypeId", "name"),
    models.BLSampleGroup: ("blSampleGroupId", "name"),
    models.BLSampleGroupHasBLSample: ("blSampleGroupId", "blSampleId"),
}  # fmt: skip
"""Columns that are read of tables of which not all are."""

NEEDED = {
    models.DataCollection: ("dataCollectionGroupId", "runStatus", "imageDirectory", "fileTemplate",
                            "startImageNumber", "numberOfImages"),
    models.DataCollectionGroup: ("sessionId",),
    models.BLSession: ("proposalId", "visit_number"),
    models.Proposal: ("proposalCode", "proposalNumber"),
    models.ProcessingJob: ("dataCollectionId", "recipe"),
    models.ProcessingJobParameter: ("processingJobId", "parameterKey", "parameterValue"),
    models.ProcessingJobImageSweep: ("processingJobId", "dataCollectionId", "startImage",
                                     "endImage"),
}  # fmt: skip
"""Columns that no look-up does without, beside primary keys: with NULL for one of them a request
would be carried out for other images, or elsewhere."""

Column = sa.Column[Any]

T = TypeVar("T", bound="tuple[Any, ...]")

_LISTED = sa.table(
    "columns", sa.column("table_schema", sa.String), sa.column("table_name", sa.String),
    sa.column("column_name", sa.String), schema="information_schema",
)  # fmt: skip


class Reader:
    """A transaction in which the look-up reads, with NULL for columns that the database lacks.

    Args:
        connection: Connection in a transaction.
        lacking: Those columns.
    """

    def __init__(self, connection: sa.Connection, lacking: frozenset[Column]) -> None:
        self._connection, self._lacking = connection, lacking

    def execute(self, query: sa.Select[T]) -> sa.CursorResult[T]:
        """Execute a query; a column that is lacking is in no row, and equals nothing."""
        if self._lacking:
            named = query.with_only_columns(*query.selected_columns)  # a table is its columns
            replaced = visitors.replacement_traverse(named, {}, self._null)
            query = cast("sa.Select[T]", replaced)
        return self._connection.execute(query)

    def _null(self, element: object, **_: object) -> sa.Label[None] | None:
        """Return NULL for a column that is lacking, of the table or of an alias of it."""
        if not isinstance(element, sa.Column):
            return None
        table = getattr(element.table, "element", element.table)
        lacking = isinstance(table, sa.Table) and table.c[element.key] in self._lacking
        return sa.null().label(element.name) if lacking else None


def lacking_columns(connection: sa.Connection) -> frozenset[Column]:
    """Return the columns that the database lacks, or does not let us see, and that may be lacking.

    A table of which no column is seen has all of them: its query will say what is wrong.
    """
    tables = {model.__table__.name: model.__table__ for model in (*ALL, *SOME)}
    query = sa.select(_LISTED.c.table_name, _LISTED.c.column_name).where(
        _LISTED.c.table_schema == sa.func.database(), _LISTED.c.table_name.in_(tables)
    )
    seen: dict[str, set[str]] = {}
    for table, column in connection.execute(query):
        seen.setdefault(_text(table).lower(), set()).add(_text(column).lower())
    return frozenset(
        column
        for column in _read()
        if column.table.name.lower() in seen
        and column.name.lower() not in seen[column.table.name.lower()]
        and not _is_needed(column)
    )


def remark_on(lacking: Iterable[Column]) -> str:
    """Return the sentence about columns that the database lacks; an empty one for none."""
    named = ", ".join(sorted(f"{each.table.name}.{each.name}" for each in lacking))
    return named and (
        f"The database lacks columns, or does not grant them, which the look-up takes for NULL: "
        f"{named}."
    )


def check(reader: Reader) -> None:
    """Read each column of each table, and no row, so that the database tells what is missing."""
    for model in ALL:
        reader.execute(sa.select(model.__table__).limit(0))
    for model, names in SOME.items():
        reader.execute(sa.select(*some(model.__table__, names)).limit(0))


def some(table: sa.Table, names: Sequence[str]) -> list[Column]:
    """Return columns of a table."""
    return [table.c[name] for name in names]


def _read() -> list[Column]:
    """Return all columns that are read."""
    every = [column for model in ALL for column in model.__table__.columns]
    return every + [column for model, names in SOME.items()
                    for column in some(model.__table__, names)]  # fmt: skip


def _is_needed(column: Column) -> bool:
    """Return True for a column without which there is no look-up."""
    names = {model.__table__.name: given for model, given in NEEDED.items()}
    return column.primary_key or column.key in names.get(str(column.table.name), ())


def _text(value: object) -> str:
    """Return a name, which the driver may give as bytes."""
    return bytes(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)
