"""Submissions and verdicts of attempts whose job directories nobody here sees.

Elsewhere they lie in the job directory; for clusters that share no filesystem with the submit host
the ledger keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from zwrap.attempt.ledger.tables import WORDS
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError
from zwrap.host.clock import Clock

LEASE_S = 60.0
"""Time that a Watcher may take to send the final messages of an attempt, in seconds."""


class RemoteAttempt(NamedTuple):
    """What the ledger keeps of one attempt."""

    submission: str
    """JSON."""
    verdict: Verdict | None
    sent: float | None
    """When its final messages were sent, seconds since the epoch."""
    late: str | None
    """A later verdict, JSON; its messages are never sent."""


class RemoteAttempts:
    """The table `words` of a ledger."""

    def __init__(
        self, transaction: Callable[[], AbstractContextManager[sa.Connection]], now: Clock
    ) -> None:
        self._transaction = transaction
        self._now = now

    def keep(self, token: str, submission: str) -> None:
        """Keep what is submitted, before the job exists; replace what was kept before."""
        with self._transaction() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            row = dialect.insert(WORDS).values(token=token, submission=submission)
            kept = {"submission": submission}
            connection.execute(row.on_conflict_do_update(index_elements=["token"], set_=kept))

    def get(self, token: str) -> RemoteAttempt | None:
        """Return what is kept of an attempt; None: nothing, it has a job directory.

        Raises:
            MessageError: the verdict in the ledger is damaged.
        """
        query = sa.select(WORDS.c.submission, WORDS.c.verdict, WORDS.c.sent, WORDS.c.late)
        with self._transaction() as connection:
            row = connection.execute(query.where(WORDS.c.token == token)).first()
        if row is None:
            return None
        try:
            verdict = msgspec.json.decode(row.verdict, type=Verdict) if row.verdict else None
        except msgspec.MsgspecError as error:
            raise MessageError(
                f"The ledger does not hold a valid verdict on attempt {token}: {error}."
            ) from None
        return RemoteAttempt(row.submission, verdict, row.sent, row.late)

    def has_verdict(self, token: str) -> bool:
        """Return whether the ledger keeps a verdict on an attempt, whatever it says."""
        query = sa.select(WORDS.c.token).where(WORDS.c.token == token, WORDS.c.verdict.is_not(None))
        with self._transaction() as connection:
            return connection.execute(query).first() is not None

    def put_verdict(self, verdict: Verdict) -> bool:
        """Put a verdict in place and take on its sending; False: another was first.

        A later verdict is kept as late, unless it is the same once more.
        """
        text, now = msgspec.json.encode(verdict).decode(), self._now()
        mine = WORDS.c.token == verdict.token
        with self._transaction() as connection:
            first = WORDS.update().where(mine, WORDS.c.verdict.is_(None))
            if connection.execute(first.values(verdict=text, lease=now)).rowcount:
                return True
            late = WORDS.update().where(mine, WORDS.c.verdict != text)
            connection.execute(late.values(late=text))
        return False

    def take_sending(self, token: str) -> bool:
        """Take on the sending of a verdict; False: it was sent, or another may be at it."""
        now = self._now()
        stale = WORDS.c.lease < now - LEASE_S
        change = WORDS.update().where(WORDS.c.token == token, WORDS.c.sent.is_(None), stale)
        with self._transaction() as connection:
            return connection.execute(change.values(lease=now)).rowcount == 1

    def mark_sent(self, token: str) -> None:
        """Mark that the final messages of a verdict were sent."""
        now = self._now()
        with self._transaction() as connection:
            connection.execute(WORDS.update().where(WORDS.c.token == token).values(sent=now))
