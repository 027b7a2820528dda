"""Submissions and verdicts of attempts whose job directories the submit host does not see.

Usually they are files in the job directory; the ledger keeps those of clusters that share no
filesystem with the submit host.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import sqlalchemy as sa

from zwrap.attempt.ledger.dialect import insert_into
from zwrap.attempt.ledger.tables import ATTEMPTS, WORDS
from zwrap.attempt.record import SUBMITTED
from zwrap.attempt.verdict import Verdict, parse_verdict
from zwrap.errors import MessageError
from zwrap.host.clock import Clock
from zwrap.message.jsontext import encode

LEASE_S = 60.0
"""Time for which a Watcher alone may send the final messages of an attempt, in seconds."""


class RemoteAttempt(NamedTuple):
    """Submission and verdict of one attempt, as the ledger keeps them."""

    submission: str
    """JSON."""
    verdict: Verdict | None
    sent: float | None
    """Time at which its final messages were sent, in seconds since the epoch."""
    late: str | None
    """A later verdict, JSON; its messages are never sent."""
    secret: str | None
    """Secret of the attempt, with which its wrapper signs the verdict; None: an earlier release
    submitted the job."""


class RemoteAttempts:
    """The table ``words`` of a ledger: one row per attempt without a visible job directory."""

    def __init__(
        self, transaction: Callable[[], AbstractContextManager[sa.Connection]], now: Clock
    ) -> None:
        self._transaction = transaction
        self._now = now

    def keep(self, token: str, submission: str, secret: str | None = None) -> str | None:
        """Keep a submission, before its job exists; replace the one that was kept before.

        Returns the secret of the attempt: the one given if the row is new, else the one that it
        has, which an earlier script may have brought to its job.
        """
        with self._transaction() as connection:
            values = {"token": token, "submission": submission, "secret": secret}
            kept = {"submission": submission}
            row = insert_into(connection, WORDS).values(values)
            connection.execute(row.on_conflict_do_update(index_elements=["token"], set_=kept))
            query = sa.select(WORDS.c.secret).where(WORDS.c.token == token)
            found: str | None = connection.execute(query).scalar_one()
        return found

    def get(self, token: str) -> RemoteAttempt | None:
        """Return the row of an attempt; None: there is none, because it has a job directory.

        Raises:
            MessageError: The verdict in the ledger is damaged.
        """
        columns = WORDS.c.submission, WORDS.c.verdict, WORDS.c.sent, WORDS.c.late, WORDS.c.secret
        query = sa.select(*columns)
        with self._transaction() as connection:
            row = connection.execute(query.where(WORDS.c.token == token)).first()
        if row is None:
            return None
        try:
            verdict = parse_verdict(row.verdict.encode(), "its text") if row.verdict else None
        except MessageError as error:
            raise MessageError(
                f"The ledger does not hold a valid verdict on attempt {token}: {error}"
            ) from None
        return RemoteAttempt(row.submission, verdict, row.sent, row.late, row.secret)

    def trusting(self) -> int:
        """Return the number of open attempts whose verdict is believed whoever sends it.

        Their jobs were submitted by an earlier release, and have no secret.
        """
        mine = WORDS.c.token == ATTEMPTS.c.token, WORDS.c.secret.is_(None)
        still_open = ATTEMPTS.c.state == SUBMITTED, ATTEMPTS.c.outcome.is_(None)
        query = sa.select(sa.func.count()).select_from(WORDS, ATTEMPTS).where(*mine, *still_open)
        with self._transaction() as connection:
            return int(connection.execute(query).scalar_one())

    def submission(self, token: str) -> str | None:
        """Return the submission of an attempt, JSON; None: there is none."""
        query = sa.select(WORDS.c.submission).where(WORDS.c.token == token)
        with self._transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else str(row.submission)

    def has_verdict(self, token: str) -> bool:
        """Return True if the ledger holds a verdict on an attempt, whatever its outcome."""
        query = sa.select(WORDS.c.token).where(WORDS.c.token == token, WORDS.c.verdict.is_not(None))
        with self._transaction() as connection:
            return connection.execute(query).first() is not None

    def put_verdict(self, verdict: Verdict) -> bool:
        """Put a verdict in place, take its lease and return True; False: another was first.

        A later verdict is kept in column ``late``, unless it equals the first one.
        """
        text, now = encode(verdict).decode(), self._now()
        mine = WORDS.c.token == verdict.token
        with self._transaction() as connection:
            first = WORDS.update().where(mine, WORDS.c.verdict.is_(None))
            if connection.execute(first.values(verdict=text, lease=now)).rowcount:
                return True
            late = WORDS.update().where(mine, WORDS.c.verdict != text)
            connection.execute(late.values(late=text))
        return False

    def take_sending(self, token: str) -> bool:
        """Take the lease to send a verdict's messages; False: they were sent, or another has it."""
        now = self._now()
        stale = WORDS.c.lease < now - LEASE_S
        change = WORDS.update().where(WORDS.c.token == token, WORDS.c.sent.is_(None), stale)
        with self._transaction() as connection:
            return connection.execute(change.values(lease=now)).rowcount == 1

    def replace_verdict(self, verdict: Verdict) -> bool:
        """Put a verdict in the place of one that cannot be used, and take its lease.

        False: the other one's messages were sent, or another process is sending them.
        """
        text, now = encode(verdict).decode(), self._now()
        stale = sa.or_(WORDS.c.lease.is_(None), WORDS.c.lease < now - LEASE_S)
        change = WORDS.update().where(WORDS.c.token == verdict.token, WORDS.c.sent.is_(None), stale)
        with self._transaction() as connection:
            return connection.execute(change.values(verdict=text, lease=now)).rowcount == 1

    def amend(self, verdict: Verdict) -> None:
        """Put a verdict in the place of one with the same final messages."""
        text = encode(verdict).decode()
        with self._transaction() as connection:
            mine = WORDS.c.token == verdict.token
            connection.execute(WORDS.update().where(mine).values(verdict=text))

    def renew(self, token: str) -> None:
        """Renew the lease to send a verdict's messages."""
        self._set_lease(token, self._now())

    def give_back(self, token: str) -> None:
        """Give the lease back: the messages that are left may be sent now, by any process."""
        self._set_lease(token, 0.0)

    def _set_lease(self, token: str, lease: float) -> None:
        """Set the time of the lease of a verdict."""
        with self._transaction() as connection:
            connection.execute(WORDS.update().where(WORDS.c.token == token).values(lease=lease))

    def mark_sent(self, token: str) -> None:
        """Mark that the final messages of a verdict were sent."""
        now = self._now()
        with self._transaction() as connection:
            connection.execute(WORDS.update().where(WORDS.c.token == token).values(sent=now))
