"""Command with the results of experimental phasing, as fast_ep writes them in XML."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.errors import MessageError
from zwrap.service.ispyb.commands.recording import as_mapping, fields, mapping, number_of
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row

_LIMITS = {
    "spaceGroupId": Field("spaceGroupId", "number of the space group"),
    "lowRes": Field("lowRes", "low resolution limit, Å"),
    "highRes": Field("highRes", "high resolution limit, Å"),
}
_STATISTICS = fields(
    "PhasingStatistics",
    {
        "numberOfBins": Field("numberOfBins", "number of bins"),
        "binNumber": Field("binNumber", "number of the bin; 999: all"),
        "lowRes": Field("lowRes", "low resolution limit of the bin, Å"),
        "highRes": Field("highRes", "high resolution limit of the bin, Å"),
        "metric": Field("metric", "what was measured, such as `FOM`"),
        "statisticsValue": Field("statisticsValue", "its value"),
        "nReflections": Field("nReflections", "number of reflections"),
    },
)
_RUN = fields(
    "PhasingProgramRun",
    {
        "phasingCommandLine": Field("phasingCommandLine", "command line, for people"),
        "phasingPrograms": Field("phasingPrograms", "programs"),
        "phasingStatus": Field("phasingStatus", "1: success, 0: failure"),
        "phasingMessage": Field("phasingMessage", "what came out, for people"),
        "phasingStartTime": Field("phasingStartTime", "time of its start"),
        "phasingEndTime": Field("phasingEndTime", "time of its end"),
    },
)
_STAGES: Mapping[str, Mapping[str, Field]] = {
    table: fields(table, columns)
    for table, columns in {
        "PreparePhasingData": _LIMITS,
        "Phasing": {
            **_LIMITS,
            "method": Field("method", "method"),
            "solventContent": Field("solventContent", "content of solvent, a fraction"),
            "enantiomorph": Field("enantiomorph", "1: the other hand, else 0"),
        },
        "ModelBuilding": _LIMITS,
        "SubstructureDetermination": {**_LIMITS, "method": Field("method", "method")},
    }.items()
}
"""Tables of the stages of phasing to their fields; each is named after its table."""

_FILE = fields(
    "PhasingProgramAttachment",
    {
        "fileType": Field("fileType", "`Map`, `Logfile`, `PDB`, `CSV`, `INS`, `RES` or `TXT`"),
        "fileName": Field("fileName", "its name"),
        "filePath": Field("filePath", "its directory"),
        "recordTimeStamp": Field("recordTimeStamp", "its time"),
    },
)
_ANALYSIS = fields(
    "PhasingAnalysis", {"recordTimeStamp": Field("recordTimeStamp", "its time", required=True)}
)
_SCALING = fields(
    "Phasing_has_Scaling",
    {"scaling_id": Field("autoProcScalingId", "number of the scaling", required=True)},
)
_AT = "phasing_results.PhasingContainer"
_PARTS: Mapping[str, Mapping[str, Field]] = {
    "PhasingAnalysis": _ANALYSIS,
    "Phasing_has_ScalingContainer.PhasingStatistics[]": _STATISTICS,
    "PhasingProgramRun": _RUN,
    **_STAGES,
    "PhasingProgramAttachment[]": _FILE,
}


def _insert(call: Call) -> int:
    """Write an analysis with all that belongs to it; return its number."""
    number_of(call, "scaling_id", _SCALING)
    results = as_mapping(call, _AT, mapping(call, "phasing_results").get("PhasingContainer"))
    analysis = Row(call, "PhasingAnalysis")
    analysis.take(_ANALYSIS, *_first(call, results, "PhasingAnalysis", needed=True))
    number = analysis.insert()
    link = Row(call, "Phasing_has_Scaling").put("phasingAnalysisId", number).take(_SCALING).insert()
    holder, at = _first(call, results, "Phasing_has_ScalingContainer")
    for statistics, place in _all(call, holder, "PhasingStatistics", at):
        row = Row(call, "PhasingStatistics").take(_STATISTICS, statistics, place)
        row.put("phasingHasScalingId1", link).insert()
    run = Row(call, "PhasingProgramRun")
    ran = run.take(_RUN, *_first(call, results, "PhasingProgramRun")).insert()
    for table, columns in _STAGES.items():
        if table in results:
            row = Row(call, table).take(columns, *_first(call, results, table))
            row.put("phasingAnalysisId", number).put("phasingProgramRunId", ran).insert()
    for file, place in _all(call, results, "PhasingProgramAttachment", f"{_AT}."):
        row = Row(call, "PhasingProgramAttachment").take(_FILE, file, place)
        row.put("phasingProgramRunId", ran).insert()
    return number


Part = tuple[Mapping[str, object], str]
"""An element, and what stands before the names in it, for sentences."""


def _first(call: Call, results: Mapping[str, object], name: str, *, needed: bool = False) -> Part:
    """Return the first element of a name; an empty one if there is none and none is needed."""
    found = _all(call, results, name, f"{_AT}.")
    if not found and needed:
        raise MessageError(f"Command {call.command!r}: {_AT}.{name} is missing.")
    return found[0] if found else ({}, f"{_AT}.{name}.")


def _all(call: Call, holder: Mapping[str, object], name: str, at: str) -> list[Part]:
    """Return the elements of a name: a list, or one alone, as of XML."""
    given = holder.get(name)
    entries = given if isinstance(given, list) else [] if given is None else [given]
    return [
        (as_mapping(call, f"{at}{name}[{place}]", each), f"{at}{name}[{place}].")
        for place, each in enumerate(entries)
    ]


PHASING = Command(
    "insert_phasing_analysis_results",
    _insert,
    {
        **_SCALING,
        **{
            f"{_AT}.{part}.{name}": each
            for part, some in _PARTS.items()
            for name, each in some.items()
        },
    },
    "Results of experimental phasing. An element is a mapping, or a list of them, of which the "
    "first counts where one is expected",
)
