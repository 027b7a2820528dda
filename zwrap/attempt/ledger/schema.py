"""The tables of a ledger are created, or brought up to date.

A new ledger is made from `zwrap.attempt.ledger.tables`. A ledger of an earlier release is upgraded
by `zwrap.attempt.ledger.upgrading`, which is loaded only then. Either happens under a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from zwrap.attempt.ledger.place import Marks
from zwrap.attempt.ledger.tables import metadata
from zwrap.attempt.ledger.version import HEAD, VERSION, check_known, missing_indexes, version_of

UPGRADE_BUSY_S = 600
"""Time for which an upgrade waits for one in another process, in seconds."""

_LOCK = 0x7A77726170
"""Number of the lock of upgrades in PostgreSQL (zwrap, in ASCII)."""

_one = threading.Lock()
"""Held by the thread that upgrades: alembic has a place for one."""


def bring_up_to_date(engine: sa.Engine, file: Path | None, name: str, marks: Marks | None) -> None:
    """Create the tables, or upgrade them, in one transaction; several processes may do so at once.

    Indexes that a current ledger has lost are made again.

    Args:
        engine: The database.
        file: The file of SQLite, which is copied before an upgrade; None: there is none.
        name: The ledger, for errors and the log.
        marks: The marks of a ledger in a file; None: there are none.

    Raises:
        sqlalchemy.exc.DBAPIError: The database cannot be used, or changed, now.
        NewerLedgerError: As `check_known`.
        OutageError: The ledger cannot be copied.
        UnusableLedgerError: There was one, which is not there any more.
    """
    with _one, _alone(engine, file) as connection:
        found = version_of(connection)
        check_known(found, name)
        if found is None:
            # Another process may have begun the ledger, and marked it, a moment ago: only here,
            # where nobody else can, are no tables and a mark a ledger that is lost.
            if marks and marks.exist:
                raise marks.lost()
            metadata.create_all(connection)
            VERSION.create(connection, checkfirst=True)
            connection.execute(VERSION.insert().values(version_num=HEAD))
        elif found == HEAD:
            for index in missing_indexes(connection):
                index.create(connection)
        else:
            from zwrap.attempt.ledger import upgrading  # loads alembic

            upgrading.upgrade(connection, file, name, found)


@contextmanager
def _alone(engine: sa.Engine, file: Path | None) -> Iterator[sa.Connection]:
    """Yield a connection in a transaction that no other process has at the same time."""
    if file is None:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            yield connection
        return
    # The driver begins no transaction by itself before it creates a table.
    options = {"timeout": UPGRADE_BUSY_S, "isolation_level": None}
    alone = sa.create_engine(engine.url, connect_args=options, poolclass=sa.NullPool)
    sa.event.listen(alone, "begin", lambda each: each.exec_driver_sql("BEGIN IMMEDIATE"))
    with alone.begin() as connection:
        yield connection
