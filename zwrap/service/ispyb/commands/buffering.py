"""Command that carries out another one, with numbers that are known by names of the sender's own.

Who sends several messages at once does not know the numbers of the rows that they make. It gives
each a number of its own (`buffer_store`), by which later messages of the same program run refer to
it (`buffer_lookup`); table zc_ZocaloBuffer holds which row is meant.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from zwrap.errors import MessageError, TemporaryError
from zwrap.service.ispyb.commands.recording import as_mapping, fields, mapping, number_of
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row, value_of

AGAIN_S = 20.0
"""Time until a number that is not known yet is looked for again, in seconds."""

EXPIRY_S = 600.0
"""Time after which a number that is not known yet is looked for no longer, in seconds."""

_NUMBER = Field("zc_ZocaloBuffer.UUID", "number that the sender gives", required=True)
_FIELDS = {
    "buffer_command": Field("", "the command: `ispyb_command` and its parameters", required=True),
    **fields(
        "zc_ZocaloBuffer",
        {
            "program_id": Field("AutoProcProgramID", "number of the program run", required=True),
            "buffer_lookup": Field(
                "UUID", "parameter of the command to the sender's number of a row"
            ),
            "buffer_store": Field("UUID", "the sender's number for the row that is written"),
        },
    ),
    "buffer_expiry_time": Field(
        "",
        "time until which unknown numbers are looked for, in seconds since 1970 (10 minutes after "
        "the message first came)",
    ),
}


def buffer(find: Callable[[str], Command]) -> Command:
    """Return the command; `find` returns the command of a name, or raises MessageError."""

    def carry_out(call: Call) -> object:
        wanted = mapping(call, "buffer_command")
        name = wanted.get("ispyb_command")
        if not isinstance(name, str):
            raise MessageError(
                f"Command {call.command!r}: buffer_command.ispyb_command is missing; the name of a "
                "command is expected."
            )
        if name == call.command:  # it would find itself again, for ever
            raise MessageError(
                f"Command {call.command!r}: buffer_command.ispyb_command is {name!r}; another "
                "command is expected."
            )
        command = find(name)
        looked_up = call.get("buffer_lookup")
        numbers = {
            field: _found(call, f"buffer_lookup.{field}", number)
            for field, number in as_mapping(call, "buffer_lookup", looked_up or {}).items()
        }
        result = command.function(call.inner(name, {**wanted, **numbers}))
        store = call.get("buffer_store")
        if store:
            _store(call, store, result)
        return result

    return Command(
        "buffer",
        carry_out,
        _FIELDS,
        "Another command, with the sender's own numbers of rows in place of those in the database",
    )


def _found(call: Call, field: str, given: object) -> object:
    """Return the number of the row for which a sender's number stands.

    Raises:
        MessageError: It has not become known in time.
        TemporaryError: It may still become known.
    """
    program = number_of(call, "program_id", _FIELDS)
    number = value_of(call, field, _NUMBER, given)
    columns = Row(call, "zc_ZocaloBuffer").table.columns
    this = sa.and_(columns.AutoProcProgramID == program, number == columns.UUID)
    found = call.connection.execute(sa.select(columns.Reference).where(this)).first()
    if found is not None:
        return found[0]
    about = f"Command {call.command!r}: {field} is {number}, which program run {program}"
    if time.time() < _expiry(call):
        raise TemporaryError(f"{about} has not stored yet.", retry_after_s=AGAIN_S)
    raise MessageError(
        f"{about} has not stored in time (zc_ZocaloBuffer.UUID); send this message again after the "
        "one with this number as 'buffer_store'."
    )


def _expiry(call: Call) -> float:
    """Return the time until which numbers are looked for; it begins anew if a person resent it."""
    given = call.get("buffer_expiry_time")
    if isinstance(given, (int, float)) and not isinstance(given, bool) and not call.reinjected:
        return float(given)
    return call.first_s + EXPIRY_S


def _store(call: Call, given: object, result: object) -> None:
    """Note which row a sender's number stands for; a later one takes the place of a former."""
    row = Row(call, "zc_ZocaloBuffer")
    row.put("AutoProcProgramID", number_of(call, "program_id", _FIELDS), "program_id")
    row.put("UUID", given, "buffer_store").put("Reference", result, "buffer_store")
    columns = row.table.columns
    former = sa.and_(
        columns.AutoProcProgramID == row.values["AutoProcProgramID"],
        row.values["UUID"] == columns.UUID,
    )
    call.connection.execute(sa.delete(row.table).where(former))
    row.insert()
