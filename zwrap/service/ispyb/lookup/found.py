"""What a look-up finds: values of the database, as JSON can hold them."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool | None
"""A value of a column, as JSON can hold it."""

Row = dict[str, Value]
"""Columns of a row, by the names that the ORM of package `ispyb` gives them."""


@dataclass(frozen=True)
class Job:
    """A processing job, as SynchWeb or a beamline asks for it."""

    row: Row
    parameters: list[tuple[str, str | None]]
    """Keys and values, in the order in which they were written."""
    sweeps: list[Row]
    """`startImage` and `endImage`, with the columns of the data collection that name its images."""

    @property
    def data_collection(self) -> int | None:
        """Id of the data collection that the job is about."""
        found = self.row["dataCollectionId"]
        return found if isinstance(found, int) else None


@dataclass(frozen=True)
class Collection:
    """A data collection, and what is linked with it."""

    row: Row
    visit: str | None = None
    """Proposal and number of the visit, as in ``cm14451-4``."""
    year: int | None = None
    """Year in which the visit began."""
    beamline: str | None = None
    experiment_type: str | None = None
    """That of the data collection group."""
    detector: str | None = None
    """Model of the detector."""
    pipeline: str | None = None
    """Name of the pipeline that goes first for samples of this container."""
    sample: Row = field(default_factory=dict)
    """Columns of the sample; empty without one."""
    crystal: Row = field(default_factory=dict)
    """Space group and cell of the crystal of the group's sample."""
    protein: Row | None = None
    plan: Row | None = None
    """Diffraction plan of the group's sample."""
    grid: Row = field(default_factory=dict)
    """Grid scan; empty if it is none."""
    group: list[Row] = field(default_factory=list)
    """All data collections of the group, this one included, with what names their images."""
    sample_groups: list[tuple[int, str | None, list[int]]] = field(default_factory=list)
    """Id, name and data collections of each group of samples that holds the sample."""
    related: list[int] = field(default_factory=list)
    """Data collections of the sample; without a sample the others of the image directory."""
    scans: list[Row] = field(default_factory=list)
    """Energy scans of the visit, on samples of the protein."""
    structures: list[Row] = field(default_factory=list)
    """Entries of the Protein Data Bank that are linked with the protein."""
    pin: list[tuple[int | None, int]] = field(default_factory=list)
    """Place and id of each sample on a pin with several."""
    events: list[Row] = field(default_factory=list)
    """Events of a serial experiment, each with `eventType`."""


def as_json(value: object) -> Value:
    """Return a value of a column: dates in ISO format, decimal numbers as floating-point ones."""
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    assert value is None or isinstance(value, (str, int, float))
    return value


def number(row: Mapping[str, Value], name: str) -> float | None:
    """Return a column that holds a number; None if it is NULL."""
    value = row.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def whole(row: Mapping[str, Value], name: str) -> int | None:
    """Return a column that holds a whole number; None if it is NULL."""
    value = row.get(name)
    return value if isinstance(value, int) else None


def text(row: Mapping[str, Value], name: str) -> str:
    """Return a column that holds a text; an empty one if it is NULL."""
    value = row.get(name)
    return value if isinstance(value, str) else ""
