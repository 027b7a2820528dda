"""What the releases had that wrote no version: tables and columns that came one after another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_metadata = sa.MetaData()

_ATTEMPTS = sa.Table(
    "attempts",
    _metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("recipe_id", sa.String(80), index=True),
    sa.Column("step", sa.Integer),
    sa.Column("cluster", sa.String(80), nullable=False),
    sa.Column("job_name", sa.String(255), nullable=False),
    sa.Column("job_directory", sa.Text, nullable=False),
    sa.Column("job_id", sa.String(80), index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("tried", sa.Float, nullable=False),
    # The columns from here on may be missing.
    sa.Column("held", sa.Float),
    sa.Column("array_token", sa.String(80)),
    sa.Column("task", sa.Integer),
    sa.Column("seen_state", sa.String(20)),
    sa.Column("seen_reason", sa.Text),
    sa.Column("seen", sa.Float),
    sa.Column("node", sa.Text),
    sa.Column("exit_code", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("ended", sa.Float),
    sa.Column("stalled", sa.Float),
    sa.Column("pending", sa.Float),
    sa.Column("missing", sa.Float),
    sa.Column("outcome", sa.String(20)),
    sa.Column("cause", sa.Text),
    sa.Column("witness", sa.String(200)),
    sa.Column("elapsed_s", sa.Float),
    sa.Column("peak_memory_mib", sa.Float),
    sa.Column("digest", sa.String(64)),
    sa.Column("asked", sa.Text),
    sa.Column("run", sa.String(64)),
    sa.Column("task_rank", sa.Integer),
    sa.Column("task_of", sa.String(64)),
    sa.Column("cause_label", sa.String(80)),
    sa.Column("corrected", sa.Text),
)
_WORDS = sa.Table(
    "words",
    _metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("submission", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text),
    sa.Column("lease", sa.Float),
    sa.Column("sent", sa.Float),
    sa.Column("late", sa.Text),
    sa.Column("secret", sa.String(64)),  # which may be missing
)


def upgrade() -> None:
    """Create the tables, columns and indexes that are missing."""
    connection = op.get_bind()
    _metadata.create_all(connection)
    there = sa.inspect(connection)
    for table in (_ATTEMPTS, _WORDS):
        names = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in names:
                op.add_column(table.name, sa.Column(column.name, column.type))
        for index in table.indexes:
            op.execute(sa.schema.CreateIndex(index, if_not_exists=True))
