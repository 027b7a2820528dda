"""The common kind of command: parameters go to the columns of one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zwrap.errors import MessageError, short
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row, parameter

Fields = Mapping[str, Field]
Fixed = Callable[[Call], Mapping[str, object]]
"""Function that returns further columns of a row."""


def fields(table: str, columns: Mapping[str, Field]) -> dict[str, Field]:
    """Return fields whose columns are all of one table, with the table before their names."""
    return {
        name: each._replace(column=f"{table}.{each.column}") if each.column else each
        for name, each in columns.items()
    }


def recorded(
    name: str,
    meaning: str,
    table: str,
    columns: Mapping[str, Field],
    *,
    number: str = "",
    stamp: str = "",
    fixed: Fixed | None = None,
) -> Command:
    """Return a command that writes one row of a table, and returns its number.

    Args:
        name: Name of the command.
        meaning: What it does, for people.
        table: Name of the table.
        columns: Its parameters, with columns of the table.
        number: Parameter with the number of a row, which is changed: what is null stays. If there
            is no such row, or no such parameter, a row is written.
        stamp: Column with the time at which a row was written.
        fixed: Function that returns further columns; they come before those of the parameters.
    """
    all_fields = fields(table, columns)

    def write(call: Call) -> int:
        row = Row(call, table, stamp=stamp).take(
            {each: spec for each, spec in all_fields.items() if each != number}
        )
        for column, value in (fixed(call) if fixed else {}).items():
            row.put(column, value)
        known = parameter(call, number, all_fields) if number else None
        return row.upsert(known if isinstance(known, int) else None, number)

    return Command(name, write, all_fields, meaning)


def number_of(call: Call, field: str, known: Fields) -> int:
    """Return the number of a row that a parameter gives. MessageError if it gives none."""
    value = parameter(call, field, known)
    if isinstance(value, int):
        return value
    raise MessageError(f"Command {call.command!r}: {field} is missing: {known[field].meaning}.")


def mapping(call: Call, field: str) -> Mapping[str, object]:
    """Return a parameter that holds further ones by name; MessageError for anything else."""
    return as_mapping(call, field, call.get(field))


def mappings(call: Call, field: str, *, default: object = None) -> list[Mapping[str, object]]:
    """Return a parameter that is a list of mappings; MessageError for anything else."""
    value = call.get(field)
    value = default if value is None else value
    if not isinstance(value, list):
        raise MessageError(_expected(call, field, value, "a list of mappings"))
    return [as_mapping(call, f"{field}[{place}]", each) for place, each in enumerate(value)]


def as_mapping(call: Call, field: str, value: object) -> Mapping[str, object]:
    """Return a value that is a mapping; MessageError, which names `field`, for anything else."""
    if not isinstance(value, Mapping):
        raise MessageError(_expected(call, field, value, "a mapping of names to values"))
    return value


def _expected(call: Call, field: str, value: object, kind: str) -> str:
    """Return the sentence about a value of another kind than expected."""
    about = f"Command {call.command!r}: {field}"
    if value is None:
        return f"{about} is missing; {kind} is expected."
    return f"{about} is {short(value)}; {kind} is expected."
