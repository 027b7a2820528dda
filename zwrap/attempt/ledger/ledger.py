"""The ledger: the site's record of each attempt, written before its job is submitted.

SQLite on a local disk (write-ahead log), or PostgreSQL where several submit hosts share it. Jobs
never open it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from msgspec.structs import asdict, replace

from zwrap.attempt.ledger import changes as happened, events, requests
from zwrap.attempt.ledger.database import Database
from zwrap.attempt.ledger.dialect import insert_into
from zwrap.attempt.ledger.fitting import fitted, fitted_recipe_id
from zwrap.attempt.ledger.place import Marks, default_file, prepare, spool_of
from zwrap.attempt.ledger.query import Queries
from zwrap.attempt.ledger.remote import RemoteAttempts
from zwrap.attempt.ledger.tables import ATTEMPTS
from zwrap.attempt.ledger.thinning import Event
from zwrap.attempt.record import GIVEN_UP, INTENDED, NOT_FOUND, SUBMITTED, Attempt, Sighting
from zwrap.attempt.verdict import Verdict
from zwrap.configuration.site import Configuration
from zwrap.host.clock import Clock, wall
from zwrap.host.paths import made_private
from zwrap.message.jsontext import encode

ORDER_S = 1e-6
"""Difference of the times of attempts that are made together, by which they keep their order."""

OF_TRY = (
    "tried", "state", "array_token", "task", "cluster", "job_name", "job_directory", "asked",
)  # fmt: skip
"""Columns that a further try at the same attempt may change."""

_IF_NOT_GIVEN_UP = sa.func.nullif(ATTEMPTS.c.reason, GIVEN_UP)
"""Reason of an attempt that somebody is at work on again."""

_UNCONCLUDED = ATTEMPTS.c.state == SUBMITTED, ATTEMPTS.c.outcome.is_(None)


class Ledger:
    """All attempts of a site, in a database that the first use, or `open`, brings up to date.

    `url` is a database URL of SQLAlchemy. `clock` returns the time, in seconds since the epoch, of
    a ledger that one host has for itself; a database server has its own clock.

    Raises ConfigurationError if the URL is not valid, or if its driver is not installed.
    """

    def __init__(self, url: str, clock: Clock = wall, spool: Path | None = None) -> None:
        self._clock = clock
        self.database = Database(url, spool)
        self._transaction = self.database.transaction
        self.remote = RemoteAttempts(self._transaction, self.now)
        self.queries = Queries(self._transaction)
        self.requests = requests.Requests(self._transaction)
        self.events = events.Events(self._transaction, self._moment)

    def open(self) -> Self:
        """Do as `Database.open`, and return the ledger."""
        self.database.open()
        return self

    @classmethod
    def in_file(cls, path: Path, spool: Path | None = None) -> Ledger:
        """Open the SQLite ledger in a file; `spool` as for `Database`.

        Raises:
            ConfigurationError: Its directory cannot be created, or is on a network filesystem.
            UnusableLedgerError: The file is not there any more.
        """
        Marks(path, spool).check()
        prepare(path)
        return cls(f"sqlite:///{path}", spool=spool).open()

    @classmethod
    def of(cls, configuration: Configuration) -> Ledger:
        """Open the ledger that the site's plugin `ledger` describes, else the file of this host."""
        given = configuration.site.ledger
        if given:
            return cls(given.url).open()
        return cls.in_file(made_private(default_file()), spool_of(configuration))

    @property
    def is_shared(self) -> bool:
        """True if several hosts may use the ledger."""
        return self.database.is_shared

    def now(self) -> float:
        """Return seconds since the epoch, by the clock that all users of the ledger share."""
        if not self.is_shared:
            return self._clock()
        with self._transaction() as connection:
            return self._moment(connection)

    def _moment(self, connection: sa.Connection) -> float:
        """Return the time as `now` does, within a transaction."""
        if not self.is_shared:
            return self._clock()
        told = connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp())))
        return float(told.scalar_one())

    def known(self, tokens: Sequence[str]) -> dict[str, Attempt]:
        """Return the attempts with these tokens, as far as the ledger holds them, by token."""
        found = {}
        with self._transaction() as connection:
            for some in _portions(tokens):
                query = sa.select(ATTEMPTS).where(ATTEMPTS.c.token.in_(some))
                for row in connection.execute(query).mappings():
                    found[row["token"]] = Attempt(**row)
        return found

    def reserve(
        self, attempts: Sequence[Attempt], runs: Sequence[requests.RunOf] = ()
    ) -> list[Attempt]:
        """Write the intent to submit attempts now, in one transaction; return those that are ours.

        An attempt is ours if it is new in the ledger, or if its row is still as it was read. The
        job of any other attempt is being submitted by another process. `runs`: the runs of recipes
        to which they belong, as far as it is known who asked for these.
        """
        now = self.now()
        rows = [
            replace(
                attempt, state=INTENDED, created=attempt.created or now + number * ORDER_S,
                tried=now, job_id=None,
                reason=None if attempt.reason == GIVEN_UP else attempt.reason,
            )
            for number, attempt in enumerate(attempts)
        ]  # fmt: skip
        new = [row for row, attempt in zip(rows, attempts, strict=True) if not attempt.tried]
        ours: set[str] = set()
        with self._transaction() as connection:
            if new:
                ours |= self._inserted(connection, new)
                taken = [happened.of_intent(row, now) for row in new if row.token in ours]
                events.write(connection, taken)
                requests.write(connection, runs)
            for row, read in zip(rows, attempts, strict=True):
                if read.tried and _changed(connection, row, read):
                    ours.add(row.token)
        return [row for row in rows if row.token in ours]

    def _inserted(self, connection: sa.Connection, rows: Sequence[Attempt]) -> set[str]:
        """Insert the rows that are not there yet; return their tokens."""
        insert = insert_into(connection, ATTEMPTS).on_conflict_do_nothing()
        # sorted, because two hosts with the same attempts could wait for each other otherwise
        values = [fitted(asdict(row)) for row in sorted(rows, key=lambda each: each.token)]
        return set(connection.execute(insert.returning(ATTEMPTS.c.token), values).scalars())

    def record(
        self,
        changes: Mapping[str, Mapping[str, object]],
        also: Callable[[float], Sequence[Event]] | None = None,
    ) -> None:
        """Write values of columns (token to column to value), and their events, in one transaction.

        `also`: function from the ledger's time to further events.
        """
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for token, values in changes.items():
            alike[tuple(sorted(values))].append({"of": token, **fitted(values)})
        with self._transaction() as connection:
            for names, values_of_many in alike.items():
                update = ATTEMPTS.update().where(ATTEMPTS.c.token == sa.bindparam("of"))
                new: dict[str, Any] = {name: sa.bindparam(name) for name in names}
                connection.execute(update.values(**new), values_of_many)
            if also or any(map(happened.is_told, changes.values())):
                now = self._moment(connection)
                told = [happened.of_columns(token, new, now) for token, new in changes.items()]
                more = also(now) if also else ()
                events.write(connection, [*(event for event in told if event), *more])

    def note_not_found(self, attempts: Sequence[Attempt]) -> None:
        """Note that no job of these attempts was found, where the rows are still as they were read.

        The time of the last try is now, so that a process that read the row before leaves it alone.
        """
        new = {"state": NOT_FOUND, "tried": self.now(), "reason": _IF_NOT_GIVEN_UP}
        with self._transaction() as connection:
            for read in attempts:
                mine = ATTEMPTS.c.token == read.token, ATTEMPTS.c.tried == read.tried
                connection.execute(ATTEMPTS.update().where(*mine).values(new))

    def record_sightings(self, sightings: Mapping[str, Sighting]) -> None:
        """Write states of jobs in the batch system, by token of the attempt, in one transaction."""
        now = self.now()
        self.record(
            {
                token: {
                    "seen": now,
                    "seen_state": seen.state,
                    "seen_reason": seen.reason,
                    "node": seen.node,
                    "exit_code": seen.exit_code,
                    "signal": seen.signal,
                    "ended": seen.ended,
                    "peak_memory_mib": seen.peak_memory_mib,
                }
                for token, seen in sightings.items()
            },
            lambda at: [happened.of_sighting(token, seen, at) for token, seen in sightings.items()],
        )

    def record_verdict(self, token: str, verdict: Verdict) -> None:
        """Write how an attempt ended, once everything was sent."""
        corrected = encode(verdict.corrected).decode() if verdict.corrected else None
        self.record(
            {token: {**verdict.facts, "seen": self.now(), "corrected": corrected}},
            lambda at: happened.of_verdict(token, verdict, at),
        )

    def unconcluded(self, cluster: str) -> list[Attempt]:
        """Return attempts on a cluster that were submitted and not concluded, oldest first.

        Where the job is known to have ended, `Attempt.ended` tells since when.
        """
        query = sa.select(ATTEMPTS).where(*_UNCONCLUDED, ATTEMPTS.c.cluster == cluster)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(ATTEMPTS.c.created)).mappings()
            return [Attempt(**row) for row in rows]

    def open_clusters(self) -> list[str]:
        """Return the names of the clusters with attempts that are submitted and not concluded."""
        first = sa.select(sa.func.min(ATTEMPTS.c.cluster)).where(*_UNCONCLUDED)
        found: list[str] = []
        with self._transaction() as connection:
            # From one name to the next in the index, however many attempts each cluster has.
            while name := connection.scalar(first.where(ATTEMPTS.c.cluster > (found or [""])[-1])):
                found.append(name)
        return found

    def get(self, token: str) -> Attempt | None:
        """Return one attempt; None if the ledger does not hold it."""
        with self._transaction() as connection:
            query = sa.select(ATTEMPTS).where(ATTEMPTS.c.token == token)
            row = connection.execute(query).mappings().first()
        return Attempt(**row) if row else None

    def of_recipes(self, recipe_ids: Sequence[str]) -> list[Attempt]:
        """Return the attempts at steps of these runs of recipes, oldest first.

        Each has the ID that was asked for. The column holds the beginning of a long ID only: two
        IDs that begin alike have the same rows, which are told apart by their `run`.
        """
        asked: dict[str, list[str]] = defaultdict(list)
        for recipe_id in recipe_ids:
            asked[fitted_recipe_id(recipe_id)].append(recipe_id)
        found: list[Attempt] = []
        with self._transaction() as connection:
            for some in _portions(sorted(asked)):
                query = sa.select(ATTEMPTS).where(ATTEMPTS.c.recipe_id.in_(some))
                for row in connection.execute(query.order_by(ATTEMPTS.c.created)).mappings():
                    whole = asked[row["recipe_id"]]
                    found += [Attempt(**{**row, "recipe_id": recipe_id}) for recipe_id in whole]
        return found

    def close(self) -> None:
        """Close all connections."""
        self.database.close()


def _changed(connection: sa.Connection, row: Attempt, read: Attempt) -> bool:
    """Write `row` if the ledger's row is still as it was read; return whether it was."""
    mine = ATTEMPTS.c.token == row.token, ATTEMPTS.c.tried == read.tried
    values = asdict(row)
    new = fitted({name: values[name] for name in OF_TRY})
    change = ATTEMPTS.update().where(*mine).values(**new, reason=_IF_NOT_GIVEN_UP)
    return connection.execute(change).rowcount == 1


def _portions(tokens: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Yield the tokens in portions; databases limit the number of values in one statement."""
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size]
