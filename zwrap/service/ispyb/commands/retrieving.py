"""Commands that read: program runs of a job, files of a program run, the title of a proposal."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from zwrap.errors import MessageError, short
from zwrap.service.ispyb.commands.recording import fields, number_of
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import table

_RUNS: Mapping[str, str] = {
    "id": "autoProcProgramId",
    "commandLine": "processingCommandLine",
    "programs": "processingPrograms",
    "status": "processingStatus",
    "message": "processingMessage",
    "startTime": "processingStartTime",
    "endTime": "processingEndTime",
    "environment": "processingEnvironment",
    "recordTimeStamp": "recordTimeStamp",
    "jobId": "processingJobId",
}
_FILES: Mapping[str, str] = {
    "attachmentId": "autoProcProgramAttachmentId",
    "fileType": "fileType",
    "filePath": "filePath",
    "fileName": "fileName",
    "importanceRank": "importanceRank",
}
"""Name in an answer to the column."""

MOST = 1000
"""Largest number of rows in an answer."""

_JSON = (str, int, float, bool, type(None))

_JOB = fields(
    "AutoProcProgram", {"rpid": Field("processingJobId", "number of the job", required=True)}
)
_PROGRAM = fields(
    "AutoProcProgramAttachment",
    {"program_id": Field("autoProcProgramId", "number of the program run", required=True)},
)


def _read(call: Call, field: str, known: Mapping[str, Field], names: Mapping[str, str]) -> object:
    """Return rows as mappings; times are left out, as of Diamond's service."""
    number = number_of(call, field, known)
    of, _, column = known[field].column.partition(".")
    columns = table(of).columns
    query = (
        sa.select(*(columns[each].label(name) for name, each in names.items()))
        .where(columns[column] == number)
        .order_by(*table(of).primary_key)
        .limit(MOST)
    )
    found = call.connection.execute(query).mappings().all()
    if not found:
        raise MessageError(
            f"Command {call.command!r}: {field} ({of}.{column}) is {number}, and there is no such "
            "row."
        )
    return [
        {name: value for name, value in row.items() if isinstance(value, _JSON)} for row in found
    ]


RUNS = Command(
    "retrieve_programs_for_job_id",
    lambda call: _read(call, "rpid", _JOB, _RUNS),
    _JOB,
    f"Program runs of a processing job, a list of mappings: {', '.join(_RUNS)}, without times",
)
FILES = Command(
    "retrieve_program_attachments_for_program_id",
    lambda call: _read(call, "program_id", _PROGRAM, _FILES),
    _PROGRAM,
    f"Files of a program run, a list of mappings: {', '.join(_FILES)}",
)

_TITLE = fields(
    "Proposal",
    {
        "visit": Field("", "visit, such as `mx1234-5`, or the two others"),
        "proposalcode": Field("proposalCode", "letters of the proposal"),
        "proposalnumber": Field("proposalNumber", "digits of the proposal"),
    },
)


def _title(call: Call) -> object:
    """Return the title of a proposal."""
    visit = call.get("visit")
    parts = visit.split("-") if isinstance(visit, str) else []
    if len(parts) == 2:
        code, digits = parts[0][:2], parts[0][2:]
    else:
        code, digits = str(call.get("proposalcode")), str(call.get("proposalnumber"))
    columns = table("Proposal").columns
    named = sa.and_(columns.proposalCode == code, columns.proposalNumber == digits)
    found = None
    if (code + digits).isascii():  # other text cannot be compared with every character set
        found = call.connection.execute(sa.select(columns.title).where(named)).first()
    if found is None:
        raise MessageError(
            f"Command {call.command!r}: there is no proposal {short(code + digits)} "
            "(Proposal.proposalCode, proposalNumber); visit, or proposalcode and proposalnumber, "
            "is expected."
        )
    title: object = found[0]
    return title


TITLE = Command("retrieve_proposal_title", _title, _TITLE, "Title of a proposal")
