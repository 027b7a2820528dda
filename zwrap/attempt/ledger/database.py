"""The database of a ledger: connections, transactions, and errors in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from zwrap.attempt.ledger.faults import damaged, fault_of, reason
from zwrap.attempt.ledger.fitting import UnstorableError
from zwrap.attempt.ledger.place import Identity, Marks, is_cut_off
from zwrap.attempt.ledger.schema import bring_up_to_date
from zwrap.attempt.ledger.version import HEAD, check_known, version_of
from zwrap.errors import ConfigurationError
from zwrap.host.clock import elapsed
from zwrap.host.hiding import without_secrets

if TYPE_CHECKING:
    import sqlite3

BUSY_S = 30
"""Time for which a write waits for those of other processes, in seconds."""

LOOK_S = 20.0
"""Interval at which a service looks whether its ledger can be read, in seconds."""


class Database:
    """The database of a ledger, whose tables the first use, or `open`, brings up to date.

    Args:
        url: A database URL of SQLAlchemy.
        spool: Directory of the spool, which has a mark of a ledger in a file, too; None: there is
            none.

    Raises ConfigurationError if the URL is not valid, or if its driver is not installed.
    """

    def __init__(self, url: str, spool: Path | None = None) -> None:
        options: dict[str, Any] = {}
        if url.startswith("sqlite"):
            options["connect_args"] = {"timeout": BUSY_S}
        else:
            options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        try:
            self.engine = sa.create_engine(url, **options)
        except ImportError:
            raise ConfigurationError(
                "A ledger on PostgreSQL needs the package psycopg: pip install 'zwrap[postgresql]'."
            ) from None
        except (sa.exc.ArgumentError, ValueError):  # whose text holds the URL, or a part of it
            raise ConfigurationError(
                "The URL of the ledger is not valid; one such as "
                "postgresql+psycopg://user:password@host/database is expected."
            ) from None
        self.name = without_secrets(self.engine.url.render_as_string(hide_password=True))
        """URL without secrets."""
        self.is_shared = self.engine.dialect.name != "sqlite"
        """True if several hosts may use the ledger."""
        place = None if self.is_shared else self.engine.url.database
        self.file = Path(place) if place and place != ":memory:" else None
        """The file of SQLite; None: a database server, or a ledger in memory."""
        self.marks = Marks(self.file, spool) if self.file else None
        """The marks of a ledger in a file."""
        self._identity: Identity | None = None
        self._is_open = False
        self._looked = elapsed()
        self._is_cut_off = False
        """True if the file seemed to be cut off at the last look."""
        if not self.is_shared:
            sa.event.listen(self.engine, "connect", _sqlite_settings)

    def open(self) -> None:
        """Bring the tables up to date now, and not at the first use.

        Raises:
            OutageError: The database cannot be used now.
            UnusableLedgerError: It is damaged, or is not there any more.
            NewerLedgerError: A later release has brought it up to date.
        """
        if self.marks:
            self.marks.check()
        with self.begin() as connection:
            found = version_of(connection)
        check_known(found, self.name)
        if found != HEAD:
            with self.explained():
                bring_up_to_date(self.engine, self.file, self.name, self.marks)
        if self.file and self.marks:
            self.marks.leave()
            self._identity = Identity(self.file)
        self._is_open = True

    def complete(self) -> None:
        """Do as `open`, and make the indexes again that the ledger has lost."""
        self.open()
        with self.explained():
            bring_up_to_date(self.engine, self.file, self.name, self.marks)

    def transaction(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Return a connection in a transaction, as `begin` does, to tables that are up to date."""
        if not self._is_open:
            self.open()
        return self.begin()

    @contextlib.contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction.

        Raises:
            OutageError: The ledger cannot be used now.
            UnusableLedgerError: It is damaged, or is not there any more.
            UnstorableError: A value does not fit into its column.
        """
        if self._identity:
            self._identity.check()
        with self.explained(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what a database's error means in its place, as `begin` does."""
        try:
            yield
        except (sa.exc.DataError, OverflowError, UnicodeError) as error:
            raise UnstorableError(
                f"A value cannot be stored in the ledger: {reason(error)}."
            ) from None
        except sa.exc.IntegrityError:
            raise
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise fault_of(error, self.name) from None

    def look(self) -> None:
        """Read the ledger as a new process does, if that is due; raise as `begin` does.

        A process that has a file open may go on with what it remembers of it.
        """
        if (
            not self._is_open
            or not self.file
            or not self.marks
            or elapsed() < self._looked + LOOK_S
        ):
            return
        self._looked = elapsed()
        if self._identity:
            self._identity.check()
        fresh = sa.create_engine(self.engine.url, poolclass=sa.NullPool)
        with self.explained(), fresh.connect() as connection:
            if version_of(connection) is None:
                raise self.marks.lost()
            was_cut_off, self._is_cut_off = self._is_cut_off, is_cut_off(connection, self.file)
        if was_cut_off and self._is_cut_off:
            raise damaged(self.name, "its file is shorter than it says")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _sqlite_settings(connection: sqlite3.Connection, _: object) -> None:
    """Set up a new connection to SQLite: write-ahead log, synchronous writes."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an intent must outlive a power cut
    cursor.close()
