"""The health of a ledger: whether it can be read, what it holds, and what hangs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from zwrap.attempt.ledger.database import Database
from zwrap.attempt.ledger.faults import damaged
from zwrap.attempt.ledger.place import is_cut_off
from zwrap.attempt.ledger.tables import ATTEMPTS, UNCONCLUDED
from zwrap.attempt.ledger.version import HEAD, check_known, missing_indexes, version_of
from zwrap.attempt.record import IN_DOUBT, SUBMITTED, WAITING

HANGS_S = 3600.0
"""Age from which an attempt hangs that should have gone on within minutes, in seconds."""


SETTLE_S = 2.0
"""Time after which a file that was being written has its size, in seconds."""


class Group(NamedTuple):
    """Some of the attempts: their number, and the time of the oldest, in seconds since the epoch.

    None: there are none.
    """

    number: int
    oldest: float | None


class Health(NamedTuple):
    """What is known of a ledger."""

    schema: str
    size_bytes: int
    """Size of the database, in bytes."""
    attempts: Group
    newest: float | None
    """Time of the newest attempt, in seconds since the epoch; None: there is none."""
    open: Group | None = None
    """Attempts that are submitted and not concluded; None: the schema is an earlier one."""
    waiting: Group | None = None
    """Attempts that their batch systems do not take now."""
    in_doubt: Group | None = None
    """Attempts of which it is not known for `HANGS_S` whether they have jobs."""
    unconcluded: Group | None = None
    """Attempts whose jobs ended more than `HANGS_S` ago, and of which no end was told."""
    lost_indexes: tuple[str, ...] = ()
    """Names of the indexes that the ledger should have, and has not."""

    @property
    def is_current(self) -> bool:
        """True if the schema is that of this release."""
        return self.schema == HEAD


def examine(database: Database, now: float) -> Health | None:
    """Return the health of a ledger, which is not changed; None: it has no tables yet.

    Args:
        database: The ledger, whose file exists if it has one.
        now: The time, in seconds since the epoch.

    Raises:
        OutageError: It cannot be read now.
        UnusableLedgerError: It is damaged, or is not there any more.
        NewerLedgerError: A later release has brought it up to date.
    """
    with database.begin() as connection:
        found = version_of(connection)
        if found is None:
            return None
        check_known(found, database.name)
        if database.file:
            _check_whole(connection, database.file)
        every = _group(connection)
        newest = connection.scalar(sa.select(sa.func.max(ATTEMPTS.c.created)))
        known = Health(found, _size(connection, database.file), every, newest)
        if not known.is_current:
            return known
        late = now - HANGS_S
        submitted = ATTEMPTS.c.state == SUBMITTED, UNCONCLUDED
        lost = (str(each.name) for each in missing_indexes(connection))
        return known._replace(
            lost_indexes=tuple(sorted(lost)),
            open=_group(connection, *submitted),
            waiting=_group(connection, ATTEMPTS.c.state == WAITING, UNCONCLUDED),
            in_doubt=_group(
                connection, ATTEMPTS.c.state.in_(IN_DOUBT), UNCONCLUDED, ATTEMPTS.c.tried < late
            ),
            unconcluded=_group(connection, *submitted, ATTEMPTS.c.ended < late),
        )


def _check_whole(connection: sa.Connection, file: Path) -> None:
    """Raise UnusableLedgerError if the file of SQLite is damaged somewhere."""
    said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if said != "ok":
        raise damaged(str(file), f"it is damaged, {' '.join(str(said).split()):.200}")
    if is_cut_off(connection, file):
        time.sleep(SETTLE_S)
        if is_cut_off(connection, file):
            raise damaged(str(file), "it is shorter than it says")


def _group(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> Group:
    """Return number and oldest of the attempts that satisfy conditions."""
    query = sa.select(sa.func.count(), sa.func.min(ATTEMPTS.c.created)).select_from(ATTEMPTS)
    number, oldest = connection.execute(query.where(*conditions)).one()
    return Group(int(number), oldest)


def _size(connection: sa.Connection, file: Path | None) -> int:
    """Return the size of a database, in bytes."""
    if file is None:
        query = sa.select(sa.func.pg_database_size(sa.func.current_database()))
        return int(connection.execute(query).scalar_one())
    return file.stat().st_size
