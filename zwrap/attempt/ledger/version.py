"""Versions of the tables of a ledger: which one it has, and which ones this release knows."""

from __future__ import annotations

import sqlalchemy as sa

from zwrap.attempt.ledger.faults import NewerLedgerError
from zwrap.attempt.ledger.tables import ATTEMPTS

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


def check_known(version: str | None, name: str) -> None:
    """Raise NewerLedgerError if this release does not know a version of the ledger `name`."""
    if version not in (None, EARLIER, *REVISIONS):
        raise NewerLedgerError(
            f"The ledger {name} has schema {version!r:.40}, of a later release; this one knows "
            f"schemas up to {HEAD}. Install that release of zwrap here, too."
        )
