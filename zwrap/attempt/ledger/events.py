"""Events: what happened to an attempt or a request, when, and who says so.

They are written in the transactions that change rows of attempts (`zwrap.attempt.ledger.changes`),
and by `Events.note` for what a person does. How many are kept: `zwrap.attempt.ledger.thinning`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import sqlalchemy as sa
from msgspec.structs import astuple

from zwrap.attempt.ledger.dialect import insert_into
from zwrap.attempt.ledger.tables import EVENTS
from zwrap.attempt.ledger.thinning import ACTION, PROGRESS, RUNNING, Event, thinned

PORTION = 500
"""Number of tokens in one statement."""

_NAMES = tuple(column.name for column in EVENTS.columns)
"""Columns, in the order of the fields of an event."""

Moment = Callable[[sa.Connection], float]
"""Function that returns the ledger's time, in seconds since the epoch."""


class Events:
    """The events of a ledger."""

    def __init__(
        self, transaction: Callable[[], AbstractContextManager[sa.Connection]], moment: Moment
    ) -> None:
        self._transaction = transaction
        self._moment = moment

    def note(
        self,
        tokens: Sequence[str],
        what: str,
        who: str,
        reason: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Write what a person does to attempts or requests, in one transaction.

        Args:
            tokens: Tokens of the attempts, or ids of the requests.
            what: The action, such as ``cancelled``: 40 characters at most.
            who: The person, as user@host.
            reason: What the person gives as the reason; None: nothing.
            facts: Further facts.
        """
        told = {**({"reason": reason} if reason else {}), **(facts or {})}
        with self._transaction() as connection:
            now = self._moment(connection)
            noted = [Event.told(token, now, what, who, {ACTION: 1, **told}) for token in tokens]
            write(connection, noted)

    def of(self, token: str) -> list[Event]:
        """Return the events of an attempt or request, oldest first; [] if none are known."""
        return self.of_all([token]).get(token, [])

    def of_all(self, tokens: Sequence[str]) -> dict[str, list[Event]]:
        """Return the events of attempts or requests that have any, by token, oldest first."""
        with self._transaction() as connection:
            return _read(connection, tokens)


def write(connection: sa.Connection, events: Sequence[Event]) -> None:
    """Write events in a transaction, as far as they tell something new; thin out older ones.

    The first event of an attempt, and those that cannot repeat themselves, cost no look at others.
    """
    several = {event.token for event in events if event.may_repeat}
    known = _read(connection, sorted(several)) if several else {}
    new, gone = [], []
    for event in sorted(events, key=lambda each: (each.token, each.at)):
        before = known.get(event.token, [])
        if event.may_repeat and _is_known(event, before):
            continue
        new.append(event)
        if event.token in several:
            kept, dropped = thinned([*before, event])
            known[event.token] = kept
            gone += dropped
    if new:
        values = [dict(zip(_NAMES, astuple(each), strict=True)) for each in new]
        connection.execute(insert_into(connection, EVENTS).on_conflict_do_nothing(), values)
    if gone:
        where = [EVENTS.c[name] == sa.bindparam(f"of_{name}") for name in ("token", "at", "what")]
        keys = [{"of_token": e.token, "of_at": e.at, "of_what": e.what} for e in gone]
        connection.execute(EVENTS.delete().where(*where), keys)


def _is_known(event: Event, before: Sequence[Event]) -> bool:
    """Return True if an event tells nothing new; a milestone is told once in each run of a job."""
    for each in reversed(before):
        if each.says_the_same(event):
            return True
        if event.what != PROGRESS or each.what == RUNNING:
            break
    return False


def _read(connection: sa.Connection, tokens: Sequence[str]) -> dict[str, list[Event]]:
    """Return the events of these tokens, oldest first."""
    found: dict[str, list[Event]] = defaultdict(list)
    for some in _portions(tokens):
        query = sa.select(EVENTS).where(EVENTS.c.token.in_(some))
        for row in connection.execute(query.order_by(EVENTS.c.token, EVENTS.c.at)):
            found[row[0]].append(Event(*row))
    return dict(found)


def _portions(tokens: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the tokens in portions; databases limit the number of values in one statement."""
    for start in range(0, len(tokens), PORTION):
        yield tokens[start : start + PORTION]
