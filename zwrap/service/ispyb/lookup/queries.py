"""The queries of the look-up. All of one request run in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import ispyb.sqlalchemy as models
import sqlalchemy as sa

from zwrap.service.ispyb.lookup.columns import (
    OF_CRYSTAL,
    OF_IMAGES,
    OF_SAMPLE,
    OF_SCAN,
    Reader,
    some,
)
from zwrap.service.ispyb.lookup.found import Collection, Job, Row, as_json

DC, GROUP = models.DataCollection.__table__, models.DataCollectionGroup.__table__
SESSION, PROPOSAL = models.BLSession.__table__, models.Proposal.__table__
SAMPLE, CONTAINER = models.BLSample.__table__, models.Container.__table__
CRYSTAL, PROTEIN = models.Crystal.__table__, models.Protein.__table__
SCAN, GRID = models.EnergyScan.__table__, models.GridInfo.__table__
MEMBER, SAMPLE_GROUP = models.BLSampleGroupHasBLSample.__table__, models.BLSampleGroup.__table__


def read_job(reader: Reader, job: int) -> Job | None:
    """Return a processing job with its parameters and image sweeps; None if there is none."""
    table = models.ProcessingJob.__table__
    row = reader.execute(sa.select(table).where(table.c.processingJobId == job))
    found = row.mappings().first()
    if found is None:
        return None
    key = models.ProcessingJobParameter.__table__
    parameters = reader.execute(
        sa.select(key.c.parameterKey, key.c.parameterValue)
        .where(key.c.processingJobId == job)
        .order_by(key.c.processingJobParameterId)
    ).all()
    sweep = models.ProcessingJobImageSweep.__table__
    sweeps = reader.execute(
        sa.select(
            sweep.c.startImage, sweep.c.endImage, DC.c.dataCollectionId, DC.c.imageDirectory,
            DC.c.fileTemplate,
        )
        .join_from(sweep, DC)
        .where(sweep.c.processingJobId == job)
        .order_by(sweep.c.processingJobImageSweepId)
    ).mappings()  # fmt: skip
    return Job(
        _row(models.ProcessingJob, found),
        [(each.parameterKey, each.parameterValue) for each in parameters],
        [_plain(each) for each in sweeps],
    )


def read_collection(reader: Reader, dcid: int) -> Collection | None:
    """Return a data collection with what is linked with it; None if there is none."""
    group_sample, detector = SAMPLE.alias("group_sample"), models.Detector.__table__
    own_crystal = CRYSTAL.alias("own_crystal")
    plan, pipeline = models.DiffractionPlan.__table__, models.ProcessingPipeline.__table__
    shown = (
        DC, GROUP.c.experimentType, SESSION.c.beamLineName, SESSION.c.visit_number,
        SESSION.c.startDate, PROPOSAL.c.proposalCode, PROPOSAL.c.proposalNumber,
        detector.c.detectorModel, pipeline.c.name, own_crystal.c.proteinId, PROTEIN, plan,
        *some(SAMPLE, OF_SAMPLE), *some(CRYSTAL, OF_CRYSTAL),
    )  # fmt: skip
    joined = (
        DC.outerjoin(GROUP, GROUP.c.dataCollectionGroupId == DC.c.dataCollectionGroupId)
        .outerjoin(SESSION, SESSION.c.sessionId == GROUP.c.sessionId)
        .outerjoin(PROPOSAL, PROPOSAL.c.proposalId == SESSION.c.proposalId)
        .outerjoin(detector, detector.c.detectorId == DC.c.detectorId)
        .outerjoin(SAMPLE, SAMPLE.c.blSampleId == DC.c.BLSAMPLEID)
        .outerjoin(CONTAINER, CONTAINER.c.containerId == SAMPLE.c.containerId)
        .outerjoin(pipeline, pipeline.c.processingPipelineId == CONTAINER.c.priorityPipelineId)
        .outerjoin(own_crystal, own_crystal.c.crystalId == SAMPLE.c.crystalId)
        .outerjoin(group_sample, group_sample.c.blSampleId == GROUP.c.blSampleId)
        .outerjoin(CRYSTAL, CRYSTAL.c.crystalId == group_sample.c.crystalId)
        .outerjoin(PROTEIN, PROTEIN.c.proteinId == CRYSTAL.c.proteinId)
        .outerjoin(plan, plan.c.diffractionPlanId == group_sample.c.diffractionPlanId)
    )
    query = sa.select(*shown).select_from(joined).where(DC.c.dataCollectionId == dcid)
    values = reader.execute(query).mappings().first()
    if values is None:
        return None
    row = _row(models.DataCollection, values)
    sample = _some(SAMPLE, OF_SAMPLE, values) if values.get(SAMPLE.c.blSampleId) else {}
    protein = values.get(own_crystal.c.proteinId)
    return Collection(
        row,
        visit=_visit(*(values.get(column) for column in (
            PROPOSAL.c.proposalCode, PROPOSAL.c.proposalNumber, SESSION.c.visit_number
        ))),
        year=getattr(values.get(SESSION.c.startDate), "year", None),
        beamline=values.get(SESSION.c.beamLineName),
        experiment_type=values.get(GROUP.c.experimentType),
        detector=values.get(detector.c.detectorModel),
        pipeline=values.get(pipeline.c.name),
        sample=sample,
        crystal=_some(CRYSTAL, OF_CRYSTAL, values),
        protein=(
            _row(models.Protein, values, without="externalId")
            if values.get(PROTEIN.c.proteinId) else None
        ),
        plan=(
            _row(models.DiffractionPlan, values) if values.get(plan.c.diffractionPlanId) else None
        ),
        grid=_grid(reader, row),
        group=_group(reader, row),
        sample_groups=_sample_groups(reader, row),
        related=_related(reader, row),
        scans=_scans(reader, row, protein) if protein else [],
        structures=_structures(reader, protein) if protein else [],
        pin=_pin(reader, sample),
        events=_events(reader, dcid),
    )  # fmt: skip


def run_status(reader: Reader, dcid: int) -> str | None:
    """Return how a data collection ended; None while it has not, or if there is none."""
    query = sa.select(DC.c.runStatus).where(DC.c.dataCollectionId == dcid)
    return reader.execute(query).scalar()


def _visit(code: str | None, number: str | None, visit: int | None) -> str | None:
    """Return the name of a visit; None unless all parts of it are known."""
    return f"{code}{number}-{visit}" if code and number and visit is not None else None


def _row(model: Any, values: Mapping[Any, object], without: str = "") -> Row:  # noqa: ANN401
    """Return the columns of one table from a row of a query, by the names of the ORM."""
    return {
        each.key: as_json(values.get(each.columns[0]))
        for each in sa.inspect(model).column_attrs
        if each.key != without
    }


def _some(table: sa.Table, names: Sequence[str], values: Mapping[Any, object]) -> Row:
    """Return some columns of one table from a row of a query."""
    return {name: as_json(values.get(table.c[name])) for name in names}


def _plain(values: Mapping[Any, object]) -> Row:
    """Return the columns of a row of a query."""
    return {name: as_json(value) for name, value in values.items()}


def _grid(reader: Reader, row: Row) -> Row:
    """Return the grid scan of a data collection; that of its group, as older ones have it, last."""
    of_collection = GRID.c.dataCollectionId == row["dataCollectionId"]
    query = (
        sa.select(GRID)
        .where(of_collection | (GRID.c.dataCollectionGroupId == row["dataCollectionGroupId"]))
        .order_by(sa.case((of_collection, 0), else_=1), GRID.c.gridInfoId)
        .limit(1)
    )
    found = reader.execute(query).mappings().first()
    return {} if found is None else _row(models.GridInfo, found)


def _group(reader: Reader, row: Row) -> list[Row]:
    """Return what names the images of each data collection of the same group."""
    query = (
        sa.select(*some(DC, OF_IMAGES))
        .where(DC.c.dataCollectionGroupId == row["dataCollectionGroupId"])
        .order_by(DC.c.dataCollectionId)
    )
    return [_plain(each) for each in reader.execute(query).mappings()]


def _sample_groups(reader: Reader, row: Row) -> list[tuple[int, str | None, list[int]]]:
    """Return id, name and data collections of each group of samples with this one's sample."""
    if not row["BLSAMPLEID"]:
        return []
    other = MEMBER.alias("other")
    query = (
        sa.select(SAMPLE_GROUP.c.blSampleGroupId, SAMPLE_GROUP.c.name, DC.c.dataCollectionId)
        .select_from(MEMBER)
        .join(SAMPLE_GROUP, SAMPLE_GROUP.c.blSampleGroupId == MEMBER.c.blSampleGroupId)
        .join(other, other.c.blSampleGroupId == MEMBER.c.blSampleGroupId)
        .join(DC, other.c.blSampleId == DC.c.BLSAMPLEID)
        .where(MEMBER.c.blSampleId == row["BLSAMPLEID"])
        .order_by(SAMPLE_GROUP.c.blSampleGroupId, DC.c.dataCollectionId)
    )
    found = reader.execute(query).all()
    return [
        (group, name, [each.dataCollectionId for each in members])
        for (group, name), members in groupby(found, _of_group)
    ]


def _of_group(row: sa.Row[Any]) -> tuple[int, str | None]:
    """Return id and name of the group of samples that a row is about."""
    return row.blSampleGroupId, row.name


def _related(reader: Reader, row: Row) -> list[int]:
    """Return the data collections of the sample, else the others of the image directory."""
    query = sa.select(DC.c.dataCollectionId).order_by(DC.c.dataCollectionId)
    if row["BLSAMPLEID"]:
        query = query.join_from(
            DC, GROUP, GROUP.c.dataCollectionGroupId == DC.c.dataCollectionGroupId
        ).where(GROUP.c.blSampleId == row["BLSAMPLEID"])
    elif row["imageDirectory"]:
        query = query.where(
            DC.c.imageDirectory == row["imageDirectory"],
            DC.c.dataCollectionId != row["dataCollectionId"],
        )
    else:
        return []
    return list(reader.execute(query).scalars())


def _scans(reader: Reader, row: Row, protein: int) -> list[Row]:
    """Return the energy scans of the session on samples of a protein."""
    query = (
        sa.select(*some(SCAN, OF_SCAN))
        .join_from(SCAN, SAMPLE, SAMPLE.c.blSampleId == SCAN.c.blSampleId)
        .join(CRYSTAL, CRYSTAL.c.crystalId == SAMPLE.c.crystalId)
        .where(
            SCAN.c.sessionId == row["SESSIONID"],
            SCAN.c.element.is_not(None),
            CRYSTAL.c.proteinId == protein,
        )
        .order_by(SCAN.c.energyScanId)
    )
    return [_plain(each) for each in reader.execute(query).mappings()]


def _structures(reader: Reader, protein: int) -> list[Row]:
    """Return code and source of each entry of the PDB that is linked with a protein."""
    entry, link = models.PDB.__table__, models.ProteinHasPDB.__table__
    query = (
        sa.select(entry.c.code, entry.c.source)
        .join_from(link, entry, entry.c.pdbId == link.c.pdbid)
        .where(link.c.proteinid == protein, entry.c.code.is_not(None))
        .order_by(link.c.proteinhaspdbid)
    )
    return [_plain(each) for each in reader.execute(query).mappings()]


def _pin(reader: Reader, sample: Row) -> list[tuple[int | None, int]]:
    """Return place and id of each sample on a pin with several; none for any other pin."""
    if not str(sample.get("loopType") or "").startswith("multipin"):
        return []
    query = (
        sa.select(SAMPLE.c.subLocation, SAMPLE.c.blSampleId)
        .where(
            SAMPLE.c.containerId == sample["containerId"], SAMPLE.c.location == sample["location"]
        )
        .order_by(SAMPLE.c.subLocation, SAMPLE.c.blSampleId)
    )
    return [(each.subLocation, each.blSampleId) for each in reader.execute(query)]


def _events(reader: Reader, dcid: int) -> list[Row]:
    """Return the events of a serial experiment, each with the name of its type."""
    event, kind = models.Event.__table__, models.EventType.__table__
    chain = models.EventChain.__table__
    query = (
        sa.select(event, kind.c.name)
        .join_from(event, chain, chain.c.eventChainId == event.c.eventChainId)
        .join(kind, kind.c.eventTypeId == event.c.eventTypeId)
        .where(chain.c.dataCollectionId == dcid)
        .order_by(event.c.eventId)
    )
    return [
        {"eventType": each.get(kind.c.name), **_row(models.Event, each)}
        for each in reader.execute(query).mappings()
    ]
