"""Commands about refinement against a known structure: dimple, metal_id, runs and their blobs."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.errors import MessageError, short
from zwrap.service.ispyb.commands.recording import as_mapping, fields, mapping, mappings, recorded
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import NOW, Row, parameter

# -- results in one message ------------------------------------------------------------------------

_RUN = fields(
    "MXMRRun",
    {
        "auto_proc_scaling_id": Field("autoProcScalingId", "number of the scaling", required=True),
        "auto_proc_program_id": Field(
            "autoProcProgramId", "number of the program run; null: a new one"
        ),
        "rwork_start": Field("rValueStart", "Rwork before, a fraction", required=True),
        "rwork_end": Field("rValueEnd", "Rwork after", required=True),
        "rfree_start": Field("rFreeValueStart", "Rfree before", required=True),
        "rfree_end": Field("rFreeValueEnd", "Rfree after", required=True),
        "space_group": Field("spaceGroup", "space group"),
        "LLG": Field("LLG", "log-likelihood gain"),
        "TFZ": Field("TFZ", "Z-score of the translation function"),
    },
)
_PROGRAM = fields(
    "AutoProcProgram",
    {
        "command_line": Field("processingCommandLine", "command line, for people", required=True),
        "programs": Field("processingPrograms", "name of the program", required=True),
        "status": Field("processingStatus", "1: success, 0: failure", required=True),
        "message": Field("processingMessage", "what came out, for people", required=True),
        "start_time": Field("processingStartTime", "time of its start", required=True),
        "end_time": Field("processingEndTime", "time of its end", required=True),
    },
)
_BLOB = fields(
    "MXMRRunBlob",
    {
        "height": Field("height", "height, sigma", required=True),
        "map_type": Field("mapType", "`anomalous` or `difference`", required=True),
        "occupancy": Field("occupancy", "occupancy of the site"),
        "nearest_atom_distance": Field("nearestAtomDistance", "distance of the nearest atom, Å"),
        "filepath": Field("filePath", "directory of the views"),
        "view1": Field("view1", "name of a picture"),
        "view2": Field("view2", "name of a picture"),
        "view3": Field("view3", "name of a picture"),
    },
)
_ATOM = fields(
    "MXMRRunBlob",
    {
        "name": Field("nearestAtomName", "name", required=True),
        "chain_id": Field("nearestAtomChainId", "chain", required=True),
        "res_seq": Field("nearestAtomResSeq", "number of its residue", required=True),
        "res_name": Field("nearestAtomResName", "name of its residue", required=True),
    },
)
_PLACE = Field("MXMRRunBlob.x", "three fractional coordinates: columns x, y and z", required=True)
_FILE = fields(
    "AutoProcProgramAttachment",
    {
        "file_type": Field(
            "fileType", "`log`, `result`, `graph`, `debug` or `input`", required=True
        ),
        "file_path": Field("filePath", "its directory", required=True),
        "file_name": Field("fileName", "its name", required=True),
        "timestamp": Field("recordTimeStamp", "its time", required=True),
        "importance_rank": Field("importanceRank", "1 for the most important"),
    },
)
_RESULT = {
    f"{at}.{name}": each
    for at, given in (
        ("mxmrrun", _RUN),
        ("auto_proc_program", _PROGRAM),
        ("blobs[]", {"xyz": _PLACE, **_BLOB}),
        ("blobs[].nearest_atom", _ATOM),
        ("attachments[]", _FILE),
    )
    for name, each in given.items()
}


def _insert_result(call: Call) -> int:
    """Write a run with its program run, blobs and files; return the number of the run."""
    run = Row(call, "MXMRRun").take(_RUN, mapping(call, "mxmrrun"), "mxmrrun.")
    blobs, files = mappings(call, "blobs"), mappings(call, "attachments")
    program = Row(call, "AutoProcProgram")
    program.take(_PROGRAM, mapping(call, "auto_proc_program"), "auto_proc_program.")
    known = run.values["autoProcProgramId"]
    if isinstance(known, int) and known:
        if program.locked(known) is None:
            raise program.unknown("mxmrrun.auto_proc_program_id", known)
        program.update(known)
        number = known
    else:
        number = program.insert()
    written = run.put("autoProcProgramId", number).insert()
    for place, blob in enumerate(blobs):
        _blob(call, blob, f"blobs[{place}].").put("mxMRRunId", written).insert()
    for place, file in enumerate(files):
        row = Row(call, "AutoProcProgramAttachment").take(_FILE, file, f"attachments[{place}].")
        row.put("autoProcProgramId", number).insert()
    return written


def _blob(call: Call, blob: Mapping[str, object], at: str) -> Row:
    """Return the row of a blob."""
    row = Row(call, "MXMRRunBlob").take(_BLOB, blob, at)
    place = blob.get("xyz")
    if not isinstance(place, list) or len(place) != 3:
        raise MessageError(
            f"Command {call.command!r}: {at}xyz is {short(place)}; three numbers are expected."
        )
    axes = {axis: _PLACE._replace(column=f"MXMRRunBlob.{axis}") for axis in "xyz"}
    row.take(axes, dict(zip("xyz", place, strict=True)), f"{at}xyz.")
    atom = blob.get("nearest_atom")
    if atom is not None:
        row.take(_ATOM, as_mapping(call, f"{at}nearest_atom", atom), f"{at}nearest_atom.")
    return row


_DIMPLE_MEANING = "A run against a known structure with blobs of density, its program run and files"
DIMPLE_RESULT = Command("insert_dimple_result", _insert_result, _RESULT, _DIMPLE_MEANING)
DIMPLE_RESULTS = DIMPLE_RESULT._replace(
    name="insert_dimple_results",
    meaning="`insert_dimple_result`, as Diamond's wrapper of dimple calls it",
)
METAL_ID_RESULT = DIMPLE_RESULT._replace(
    name="insert_metal_id_result", meaning=f"{_DIMPLE_MEANING}, of metal_id"
)

# -- a run by its columns --------------------------------------------------------------------------

_BARE_RUN = {
    **fields(
        "MXMRRun",
        {
            "id": Field("mxMRRunId", "number of a run to change; null: a new one"),
            "scaling_id": Field("autoProcScalingId", "number of the scaling", required=True),
            "rstart": Field("rValueStart", "Rwork before, a fraction"),
            "rend": Field("rValueEnd", "Rwork after"),
            "rfreestart": Field("rFreeValueStart", "Rfree before"),
            "rfreeend": Field("rFreeValueEnd", "Rfree after"),
        },
    ),
    **fields(
        "AutoProcProgram",
        {
            "success": Field("processingStatus", "1: success, 0: failure"),
            "message": Field("processingMessage", "what came out, for people"),
            "pipeline": Field("processingPrograms", "name of the program"),
            "cmdline": Field("processingCommandLine", "command line, for people"),
            "starttime": Field("processingStartTime", "time of its start; none: now"),
            "endtime": Field("processingEndTime", "time of its end"),
        },
    ),
    **fields(
        "AutoProcProgramAttachment",
        {
            "rundir": Field("filePath", "directory of the run, of all its files"),
            "inputcoordfile": Field("fileName", "coordinates that went in"),
            "inputmtzfile": Field("fileName", "reflections that went in"),
            "outputcoordfile": Field("fileName", "coordinates that came out"),
            "outputmtzfile": Field("fileName", "reflections that came out"),
            "logfile": Field("fileName", "log file"),
        },
    ),
}
_FILES = {
    "inputcoordfile": "Input",
    "inputmtzfile": "Input",
    "outputcoordfile": "Result",
    "outputmtzfile": "Result",
    "logfile": "Log",
}
"""Parameter with the name of a file to the type as which it is recorded, in their order."""


def _insert_run(call: Call) -> int:
    """Write or change a run with its program run, and record its files; return its number."""
    known = parameter(call, "id", _BARE_RUN)
    run = Row(call, "MXMRRun").take({n: f for n, f in _BARE_RUN.items() if n != "id"})
    program = Row(call, "AutoProcProgram").take(_BARE_RUN)
    ended = program.values["processingEndTime"]
    files = [_file(call, field, kind, ended) for field, kind in _FILES.items()]
    number = run.upsert(known if isinstance(known, int) else None, "id")
    found = run.locked(number, "autoProcProgramId")
    of = found["autoProcProgramId"] if found else None
    program.put("recordTimeStamp", ended)
    if isinstance(of, int):
        program.update(of)
    else:
        for column in ("processingStartTime", "recordTimeStamp"):
            if program.values[column] is None:
                program.put(column, NOW)
        of = program.insert()
        Row(call, "MXMRRun").put("autoProcProgramId", of).update(number)
    for file in filter(None, files):
        file.put("autoProcProgramId", of).insert()
    return number


def _file(call: Call, field: str, kind: str, time: object) -> Row | None:
    """Return the row of a file of a run; None if the message does not name it."""
    name = parameter(call, field, _BARE_RUN)
    if name is None:
        return None
    row = Row(call, "AutoProcProgramAttachment").put("fileType", kind).put("recordTimeStamp", time)
    directory = parameter(call, "rundir", _BARE_RUN)
    row.put("filePath", directory, "rundir")
    if directory is not None:
        name = str(name).replace(str(directory).rstrip("/") + "/", "")
    if kind == "Log":
        row.put("importanceRank", 0)
    return row.put("fileName", name, field)


RUN = Command(
    "insert_mxmr_run", _insert_run, _BARE_RUN, "A run against a known structure, by its columns"
)

BLOB = recorded(
    "insert_mxmr_run_blob",
    "Pictures of a blob of density",
    "MXMRRunBlob",
    {
        "id": Field("mxMRRunBlobId", "number of a blob to change; null: a new one"),
        "mxmr_run_id": Field("mxMRRunId", "number of the run", required=True),
        "view1": Field("view1", "path of a picture"),
        "view2": Field("view2", "path of a picture"),
        "view3": Field("view3", "path of a picture"),
    },
    number="id",
)

_FAILURE = {
    "scaling_id": _BARE_RUN["scaling_id"],
    "directory": Field("AutoProcProgramAttachment.filePath", "directory of the run; not recorded"),
}


def _store_failure(call: Call) -> int:
    """Write a run of dimple that failed; return its number."""
    failed = {"pipeline": "dimple", "success": 0, "message": "Unknown error"}
    others = dict.fromkeys(_BARE_RUN.keys() - _FAILURE.keys() - failed.keys())
    scaling = call.get("scaling_id")
    return _insert_run(call.inner(call.command, {**others, **failed, "scaling_id": scaling}))


DIMPLE_FAILURE = Command(
    "store_dimple_failure", _store_failure, _FAILURE, "A run of dimple that failed"
)
