"""Versions of the tables of a ledger: which one it has, and which ones this release knows."""

from __future__ import annotations

import sqlalchemy as sa

from zwrap.attempt.ledger.faults import NewerLedgerError
from zwrap.attempt.ledger.tables import ATTEMPTS, metadata

REVISIONS = ("0001", "0002", "0003")
"""Versions that this release knows, each with a file in ``migrations/versions``, oldest first."""

HEAD = REVISIONS[-1]
"""The version of `zwrap.attempt.ledger.tables`."""

EARLIER = "0000"
"""Version of a ledger without a number, which an earlier release has made."""

VERSION = sa.Table(
    "ledger_schema", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)
"""The version of a ledger, in one row; alembic writes it, and has named the column."""


def version_of(connection: sa.Connection) -> str | None:
    """Return the version of a ledger, `EARLIER` for one without a number; None: no tables."""
    there = sa.inspect(connection)
    if there.has_table(VERSION.name):
        found: str | None = connection.scalar(sa.select(sa.func.max(VERSION.c.version_num)))
        if found is not None:
            return found
    return EARLIER if there.has_table(ATTEMPTS.name) else None


def missing_indexes(connection: sa.Connection) -> list[sa.Index]:
    """Return the indexes that a ledger of this release should have, and has not."""
    # A statement on the table: what SQLite tells of a table alone may be what it remembers.
    connection.execute(sa.select(ATTEMPTS.c.token).limit(1)).all()
    there = sa.inspect(connection)
    named = {each["name"] for table in metadata.tables for each in there.get_indexes(table)}
    wanted: list[sa.Index] = []

    def made(statement: sa.Executable, *_: object) -> None:
        if isinstance(statement, sa.schema.CreateIndex):
            wanted.append(statement.element)

    metadata.create_all(sa.create_mock_engine(connection.engine.url, made), checkfirst=False)
    return [each for each in wanted if each.name not in named]


def check_known(version: str | None, name: str) -> None:
    """Raise NewerLedgerError if this release does not know a version of the ledger `name`."""
    if version not in (None, EARLIER, *REVISIONS):
        raise NewerLedgerError(
            f"The ledger {name} has schema {version!r:.40}, of a later release; this one knows "
            f"schemas up to {HEAD}. Install that release of zwrap here, too."
        )
