"""Values that fit into the columns of the ledger, in SQLite and PostgreSQL alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import sqlalchemy as sa
from msgspec.structs import asdict

from zwrap.attempt.ledger.tables import ATTEMPTS
from zwrap.attempt.record import Attempt
from zwrap.errors import PermanentError
from zwrap.host.printable import well_formed

IDENTITIES = frozenset({"token", "cluster", "job_name", "job_directory", "job_id", "array_token"})
"""Columns by which rows and jobs are found, so that a value must not be changed."""

LARGEST_INTEGER = 2**31 - 1
"""Largest value of a column of integers in PostgreSQL."""

LARGEST_FLOAT = math.ldexp(1.0, 1000)
"""Largest value of a column of floating-point numbers."""

_KINDS = {column.name: column.type for column in ATTEMPTS.columns}


class UnstorableError(PermanentError):
    """A value cannot be stored in the ledger."""


def check_storable(attempt: Attempt) -> Attempt:
    """Return the row of an attempt.

    Raises:
        UnstorableError: The ledger cannot hold it; the text names the value.
    """
    fitted(asdict(attempt))
    return attempt


def fitted(values: Mapping[str, object]) -> dict[str, object]:
    """Return values of columns as the ledger can hold them.

    What only informs is cut, or left out (None) where it is a number that is too large; characters
    that a database refuses become escapes.

    Raises:
        UnstorableError: A value by which a row or job is found does not fit.
    """
    return {name: _fitted(name, value) for name, value in values.items()}


def fitted_recipe_id(recipe_id: str) -> str:
    """Return a recipe ID as the ledger holds it, by which its rows are found."""
    return str(_fitted("recipe_id", recipe_id))


def _fitted(name: str, value: object) -> object:
    """Return one value as `fitted` does."""
    kind = _KINDS.get(name)
    if value is None or kind is None:
        return value
    if isinstance(kind, sa.String):
        return _text(name, value if isinstance(value, str) else repr(value), kind.length)
    if not isinstance(value, (int, float)):
        return None
    if isinstance(kind, sa.Integer):
        return int(value) if abs(value) <= LARGEST_INTEGER else None
    return float(value) if abs(value) <= LARGEST_FLOAT else None


def _text(name: str, value: str, length: int | None) -> str:
    """Return a text without characters that a database refuses, `length` characters at most."""
    clean = well_formed(value.replace("\0", "\\x00"))
    whole = length is None or len(clean) <= length
    if whole and (clean == value or name not in IDENTITIES):
        return clean
    if name in IDENTITIES:
        limit = "" if length is None else f"; at most {length} characters without NUL are expected"
        raise UnstorableError(f"The ledger cannot hold {name!r} {clean[:80]!r}{limit}.")
    return f"{clean[: (length or 0) - 3]}..."
