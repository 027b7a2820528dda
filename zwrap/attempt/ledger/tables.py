"""The tables of the ledger."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

ATTEMPTS = sa.Table(
    "attempts",
    metadata,
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
    # The columns from here on may be missing in a ledger of an earlier version.
    sa.Column("held", sa.Float),
    sa.Column("array_token", sa.String(80)),
    sa.Column("task", sa.Integer),
    # State of the job, by the batch system's account.
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
    # End of the attempt.
    sa.Column("outcome", sa.String(20)),
    sa.Column("cause", sa.Text),
    sa.Column("witness", sa.String(200)),
    sa.Column("elapsed_s", sa.Float),
    sa.Column("peak_memory_mib", sa.Float),
    # Digest of the content of its message.
    sa.Column("digest", sa.String(64)),
    # What its job asked for besides memory and time.
    sa.Column("asked", sa.Text),
    # Digest of the run of the recipe.
    sa.Column("run", sa.String(64)),
    # Place of its task among those of the step, and what these have in common.
    sa.Column("task_rank", sa.Integer),
    sa.Column("task_of", sa.String(64)),
    # Label of the known error that explains a failure, and corrections made for the attempt (JSON).
    sa.Column("cause_label", sa.String(80)),
    sa.Column("corrected", sa.Text),
)

UNCONCLUDED = ATTEMPTS.c.outcome.is_(None)
"""Condition of attempts whose end is not recorded, among them all that are submitted and open."""

sa.Index("ix_attempts_created", ATTEMPTS.c.created)
sa.Index("ix_attempts_cluster_created", ATTEMPTS.c.cluster, ATTEMPTS.c.created)
sa.Index(
    "ix_attempts_outcome_created", ATTEMPTS.c.outcome, ATTEMPTS.c.created,
    sqlite_where=~UNCONCLUDED, postgresql_where=~UNCONCLUDED,
)  # fmt: skip
# What a Watcher asks for: as small as the number of jobs that are open, whatever the ledger's age.
sa.Index(
    "ix_attempts_open", ATTEMPTS.c.state, ATTEMPTS.c.cluster, ATTEMPTS.c.created,
    sqlite_where=UNCONCLUDED, postgresql_where=UNCONCLUDED,
)  # fmt: skip
# By what a text begins with: PostgreSQL needs an index with this order, SQLite has it in any.
_BYTES = "text_pattern_ops"
sa.Index(
    "ix_attempts_directory", ATTEMPTS.c.job_directory, postgresql_ops={"job_directory": _BYTES}
)
sa.Index(
    "ix_attempts_beginning", ATTEMPTS.c.token, postgresql_ops={"token": _BYTES}
).ddl_if(dialect="postgresql")  # fmt: skip

WORDS = sa.Table(
    "words",
    metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("submission", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text),
    sa.Column("lease", sa.Float),
    sa.Column("sent", sa.Float),
    sa.Column("late", sa.Text),
    # The column may be missing in a ledger of an earlier version.
    sa.Column("secret", sa.String(64)),
)
"""Submissions and verdicts of attempts on clusters that share no filesystem with the submit host;
those of other attempts are files in the job directory."""

EVENTS = sa.Table(
    "events",
    metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("at", sa.Float, primary_key=True),
    sa.Column("what", sa.String(40), primary_key=True),
    sa.Column("witness", sa.String(80), nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sqlite_with_rowid=False,  # the events of one attempt lie together, and no token stands twice
)
"""What happened to an attempt, by its token, or to a request, by its id; `at`: seconds since the
epoch."""

REQUESTS = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("recipe_id", sa.String(80), primary_key=True),
    sa.Column("sent", sa.Float),
    sa.Column("user", sa.String(80)),
    sa.Column("host", sa.String(255)),
    sa.Column("directory", sa.Text),
    sa.Column("recipes", sa.Text),
    sa.Index("ix_requests_recipe_id", "recipe_id"),
)
"""Runs of recipes and the requests that started them, as the senders describe these."""
