"""Indexes for what people and Watchers ask, whatever the age of the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN, _ENDED = sa.text("outcome IS NULL"), sa.text("outcome IS NOT NULL")
_A = sa.Table(
    "attempts", sa.MetaData(),
    sa.Column("token", sa.String(80)), sa.Column("cluster", sa.String(80)),
    sa.Column("job_directory", sa.Text), sa.Column("state", sa.String(20)),
    sa.Column("created", sa.Float), sa.Column("outcome", sa.String(20)),
)  # fmt: skip
_BEGINNING = "text_pattern_ops"

_INDEXES = (
    sa.Index("ix_attempts_created", _A.c.created),
    sa.Index("ix_attempts_cluster_created", _A.c.cluster, _A.c.created),
    sa.Index("ix_attempts_outcome_created", _A.c.outcome, _A.c.created,
             sqlite_where=_ENDED, postgresql_where=_ENDED),
    sa.Index("ix_attempts_open", _A.c.state, _A.c.cluster, _A.c.created,
             sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("ix_attempts_directory", _A.c.job_directory,
             postgresql_ops={"job_directory": _BEGINNING}),
)  # fmt: skip

_OF_POSTGRESQL = sa.Index("ix_attempts_beginning", _A.c.token, postgresql_ops={"token": _BEGINNING})


def upgrade() -> None:
    """Create the indexes."""
    more = [_OF_POSTGRESQL] if op.get_bind().dialect.name == "postgresql" else []
    for index in (*_INDEXES, *more):
        op.execute(sa.schema.CreateIndex(index, if_not_exists=True))
