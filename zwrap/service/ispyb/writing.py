"""Rows of ISPyB's tables: values are checked, written, and named in sentences about a refusal."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Self

import sqlalchemy as sa

from zwrap.errors import MessageError, short
from zwrap.service.ispyb.contract import Call, Field
from zwrap.service.ispyb.numbers import number_of
from zwrap.service.ispyb.values import FREE_TEXT, Column, checked

NOW = sa.func.now()
"""Time of the database, by its clock."""

_FOREIGN_KEY = 1452
_WRONG_CHARACTER = 1366
_OF_VALUES: Mapping[int, str] = {
    1048: "is null, and a value is expected",
    1062: "is {value}, which another row has already",
    1264: "is {value}, which is out of the range of the column",
    1265: "is {value}, which the column does not take",
    1292: "is {value}, which the column does not take",
    _WRONG_CHARACTER: "is {value}, with characters that the column cannot hold",
    1406: "is {value}, which is too long for the column",
    _FOREIGN_KEY: "is {value}, and there is no such row in {parent}",
}
"""Error number of the database about a value to what is said of the value."""

_NAMED = re.compile(r"column [`'](?:[^`']+`\.`)*([^`'.]+)[`']", re.IGNORECASE)
_KEY = re.compile(r"FOREIGN KEY \(`([^`]+)`\) REFERENCES `([^`]+)` \(`([^`]+)`\)")


@functools.cache
def table(name: str) -> sa.Table:
    """Return a table of ISPyB by its name in the database."""
    from ispyb.sqlalchemy import Base  # half a second, and only with the extra

    found: sa.Table = Base.metadata.tables[name]
    return found


@functools.cache
def column_of(name: str) -> Column:
    """Return a column by ``table.column``."""
    of, _, column = name.partition(".")
    return table(of).columns[column]


def value_of(call: Call, field: str, spec: Field, given: object) -> object:
    """Return the value of a parameter as its column takes it.

    Raises:
        MessageError: It is missing, though required, or the column does not take it.
    """
    where = f"Command {call.command!r}: {field}"
    if given is None and spec.required:
        column = f" ({spec.column})" if spec.column else ""
        raise MessageError(f"{where}{column} is missing: {spec.meaning}.")
    return checked(column_of(spec.column), given, where)


def parameter(call: Call, field: str, fields: Mapping[str, Field]) -> object:
    """Return the value of a parameter of a call; raises as `value_of` does."""
    spec = fields[field]
    given = call.raw(field) if spec.literal else call.get(field)
    return value_of(call, field, spec, given)


@functools.cache
def _stamped(of: sa.Table, stamp: str) -> sa.Insert:
    """Return the statement that writes a new row; column `stamp`, if one is given, has the time."""
    statement = sa.insert(of)
    return statement.values({stamp: NOW}) if stamp else statement


def insert_all(call: Call, rows: Sequence[Row]) -> None:
    """Write new rows of one table and the same columns, in one statement."""
    names = dict.fromkeys(name for row in rows for name in row.named())
    given = [{name: row.values[name] for name in names} for row in rows]
    try:
        call.connection.execute(rows[0].new(), given)
    except sa.exc.DBAPIError as error:
        if number_of(error) not in _OF_VALUES:
            raise
        for row in rows:  # one by one, which tells whose value it is
            row.insert()


class Row:
    """One row of one table, inside the transaction of a call.

    Args:
        call: The command that it is of.
        name: Name of the table.
        stamp: Column with the time at which a row was made; empty: the database fills it, or none.
    """

    def __init__(self, call: Call, name: str, *, stamp: str = "") -> None:
        self.table = table(name)
        self.values: dict[str, object] = {}
        self._call = call
        self._stamp = stamp
        self._fields: dict[str, str] = {}
        self._computed: dict[str, sa.ColumnElement[object]] = {}

    def take(
        self, fields: Mapping[str, Field], source: Mapping[str, object] | None = None, at: str = ""
    ) -> Self:
        """Set the columns of this table that fields name.

        Args:
            fields: Fields of a command; those of other tables are left out.
            source: Mapping in which their values are; None: they are parameters of the call.
            at: What stands before their names in sentences, such as ``mxmrrun.``.

        Raises:
            MessageError: A value is missing, though required, or its column does not take it.
        """
        for field, spec in fields.items():
            name, _, column = spec.column.partition(".")
            if name != self.table.name:
                continue
            if source is None:
                value = parameter(self._call, field, fields)
            else:
                value = value_of(self._call, f"{at}{field}", spec, source.get(field))
            self._set(column, value, f"{at}{field}")
        return self

    def put(self, column: str, value: object, field: str = "") -> Self:
        """Set one column; `field` is the parameter that it came from. Raises as `take` does."""
        if isinstance(value, sa.ColumnElement):
            self.values.pop(column, None)
            self._computed[column] = value
            return self
        where = f"Command {self._call.command!r}: {field or column}"
        self._set(column, checked(self.table.columns[column], value, where), field or column)
        return self

    def insert(self) -> int:
        """Write a new row, and return its number."""
        done = self._run(self.new(), self.named())
        return int(done.inserted_primary_key[0]) if done.inserted_primary_key else 0

    def new(self) -> sa.Insert:
        """Return the statement that writes a new row, but for the values of `named`."""
        statement = _stamped(self.table, self._stamp)
        return statement.values(self._computed) if self._computed else statement

    def named(self) -> dict[str, object]:
        """Return the values of a new row; raises as `take` does.

        A column that has no value is named only if its default is another one than null: the
        database of a facility may lack it.
        """
        given: dict[str, object] = {}
        for name, value in self.values.items():
            column = self.table.columns[name]
            if value is None and not column.nullable:
                raise MessageError(f"{self._about(name)} is missing, and a value is expected.")
            if value is not None or column.server_default is not None:
                given[name] = value
        return given

    def update(self, number: int) -> None:
        """Change the row of a number: what is null stays as it is."""
        self.update_where(self._key == number)

    def update_where(self, condition: sa.ColumnElement[bool]) -> int:
        """Change the rows for which a condition holds: what is null stays as it is.

        Returns their number.
        """
        given = {name: value for name, value in self.values.items() if value is not None}
        if not given and not self._computed:
            return 0
        change = sa.update(self.table).where(condition).values(self._computed)
        return int(self._run(change, given).rowcount)

    def upsert(self, number: int | None, field: str) -> int:
        """Change the row of a number, or write it; without a number write a new one.

        Returns its number. `field` is the parameter that it came from.
        """
        if number is None:
            return self.insert()
        if self.locked(number):
            self.update(number)
        else:
            self.put(self._key.name, number, field).insert()
        return number

    def locked(self, number: int, *columns: str) -> Mapping[str, object] | None:
        """Return columns of the row of a number, which others cannot change meanwhile, or None."""
        wanted = [self.table.columns[each] for each in columns] or [self._key]
        query = sa.select(*wanted).where(self._key == number).with_for_update()
        found = self._call.connection.execute(query).mappings().one_or_none()
        return None if found is None else dict(found)

    def unknown(self, field: str, number: object) -> MessageError:
        """Return the error about a parameter that names a row which is not there."""
        return MessageError(
            f"Command {self._call.command!r}: {field} ({self.table.name}.{self._key.name}) is "
            f"{number}, and there is no such row."
        )

    # -- what is sent ------------------------------------------------------------------------------

    @property
    def _key(self) -> Column:
        """The column with the number of a row."""
        return next(iter(self.table.primary_key))

    def _set(self, column: str, value: object, field: str) -> None:
        self.values[column] = value
        self._fields[column] = field

    def _run(
        self, statement: sa.Insert | sa.Update, values: Mapping[str, object]
    ) -> sa.CursorResult[object]:
        """Carry out a statement; MessageError if the database refuses one of its values.

        SQLAlchemy needs a third less time with values beside a statement than with those in it.
        """
        try:
            return self._call.connection.execute(statement, values)
        except sa.exc.DBAPIError as error:
            number = number_of(error)
            if number == _WRONG_CHARACTER and (plain := self._in_latin1(values)) != values:
                return self._run(statement, plain)
            if number is not None and number in _OF_VALUES:
                raise MessageError(self._told(number, str(error.orig))) from None
            raise

    def _in_latin1(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return values with ``?`` for characters that MySQL's latin1 lacks in texts for people.

        Most tables of a real ISPyB have that character set.
        """
        return {
            name: value.encode("cp1252", errors="replace").decode("cp1252")
            if isinstance(value, str) and f"{self.table.name}.{name}" in FREE_TEXT
            else value
            for name, value in values.items()
        }

    def _told(self, number: int, text: str) -> str:
        """Return the sentence about a value that the database refused."""
        parent = "another table"
        if key := _KEY.search(text):
            column, *of = key.groups()
            parent = ".".join(of)
        else:
            found = _NAMED.search(text)
            column = found[1] if found else ""
        name = next((each for each in self.values if each.lower() == column.lower()), "")
        if not name:
            about = f"Command {self._call.command!r}: a value for {self.table.name} is refused"
            return f"{about}: {text[:300]}."
        said = _OF_VALUES[number].format(value=short(self.values[name]), parent=parent)
        return f"{self._about(name)} {said}."

    def _about(self, column: str) -> str:
        """Return the begin of a sentence about a column."""
        field = self._fields[column]
        return f"Command {self._call.command!r}: {field} ({self.table.name}.{column})"
