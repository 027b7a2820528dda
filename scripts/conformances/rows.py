"""Rows that a command wrote: those of one database beside those of another one."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

NOW_S = 300.0
"""Largest distance of two times that count as the same moment, in seconds."""

Key = tuple[str, tuple[Any, ...]]
"""Table and primary key."""

Rows = Mapping[Key, Mapping[str, Any]]


class Tables:
    """The tables of a database, and what has changed in them since the last look.

    Args:
        engine: A database.
        names: Tables to look at.
    """

    def __init__(self, engine: sa.Engine, names: Iterator[str]) -> None:
        self._engine = engine
        metadata = sa.MetaData()
        metadata.reflect(engine, only=[*names])
        self._tables = metadata.sorted_tables
        self._rows = self._read()

    def changed(self) -> Rows:
        """Return the rows that are new, or have changed."""
        before, self._rows = self._rows, self._read()
        return {key: row for key, row in self._rows.items() if before.get(key) != row}

    def _read(self) -> dict[Key, Mapping[str, Any]]:
        found: dict[Key, Mapping[str, Any]] = {}
        with self._engine.connect() as connection:
            for table in self._tables:
                keys = [column.name for column in table.primary_key]
                for row in connection.execute(sa.select(table)).mappings():
                    found[table.name, tuple(row[key] for key in keys)] = dict(row)
        return found


def differences(theirs: Rows, ours: Rows) -> list[str]:
    """Return in words where rows differ, in all columns but times of the moment."""
    found = [f"{table} {key}: only theirs" for table, key in theirs if (table, key) not in ours]
    found += [f"{table} {key}: only ours" for table, key in ours if (table, key) not in theirs]
    for key, row in theirs.items():
        for column, value in row.items():
            other = ours.get(key, row)[column]
            if not _equal(value, other):
                found.append(f"{key[0]}.{column}: theirs {_short(value)}, ours {_short(other)}")
    return sorted(found)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, dt.datetime) and isinstance(other, dt.datetime):
        return abs((one - other).total_seconds()) < NOW_S
    return one == other


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) > 20:
        return f"{value[:8]}...{value[-3:]} ({len(value)} characters)"
    return str(value) if isinstance(value, (dt.datetime, decimal.Decimal)) else repr(value)
