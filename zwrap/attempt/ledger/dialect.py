"""Statements in which the databases differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Return a statement that inserts rows, and can say what follows if one is there already."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # 20 ms that a site without it need not wait for

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)
