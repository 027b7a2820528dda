"""Which rows of the ledger are meant: conditions on columns, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from zwrap.attempt.ledger.fitting import fitted_recipe_id
from zwrap.attempt.ledger.tables import ATTEMPTS
from zwrap.attempt.record import Attempt

LAST = "\U0010ffff"
"""The last character in the order of an index."""

ESCAPE = "\\"
"""Character before one that a pattern of SQL takes as it is."""


class Selection(NamedTuple):
    """Which attempts are meant. Of each field one value has to fit; empty: any does."""

    recipes: Sequence[str] = ()
    """IDs of recipes, in full."""
    clusters: Sequence[str] = ()
    names: Sequence[str] = ()
    """Patterns of names of jobs, with ``*`` and ``?``, whatever their case."""
    steps: Sequence[int] = ()
    directories: Sequence[str] = ()
    """Absolute paths: the working directory, or one above it."""
    causes: Sequence[str] = ()
    """Labels of known errors, or words of causes. Only rows that are concluded have a cause."""
    since: float | None = None
    """Earliest time at which the attempt was written, in seconds since the epoch."""
    until: float | None = None
    """Time before which it was written, in seconds since the epoch."""

    def conditions(self, connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on rows."""
        row = ATTEMPTS.c
        found: list[sa.ColumnElement[bool]] = []
        if self.recipes:
            found.append(row.recipe_id.in_([fitted_recipe_id(each) for each in self.recipes]))
        if self.clusters:
            found.append(row.cluster.in_(self.clusters))
        if self.steps:
            found.append(row.step.in_(self.steps))
        if self.names:
            found.append(sa.or_(*(_like(row.job_name, pattern(each)) for each in self.names)))
        if self.directories:
            found.append(sa.or_(*(_below(connection, each) for each in self.directories)))
        if self.causes:
            found.append(sa.or_(*map(_because, self.causes)))
        if self.since is not None:
            found.append(row.created >= self.since)
        if self.until is not None:
            found.append(row.created < self.until)
        return found


EVERY = Selection()
"""All attempts."""


def begins(
    connection: sa.Connection, column: sa.Column[Any], beginning: str
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of values that begin with a text, such that an index finds them."""
    if connection.dialect.name == "sqlite":
        return [column >= beginning, column < beginning + LAST]
    # Compared byte by byte, whatever the order of the database's language is.
    return [column.op("~>=~")(beginning), column.op("~<~")(beginning + LAST)]


def older(than: Attempt) -> sa.ColumnElement[bool]:
    """Return the condition of rows that come after one in an order from new to old."""
    place = sa.tuple_(ATTEMPTS.c.created, ATTEMPTS.c.token)
    return place < sa.tuple_(sa.literal(than.created), sa.literal(than.token))


def pattern(wild: str) -> str:
    """Return the pattern of SQL for a text with ``*`` and ``?``."""
    return _literal(wild).replace("*", "%").replace("?", "_")


def _literal(text: str) -> str:
    """Return the pattern of SQL that only a text itself matches."""
    for special in (ESCAPE, "%", "_"):
        text = text.replace(special, ESCAPE + special)
    return text


def _like(column: sa.Column[Any], like: str) -> sa.ColumnElement[bool]:
    """Return the condition of values that match a pattern of SQL, whatever their case."""
    return sa.func.lower(column).like(like.lower(), escape=ESCAPE)


def _below(connection: sa.Connection, directory: str) -> sa.ColumnElement[bool]:
    """Return the condition of attempts whose working directory is in a directory, or is it."""
    beginning = directory.rstrip("/") + "/"
    return sa.and_(*begins(connection, ATTEMPTS.c.job_directory, beginning))


def _because(cause: str) -> sa.ColumnElement[bool]:
    """Return the condition of attempts with a cause, by its label or by words of it."""
    words = _like(ATTEMPTS.c.cause, f"%{_literal(cause)}%")
    return sa.or_(ATTEMPTS.c.cause_label == cause, words)
