"""Upgrade of the ledger of an earlier release, by alembic, which only this module loads."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import sqlalchemy as sa

from zwrap.attempt.ledger import backup
from zwrap.attempt.ledger.tables import WORDS
from zwrap.attempt.ledger.version import HEAD
from zwrap.host.modes import PRIVATE_FILE

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

KEPT = 2
"""Number of copies from before upgrades that are kept beside a ledger."""


def upgrade(connection: sa.Connection, file: Path | None, name: str, found: str) -> None:
    """Upgrade a ledger inside a transaction, after it was copied.

    Args:
        connection: The connection with the transaction.
        file: The file of SQLite; None: there is none, and the site has a backup of its own.
        name: The ledger, for the log.
        found: The version that it has.
    """
    if file is None:
        log.warning(
            "The ledger %s is upgraded from schema %s to %s; what there is of a backup is the "
            "site's own, of its database.", name, found, HEAD,
        )  # fmt: skip
    else:
        copy = file.with_name(f"{file.name}.before-{HEAD}")
        backup.copy(file, copy)
        log.warning(
            "The ledger %s is upgraded from schema %s to %s; %s is as it was before.",
            name, found, HEAD, copy,
        )  # fmt: skip
        if not _holds_secrets(connection):
            _close_to_others(file)
    try:
        run(connection)
        if file is not None:
            connection.exec_driver_sql("COMMIT")  # here, because it is what needs room on the disk
    except sa.exc.DBAPIError:
        if file is not None:
            copy.unlink(missing_ok=True)  # else services that go on lack the room that it takes
        raise
    if file is not None:
        _forget_older(file)


def run(connection: sa.Connection) -> None:
    """Let alembic make all changes that a ledger lacks."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command  # says at once what it is made of, unless it was told not to
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _holds_secrets(connection: sa.Connection) -> bool:
    """Tell whether a ledger has the column of secrets; a site may then have chosen its readers."""
    there = sa.inspect(connection)
    return there.has_table(WORDS.name) and WORDS.c.secret.name in {
        column["name"] for column in there.get_columns(WORDS.name)
    }


def _close_to_others(file: Path) -> None:
    """Let nobody but its user read the file of a ledger, which holds secrets from now on."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):  # it is another user's, or is not there
            os.chmod(f"{file}{suffix}", PRIVATE_FILE)


def _forget_older(file: Path) -> None:
    """Remove all but the last copies from before upgrades."""
    copies = sorted(file.parent.glob(f"{file.name}.before-*[0-9]"))
    for each in copies[:-KEPT]:
        with contextlib.suppress(OSError):
            each.unlink()
