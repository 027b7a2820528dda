"""Questions of people to the ledger. Each is answered by an index, and reads only what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import sqlalchemy as sa

from zwrap.attempt.ledger.fitting import fitted_recipe_id
from zwrap.attempt.ledger.tables import ATTEMPTS, UNCONCLUDED
from zwrap.attempt.record import Attempt

LAST = "\U0010ffff"
"""The last character in the order of an index."""

NEEDS = (
    ATTEMPTS.c.job_name, ATTEMPTS.c.cluster, ATTEMPTS.c.asked, ATTEMPTS.c.outcome,
    ATTEMPTS.c.elapsed_s, ATTEMPTS.c.peak_memory_mib,
)  # fmt: skip
"""Columns of a `Need`, in its order."""


class Need(NamedTuple):
    """What the job of an attempt needed. Times in seconds, memory in MiB."""

    job_name: str
    cluster: str
    asked: str | None
    outcome: str | None
    elapsed_s: float | None
    peak_memory_mib: float | None


class Selection(NamedTuple):
    """Which attempts are meant; None: all."""

    recipe_id: str | None = None
    cluster: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on rows."""
        found = []
        if self.recipe_id is not None:
            found.append(ATTEMPTS.c.recipe_id == fitted_recipe_id(self.recipe_id))
        if self.cluster is not None:
            found.append(ATTEMPTS.c.cluster == self.cluster)
        return found


EVERY = Selection()
"""All attempts."""


class Queries:
    """The attempts of a ledger, as people ask for them."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._transaction = transaction

    def newest(
        self, number: int, selection: Selection = EVERY, *, outcome: str | None = None
    ) -> list[Attempt]:
        """Return the newest attempts, `number` at most, oldest first.

        `outcome`: only attempts that ended so.
        """
        ended = [] if outcome is None else [ATTEMPTS.c.outcome == outcome]
        return self._last(number, *selection.conditions(), *ended)

    def unconcluded(
        self,
        states: Iterable[str],
        selection: Selection = EVERY,
        *,
        number: int,
        before: Attempt | None = None,
    ) -> list[Attempt]:
        """Return attempts in these states whose end is not recorded, newest first.

        Args:
            states: States of attempts, not of jobs.
            selection: Which of them.
            number: Largest number of attempts.
            before: The last attempt of the page before; None: the first page.
        """
        conditions = [UNCONCLUDED, ATTEMPTS.c.state.in_(tuple(states)), *selection.conditions()]
        if before is not None:
            place = sa.tuple_(ATTEMPTS.c.created, ATTEMPTS.c.token)
            conditions.append(
                place < sa.tuple_(sa.literal(before.created), sa.literal(before.token))
            )
        return self._last(number, *conditions)[::-1]

    def with_job_id(self, job_id: str, number: int) -> list[Attempt]:
        """Return the newest attempts whose jobs have an id, `number` at most, oldest first."""
        return self._last(number, ATTEMPTS.c.job_id == job_id)

    def with_beginning(self, beginning: str, number: int) -> list[Attempt]:
        """Return attempts whose tokens begin with a text, `number` at most, in their order."""
        with self._transaction() as connection:
            query = sa.select(ATTEMPTS).where(*_begins(connection, ATTEMPTS.c.token, beginning))
            rows = connection.execute(query.limit(number)).mappings()
            return sorted((Attempt(**row) for row in rows), key=lambda each: each.token)

    def family(self, attempt: Attempt) -> list[Attempt]:
        """Return all attempts at the message of an attempt, oldest first."""
        with self._transaction() as connection:
            alike = _begins(connection, ATTEMPTS.c.token, f"{attempt.family}-")
            rows = connection.execute(sa.select(ATTEMPTS).where(*alike)).mappings()
            found = [Attempt(**row) for row in rows]
        return sorted(
            (each for each in found if each.family == attempt.family),
            key=lambda each: (each.created, each.token),
        )

    def needs(self, number: int, cluster: str | None = None) -> list[Need]:
        """Return what the newest attempts needed, `number` at most, oldest first."""
        query = sa.select(*NEEDS).where(*Selection(cluster=cluster).conditions())
        with self._transaction() as connection:
            page = query.order_by(ATTEMPTS.c.created.desc()).limit(number)
            return [Need(*row) for row in connection.execute(page)][::-1]

    def _last(self, number: int, *conditions: sa.ColumnElement[bool]) -> list[Attempt]:
        """Return the newest attempts that satisfy conditions, `number` at most, oldest first."""
        query = sa.select(ATTEMPTS).where(*conditions)
        page = query.order_by(ATTEMPTS.c.created.desc(), ATTEMPTS.c.token.desc()).limit(number)
        with self._transaction() as connection:
            return [Attempt(**row) for row in connection.execute(page).mappings()][::-1]


def _begins(
    connection: sa.Connection, column: sa.Column[Any], beginning: str
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of values that begin with a text, such that an index finds them."""
    if connection.dialect.name == "sqlite":
        return [column >= beginning, column < beginning + LAST]
    # Compared byte by byte, whatever the order of the database's language is.
    return [column.op("~>=~")(beginning), column.op("~<~")(beginning + LAST)]
