"""Questions of people to the ledger. Each is answered by an index, and reads only what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import sqlalchemy as sa

from zwrap.attempt.ledger.selection import EVERY, Selection, begins, older
from zwrap.attempt.ledger.tables import ATTEMPTS, UNCONCLUDED
from zwrap.attempt.record import Attempt

NEEDS = (
    ATTEMPTS.c.job_name, ATTEMPTS.c.cluster, ATTEMPTS.c.asked, ATTEMPTS.c.outcome,
    ATTEMPTS.c.elapsed_s, ATTEMPTS.c.peak_memory_mib,
)  # fmt: skip
"""Columns of a `Need`, in its order."""

PAGE = 1000
"""Number of attempts that are read at once while some among them are looked for."""


class Need(NamedTuple):
    """What the job of an attempt needed. Times in seconds, memory in MiB."""

    job_name: str
    cluster: str
    asked: str | None
    outcome: str | None
    elapsed_s: float | None
    peak_memory_mib: float | None


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
        return self._last(number, selection, *ended)

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
        open_ones = UNCONCLUDED, ATTEMPTS.c.state.in_(tuple(states))
        return self._last(number, selection, *open_ones, before=before)[::-1]

    def each(
        self,
        selection: Selection = EVERY,
        *,
        outcome: str | None = None,
        states: Iterable[str] | None = None,
    ) -> Iterator[Attempt]:
        """Yield attempts, newest first, of which a page is read at once.

        Args:
            selection: Which of them.
            outcome: Only attempts that ended so; None: any.
            states: Only attempts in these states whose end is not recorded; None: any.
        """
        further = [] if outcome is None else [ATTEMPTS.c.outcome == outcome]
        if states is not None:
            further += [UNCONCLUDED, ATTEMPTS.c.state.in_(tuple(states))]
        rows = self._last(PAGE, selection, *further)
        while rows:
            yield from reversed(rows)
            if len(rows) < PAGE:
                return
            rows = self._last(PAGE, selection, *further, before=rows[0])

    def with_job_id(self, job_id: str, number: int, cluster: str | None = None) -> list[Attempt]:
        """Return the newest attempts whose jobs have an id, `number` at most, oldest first."""
        of_cluster = Selection(clusters=[cluster]) if cluster is not None else EVERY
        return self._last(number, of_cluster, ATTEMPTS.c.job_id == job_id)

    def with_beginning(self, beginning: str, number: int) -> list[Attempt]:
        """Return attempts whose tokens begin with a text, `number` at most, in their order."""
        with self._transaction() as connection:
            query = sa.select(ATTEMPTS).where(*begins(connection, ATTEMPTS.c.token, beginning))
            rows = connection.execute(query.limit(number)).mappings()
            return sorted((Attempt(**row) for row in rows), key=lambda each: each.token)

    def recipes(self, beginning: str, number: int) -> list[str]:
        """Return IDs of recipes that begin with a text, `number` at most."""
        column = ATTEMPTS.c.recipe_id
        with self._transaction() as connection:
            query = sa.select(column).where(*begins(connection, column, beginning)).distinct()
            return sorted(connection.execute(query.limit(number)).scalars())

    def family(self, attempt: Attempt) -> list[Attempt]:
        """Return all attempts at the message of an attempt, oldest first."""
        with self._transaction() as connection:
            alike = begins(connection, ATTEMPTS.c.token, f"{attempt.family}-")
            rows = connection.execute(sa.select(ATTEMPTS).where(*alike)).mappings()
            found = [Attempt(**row) for row in rows]
        return sorted(
            (each for each in found if each.family == attempt.family),
            key=lambda each: (each.created, each.token),
        )

    def needs(self, number: int, cluster: str | None = None) -> list[Need]:
        """Return what the newest attempts needed, `number` at most, oldest first."""
        asked = Selection(clusters=[cluster]) if cluster is not None else EVERY
        with self._transaction() as connection:
            query = sa.select(*NEEDS).where(*asked.conditions(connection))
            page = query.order_by(ATTEMPTS.c.created.desc()).limit(number)
            return [Need(*row) for row in connection.execute(page)][::-1]

    def numbers(
        self, selection: Selection, columns: Sequence[str]
    ) -> dict[tuple[object, ...], int]:
        """Return how many concluded attempts have which values of these columns, at least one."""
        chosen = [ATTEMPTS.c[name] for name in columns]
        with self._transaction() as connection:
            ended = [ATTEMPTS.c.outcome.is_not(None), *selection.conditions(connection)]
            query = sa.select(*chosen, sa.func.count()).where(*ended).group_by(*chosen)
            return {tuple(row[:-1]): row[-1] for row in connection.execute(query)}

    def _last(
        self,
        number: int,
        selection: Selection,
        *further: sa.ColumnElement[bool],
        before: Attempt | None = None,
    ) -> list[Attempt]:
        """Return the newest attempts that satisfy conditions, `number` at most, oldest first."""
        newest_first = ATTEMPTS.c.created.desc(), ATTEMPTS.c.token.desc()
        with self._transaction() as connection:
            conditions = [*further, *selection.conditions(connection)]
            if before is not None:
                conditions.append(older(before))
            page = sa.select(ATTEMPTS).where(*conditions).order_by(*newest_first).limit(number)
            return [Attempt(**row) for row in connection.execute(page).mappings()][::-1]
