"""The connection on which alembic works; it runs this file, which nothing imports."""

from __future__ import annotations

from alembic import context

from zwrap.attempt.ledger.version import VERSION

context.configure(connection=context.config.attributes["connection"], version_table=VERSION.name)
with context.begin_transaction():
    context.run_migrations()
