"""Commands about a program run: it is registered, its state, its messages."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from zwrap.errors import MessageError, short
from zwrap.service.ispyb.commands.recording import fields, number_of, recorded
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import NOW, Row, table

PIPELINES: Mapping[str, int] = {
    "fast_dp": 3,
    "xia2.multiplex": 5,
    "xia2 dials": 6,
    "xia2 3dii": 7,
    "autoPROC": 8,
    "fast_ep": 9,
    "dimple": 10,
    "MrBUMP": 11,
    "big_ep/xds": 12,
    "big_ep/dials": 13,
    "autoPROC+STARANISO": 14,
    "xia2 dials (multi)": 15,
    "xia2 3dii (multi)": 16,
}
"""Program, or program/source, to its number in table ProcessingPipeline, as Diamond has it."""

STATUSES: Mapping[str, int] = {"success": 1, "failure": 0}
"""Value of `status` to that of the column; any other one says that the program has not ended."""

_PROGRAM = Field("autoProcProgramId", "number of the program run", required=True)

# -- registered ------------------------------------------------------------------------------------

_REGISTERED = {
    **fields(
        "AutoProcProgram",
        {
            "program": Field("processingPrograms", "name of the program"),
            "cmdline": Field("processingCommandLine", "command line, for people"),
            "environment": Field(
                "processingEnvironment", "text, or a mapping, which becomes `name=value, ...`"
            ),
            "rpid": Field("processingJobId", "number of the processing job"),
            "upstream_source": Field(
                "processingPipelineId", "with `program`: which of the [pipelines](#pipelines) it is"
            ),
        },
    ),
    "scaling_id": Field(
        "AutoProcScaling.autoProcScalingId",
        "scaling whose program run is the parent, also in `environment`; of a list the first",
    ),
}


def _register(call: Call) -> int:
    """Write a program run, and return its number."""
    environment = call.get("environment") or {}
    row = Row(call, "AutoProcProgram", stamp="recordTimeStamp")
    row.put("processingJobId", call.get("rpid") or None, "rpid")
    for field in ("program", "cmdline"):
        row.take({field: _REGISTERED[field]})
    row.put("processingEnvironment", _written(environment), "environment")
    row.put("processingPipelineId", _pipeline(call))
    row.put("parentAutoProcProgramId", _parent(call, environment))
    return row.insert()


def _written(environment: object) -> object:
    """Return an environment as text."""
    if isinstance(environment, Mapping):
        return ", ".join(f"{name}={value}" for name, value in environment.items())
    return environment


def _pipeline(call: Call) -> int | None:
    """Return the number of the pipeline that a program is; None for one without a number."""
    program, source = call.get("program"), call.get("upstream_source")
    return PIPELINES.get(f"{program}/{source}" if source else str(program))


def _parent(call: Call, environment: object) -> int | None:
    """Return the number of the program run that made the scaling on which this one works."""
    given = call.get("scaling_id")
    if not given and isinstance(environment, Mapping):
        given = environment.get("scaling_id")
    if isinstance(given, list):
        given = given[0] if given else None
    if not given:
        return None
    scaling = Row(call, "AutoProcScaling").put("autoProcScalingId", given, "scaling_id")
    number = scaling.values["autoProcScalingId"]
    solutions, scalings = table("AutoProc").columns, scaling.table.columns
    query = (
        sa.select(solutions.autoProcProgramId)
        .join_from(scaling.table, table("AutoProc"), scalings.autoProcId == solutions.autoProcId)
        .where(scalings.autoProcScalingId == number)
    )
    found = call.connection.execute(query).one_or_none()
    if found is None:
        raise scaling.unknown("scaling_id", number)
    program: int | None = found[0]
    return program


REGISTERED = Command(
    "register_processing", _register, _REGISTERED, "A new program run; returns its number"
)

# -- its state -------------------------------------------------------------------------------------

_STATUS = fields(
    "AutoProcProgram",
    {
        "program_id": _PROGRAM,
        "status": Field(
            "processingStatus",
            "`success` (1) or `failure` (0), after which the row is not changed any more; anything "
            "else or none: it has not ended",
        ),
        "message": Field("processingMessage", "what it does or did, for people"),
        "start_time": Field(
            "processingStartTime", "time of its start; once it is set, it stays; none: now"
        ),
        "update_time": Field("processingEndTime", "time of this state; none: now"),
    },
)
_NAME = fields(
    "AutoProcProgram",
    {"program_id": _PROGRAM, "program": Field("processingPrograms", "name of the program")},
)


def _update_status(call: Call) -> int:
    """Change the state of a program run that has not ended; return its number."""
    number = number_of(call, "program_id", _STATUS)
    given = call.get("status")
    if given is not None and not isinstance(given, str):
        raise MessageError(
            f"Command {call.command!r}: status is {short(given)}; 'success' or 'failure' is "
            "expected, or no status while the program has not ended."
        )
    row = Row(call, "AutoProcProgram").put("processingStatus", STATUSES.get(given or ""), "status")
    row.take({name: _STATUS[name] for name in ("message", "start_time", "update_time")})
    return _changed(row, number)


def _update_name(call: Call) -> int:
    """Change the name of a program run that has not ended; return its number."""
    number = number_of(call, "program_id", _NAME)
    return _changed(Row(call, "AutoProcProgram").take({"program": _NAME["program"]}), number)


def _changed(row: Row, number: int) -> int:
    """Change the row of a program run, unless it has ended, or was changed later than this says."""
    columns = row.table.columns
    now, started = row.values.get("processingEndTime"), row.values.get("processingStartTime")
    row.put("processingEndTime", now or NOW)
    row.put("processingStartTime", sa.func.coalesce(columns.processingStartTime, started or NOW))
    is_open = sa.and_(columns.autoProcProgramId == number, columns.processingStatus.is_(None))
    if now and row.values.get("processingStatus") is None:
        last = columns.processingEndTime
        is_open &= sa.or_(last.is_(None), last <= now)
    if not row.update_where(is_open) and row.locked(number) is None:
        raise row.unknown("program_id", number)
    return number


STATUS = Command(
    "update_processing_status",
    _update_status,
    _STATUS,
    "The state of a program run that has not ended. One that was changed at a later time than "
    "`update_time` is left as it is, unless this ends it",
)
NAME = Command(
    "update_program_name", _update_name, _NAME, "Another name for a program run that has not ended"
)

# -- its messages ----------------------------------------------------------------------------------

MESSAGE = recorded(
    "add_program_message",
    "A message of a program, for people",
    "AutoProcProgramMessage",
    {
        "program_id": _PROGRAM,
        "severity": Field("severity", "`ERROR`, `WARNING` or `INFO`"),
        "message": Field("message", "one line"),
        "description": Field("description", "more about it"),
    },
)
