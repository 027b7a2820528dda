"""What elsewhere lies in the job directory: submission and last word of attempts whose cluster
shares no filesystem with the submit host.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from zwrap.attempt.ledger.tables import WORDS

LEASE_S = 60.0
"""So long another Watcher may take to send the last messages of an attempt."""


class Word(NamedTuple):
    """The last word on an attempt, JSON, as far as it was said and sent."""

    submission: str
    verdict: str | None
    sent: float | None
    late: str | None
    """What another had to say after that; never sent."""


class Words:
    """The table `words` of a ledger."""

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[sa.Connection]],
        now: Callable[[], float],
    ) -> None:
        self._transaction = transaction
        self._now = now

    def keep(self, token: str, submission: str) -> None:
        """Keep what was submitted, before the job exists; what was kept before is replaced."""
        with self._transaction() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            row = dialect.insert(WORDS).values(token=token, submission=submission)
            kept = {"submission": submission}
            connection.execute(row.on_conflict_do_update(index_elements=["token"], set_=kept))

    def get(self, token: str) -> Word | None:
        """What there is of an attempt; None: nothing was kept, its words lie elsewhere."""
        query = sa.select(WORDS.c.submission, WORDS.c.verdict, WORDS.c.sent, WORDS.c.late)
        with self._transaction() as connection:
            row = connection.execute(query.where(WORDS.c.token == token)).first()
        return Word(*row) if row else None

    def speak(self, token: str, verdict: str) -> bool:
        """Put the verdict in place and take on its sending; False if another has spoken.

        What comes late is kept, unless it is the same once more.
        """
        mine, now = WORDS.c.token == token, self._now()
        with self._transaction() as connection:
            first = WORDS.update().where(mine, WORDS.c.verdict.is_(None))
            if connection.execute(first.values(verdict=verdict, lease=now)).rowcount:
                return True
            late = WORDS.update().where(mine, WORDS.c.verdict != verdict)
            connection.execute(late.values(late=verdict))
        return False

    def take(self, token: str) -> bool:
        """Take on the sending of a verdict; False if it was sent, or another may be at it."""
        now = self._now()
        stale = WORDS.c.lease < now - LEASE_S
        change = WORDS.update().where(WORDS.c.token == token, WORDS.c.sent.is_(None), stale)
        with self._transaction() as connection:
            return connection.execute(change.values(lease=now)).rowcount == 1

    def mark_sent(self, token: str) -> None:
        """Everything of the verdict has been sent."""
        now = self._now()
        with self._transaction() as connection:
            connection.execute(WORDS.update().where(WORDS.c.token == token).values(sent=now))
