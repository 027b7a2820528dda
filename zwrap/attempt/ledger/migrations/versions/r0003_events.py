"""Tables of events, and of requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_metadata = sa.MetaData()

_EVENTS = sa.Table(
    "events",
    _metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("at", sa.Float, primary_key=True),
    sa.Column("what", sa.String(40), primary_key=True),
    sa.Column("witness", sa.String(80), nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
_REQUESTS = sa.Table(
    "requests",
    _metadata,
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("recipe_id", sa.String(80), primary_key=True),
    sa.Column("sent", sa.Float),
    sa.Column("user", sa.String(80)),
    sa.Column("host", sa.String(255)),
    sa.Column("directory", sa.Text),
    sa.Column("recipes", sa.Text),
    sa.Index("ix_requests_recipe_id", "recipe_id"),
)


def upgrade() -> None:
    """Create the tables."""
    _metadata.create_all(op.get_bind())
