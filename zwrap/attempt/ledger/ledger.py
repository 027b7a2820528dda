"""The ledger: one row per attempt, written before a job is submitted and read before any retry.

SQLite on a local disk (write-ahead log), or PostgreSQL where several submit hosts share it. Jobs
never open it.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict, replace
from sqlalchemy.dialects import postgresql, sqlite

from zwrap.attempt.ledger.tables import ATTEMPTS, WORDS
from zwrap.attempt.ledger.words import Words
from zwrap.attempt.record import (
    INTENDED,
    SUBMITTED,
    Attempt,
)
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TemporaryError
from zwrap.host.files import NETWORK_FILESYSTEMS, filesystem_of
from zwrap.host.paths import state_directory

_UNCONCLUDED = ATTEMPTS.c.state == SUBMITTED, ATTEMPTS.c.outcome.is_(None)


class Ledger:
    """All attempts of a site."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {}
        if url.startswith("sqlite"):
            options["connect_args"] = {"timeout": 30}
        else:
            options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        try:
            self._engine = sa.create_engine(url, **options)
        except ImportError:
            raise ConfigurationError(
                "A ledger on PostgreSQL needs the package psycopg: pip install 'zwrap[postgresql]'."
            ) from None
        except sa.exc.ArgumentError as error:
            raise ConfigurationError(f"The URL of the ledger is none: {error}.") from None
        self._url = self._engine.url.render_as_string(hide_password=True)
        if url.startswith("sqlite"):
            sa.event.listen(self._engine, "connect", _sqlite_settings)
        self._create_tables()
        self._add_columns()
        self.words = Words(self._transaction, self.now)

    def _add_columns(self) -> None:
        """Bring the table of an earlier version up to date."""
        there = {column["name"] for column in sa.inspect(self._engine).get_columns("attempts")}
        for column in ATTEMPTS.columns:
            if column.name not in there:
                kind = column.type.compile(self._engine.dialect)
                statement = sa.text(f"ALTER TABLE attempts ADD COLUMN {column.name} {kind}")
                another_did = sa.exc.ProgrammingError, TemporaryError
                with contextlib.suppress(*another_did), self._transaction() as connection:
                    connection.execute(statement)

    def _create_tables(self) -> None:
        """Make the tables unless they are there; several hosts may do so at the same moment."""
        made: list[sa.ExecutableDDLElement] = []
        made += [sa.schema.CreateTable(each, if_not_exists=True) for each in (ATTEMPTS, WORDS)]
        made += [sa.schema.CreateIndex(each, if_not_exists=True) for each in _indexes()]
        try:
            with self._transaction() as connection:
                for statement in made:
                    connection.execute(statement)
        except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
            # PostgreSQL looks before it makes, and another came in between; now it is there.
            with self._transaction() as connection:
                for statement in made:
                    connection.execute(statement)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A transaction; TemporaryError when the database cannot be used now."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            reason = str(error.orig or error).splitlines()[0]
            raise TemporaryError(f"The ledger {self._url} cannot be used: {reason}.") from None

    @classmethod
    def in_file(cls, path: Path) -> Ledger:
        """The SQLite ledger in a file; a network filesystem under it is refused."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The directory of the ledger, {path.parent}, cannot be made: {error.strerror}."
            ) from None
        kind = filesystem_of(path.parent)
        if kind in NETWORK_FILESYSTEMS:
            raise ConfigurationError(
                f"The ledger {path} would lie on a network filesystem ({kind}), where SQLite can "
                "lose or damage it. Set ZWRAP_STATE to a directory on a local disk."
            )
        return cls(f"sqlite:///{path}")

    @classmethod
    def of(cls, configuration: Configuration) -> Ledger:
        """The ledger of a site: what plugin `ledger` says, else the file of this host."""
        given = configuration.site.ledger
        return cls(given.url) if given else cls.in_file(default_file())

    def now(self) -> float:
        """Seconds since the epoch, by the one clock that all who share the ledger have."""
        if self._engine.dialect.name == "sqlite":
            return time.time()
        with self._transaction() as connection:
            told = connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp())))
            return float(told.scalar_one())

    def known(self, tokens: Sequence[str]) -> dict[str, Attempt]:
        """Those of the attempts that are in the ledger, by token."""
        found = {}
        with self._transaction() as connection:
            for some in _portions(tokens):
                query = sa.select(ATTEMPTS).where(ATTEMPTS.c.token.in_(some))
                for row in connection.execute(query).mappings():
                    found[row["token"]] = Attempt(**row)
        return found

    def reserve(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Write, all at once, the intent to submit these now; those that are ours to submit.

        An attempt that is new must not be there, one that was read must be as it was read. Of any
        other somebody else is about to submit the job.
        """
        now = self.now()
        rows = [
            replace(
                attempt, state=INTENDED, created=attempt.created or now, tried=now,
                job_id=None, reason=None,
            )
            for attempt in attempts
        ]  # fmt: skip
        new = [row for row, attempt in zip(rows, attempts, strict=True) if not attempt.tried]
        ours: set[str] = set()
        with self._transaction() as connection:
            if new:
                ours |= self._inserted(connection, new)
            for row, read in zip(rows, attempts, strict=True):
                if read.tried and _changed(connection, row, read):
                    ours.add(row.token)
        return [row for row in rows if row.token in ours]

    def _inserted(self, connection: sa.Connection, rows: Sequence[Attempt]) -> set[str]:
        """Tokens of the rows that were not there."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        insert = dialect.insert(ATTEMPTS).on_conflict_do_nothing().returning(ATTEMPTS.c.token)
        # in one order, or two hosts with the same attempts could wait for each other
        values = [asdict(row) for row in sorted(rows, key=lambda each: each.token)]
        return set(connection.execute(insert, values).scalars())

    def record(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write, all at once, what became of attempts: values of columns, by token."""
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for token, values in changes.items():
            alike[tuple(sorted(values))].append({"of": token, **values})
        with self._transaction() as connection:
            for names, values_of_many in alike.items():
                update = ATTEMPTS.update().where(ATTEMPTS.c.token == sa.bindparam("of"))
                new: dict[str, Any] = {name: sa.bindparam(name) for name in names}
                connection.execute(update.values(**new), values_of_many)

    def see(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write, all at once, what the batch system says of jobs: values of columns, by token."""
        now = self.now()
        self.record({token: {"seen": now, **values} for token, values in changes.items()})

    def unconcluded(self, cluster: str) -> list[Attempt]:
        """Attempts whose job was submitted there and that have not come to their end, oldest first.

        The job of some has ended: then `ended` says since when that is known.
        """
        query = sa.select(ATTEMPTS).where(*_UNCONCLUDED, ATTEMPTS.c.cluster == cluster)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(ATTEMPTS.c.created)).mappings()
            return [Attempt(**row) for row in rows]

    def open_clusters(self) -> list[str]:
        """Clusters that have such attempts."""
        query = sa.select(ATTEMPTS.c.cluster).where(*_UNCONCLUDED).distinct()
        with self._transaction() as connection:
            return sorted(connection.execute(query).scalars())

    def get(self, token: str) -> Attempt | None:
        """One attempt."""
        with self._transaction() as connection:
            query = sa.select(ATTEMPTS).where(ATTEMPTS.c.token == token)
            row = connection.execute(query).mappings().first()
        return Attempt(**row) if row else None

    def all(self) -> list[Attempt]:
        """Every attempt, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(ATTEMPTS).order_by(ATTEMPTS.c.created)).mappings()
            return [Attempt(**row) for row in rows]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _changed(connection: sa.Connection, row: Attempt, read: Attempt) -> bool:
    """Whether the row was still as it was read, and is changed now."""
    mine = ATTEMPTS.c.token == row.token, ATTEMPTS.c.tried == read.tried
    change = (
        ATTEMPTS.update()
        .where(*mine)
        .values(tried=row.tried, state=row.state, array_token=row.array_token, task=row.task)
    )
    return connection.execute(change).rowcount == 1


def _portions(tokens: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Databases take only so many values in one statement."""
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size]


def _indexes() -> list[sa.Index]:
    return sorted(ATTEMPTS.indexes, key=lambda index: str(index.name))


def default_file() -> Path:
    """The ledger of this host, where the site names no other."""
    return state_directory() / "ledger.sqlite"


def _sqlite_settings(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an intent must outlive a power cut
    cursor.close()
