"""The sentence about a statement that the database refused: what was to be written, and why not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from zwrap.errors import MessageError, short
from zwrap.host.hiding import shown
from zwrap.service.ispyb.numbers import number_of, remark_of

LONGEST = 300
"""Length to which the server's own words are cut, in characters."""

_NAMED = re.compile(r"(?:column|field) [`'](?:[^`']+`\.`)*([^`'.]+)[`']", re.IGNORECASE)
_CONSTRAINT = re.compile(r"FOREIGN KEY \(`([^`]+)`\)")
_TARGET = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM|FROM) `?(\w+)`?")


def refusal(error: sa.exc.DBAPIError) -> MessageError:
    """Return the error of a message whose statement was refused.

    It names table, column, value (cut), number and the server's own words. A note on `error`
    (PEP 678) that says which command it was stands before that.
    """
    notes = getattr(error, "__notes__", None)
    said = shown(str(getattr(error.orig, "msg", None) or error.orig))[:LONGEST].rstrip(".")
    number = number_of(error)
    why = f"error {number}, {remark_of(error)}" if number else remark_of(error)
    begin = notes[0] if notes else "The message"
    return MessageError(f"{begin}: the database refuses {_what(error, said)}: {said} ({why}).")


@contextlib.contextmanager
def begun(subject: str) -> Iterator[None]:
    """Have the sentence about a statement that is refused begin with what it was for."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        error.add_note(subject)
        raise


def words_of(error: sa.exc.SQLAlchemyError) -> str:
    """Return what the server or the client library says about an error, without its statement."""
    orig = getattr(error, "orig", None)
    return shown(str(orig if orig is not None else error))[:LONGEST].rstrip(".")


def _what(error: sa.exc.DBAPIError, said: str) -> str:
    """Return table, column and value of a statement, as far as they are known."""
    target = _TARGET.search(error.statement or "")
    found = _NAMED.search(said) or _CONSTRAINT.search(said)
    if target is None:
        return "a statement"
    if found is None:
        return f"a row of {target[1]}"
    named = f"{target[1]}.{found[1]}"
    given = error.params if isinstance(error.params, Mapping) else {}
    return f"{named} = {short(given[found[1]])}" if found[1] in given else named
