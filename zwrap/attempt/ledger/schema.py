"""Creation and upgrade of the tables of a ledger, when it is first used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import sqlalchemy as sa

from zwrap.attempt.ledger.tables import ATTEMPTS, WORDS
from zwrap.errors import OutageError
from zwrap.host.modes import PRIVATE_FILE

Begin = Callable[[], AbstractContextManager[sa.Connection]]
"""Function that returns a connection in a transaction."""


def create_tables(begin: Begin) -> None:
    """Create the missing tables; several hosts may do so at the same moment.

    Raises OutageError if the database cannot be used now.
    """
    _execute(begin, [sa.schema.CreateTable(e, if_not_exists=True) for e in (ATTEMPTS, WORDS)])


def create_indexes(begin: Begin) -> None:
    """Create the missing indexes, of columns that are there; as `create_tables`."""
    _execute(begin, [sa.schema.CreateIndex(each, if_not_exists=True) for each in _indexes()])


def _execute(begin: Begin, made: Sequence[sa.ExecutableDDLElement]) -> None:
    """Execute statements that create what is missing in one transaction."""
    try:
        with begin() as connection:
            for statement in made:
                connection.execute(statement)
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
        # PostgreSQL checks before it creates; another host created the table in between.
        with begin() as connection:
            for statement in made:
                connection.execute(statement)


def add_columns(engine: sa.Engine, begin: Begin) -> None:
    """Add the columns that the tables of an earlier version lack."""
    inspector = sa.inspect(engine)
    for table in (ATTEMPTS, WORDS):
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                kind = column.type.compile(engine.dialect)
                statement = sa.text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
                another_did = sa.exc.ProgrammingError, OutageError
                if column is WORDS.c.secret:
                    _close_to_others(engine.url)
                with contextlib.suppress(*another_did), begin() as connection:
                    connection.execute(statement)


def _close_to_others(url: sa.URL) -> None:
    """Let nobody but its user read the file of a SQLite ledger, which holds secrets from now on."""
    if url.drivername != "sqlite" or not url.database:
        return
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):  # it is another user's, or is not there
            os.chmod(url.database + suffix, PRIVATE_FILE)


def _indexes() -> list[sa.Index]:
    """Return the indexes of the table of attempts, always in the same order."""
    return sorted(ATTEMPTS.indexes, key=lambda index: str(index.name))
