"""Requests in the ledger: who sent them, and which runs of recipes they started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec
import sqlalchemy as sa

from zwrap.attempt.ledger.dialect import insert_into
from zwrap.attempt.ledger.fitting import fitted_recipe_id
from zwrap.attempt.ledger.tables import REQUESTS
from zwrap.attempt.sender import Sender, encode_names
from zwrap.message.jsontext import decode

RunOf = tuple[str, Sender]
"""The ID of a run of a recipe, and who sent its request."""


class Request(msgspec.Struct, frozen=True):
    """A run of a recipe, and the request that started it."""

    id: str
    recipe_id: str
    sent: float | None
    """Time at which it was sent, by its sender, in seconds since the epoch; None: not known."""
    user: str | None
    host: str | None
    directory: str | None
    recipes: list[str]
    """Names of the recipes that it asked for."""


class Requests:
    """The requests of a ledger."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._transaction = transaction

    def of(self, identity: str) -> list[Request]:
        """Return the runs that a request has started; [] if it is not known."""
        return self._found(REQUESTS.c.id == identity)

    def of_recipe(self, recipe_id: str) -> list[Request]:
        """Return the requests that started a run of a recipe: one, or [] if it is not known."""
        return self._found(REQUESTS.c.recipe_id == fitted_recipe_id(recipe_id))

    def _found(self, condition: sa.ColumnElement[bool]) -> list[Request]:
        """Return the rows that satisfy a condition."""
        with self._transaction() as connection:
            query = sa.select(REQUESTS).where(condition).order_by(REQUESTS.c.recipe_id)
            rows = connection.execute(query).mappings().all()
        return [Request(**{**row, "recipes": _names(row["recipes"])}) for row in rows]


def write(connection: sa.Connection, runs: Sequence[RunOf]) -> None:
    """Write requests in a transaction, unless they are there."""
    rows = {
        (sender.id, fitted_recipe_id(recipe_id)): {
            "id": sender.id, "recipe_id": fitted_recipe_id(recipe_id), "sent": sender.sent,
            "user": sender.user, "host": sender.host, "directory": sender.directory,
            "recipes": encode_names(sender.recipes),
        }
        for recipe_id, sender in runs
    }  # fmt: skip
    if rows:
        # sorted, because two hosts with the same requests could wait for each other otherwise
        values = [rows[key] for key in sorted(rows)]
        connection.execute(insert_into(connection, REQUESTS).on_conflict_do_nothing(), values)


def _names(text: str | None) -> list[str]:
    """Return the names of recipes in a row."""
    names = decode((text or "[]").encode(), "names of recipes")
    return [str(name) for name in names] if isinstance(names, list) else []
