"""What is wrong with a ledger, as one sentence."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa

from zwrap.errors import PERMANENT, ConfigurationError, OutageError

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Result codes of SQLite for a file that does not hold what it should."""

_NO_RIGHT = "42501"
"""Error code of PostgreSQL for a user who may not do something."""


class UnusableLedgerError(OutageError):
    """The ledger is damaged, or is not where it was: a person has to see to it.

    Of messages it is an outage, which none of them can help; a command or service that meets it
    when it starts ends for good.
    """

    exit_status = PERMANENT


class NewerLedgerError(ConfigurationError):
    """The ledger was brought up to date by a later release."""


def fault_of(error: sa.exc.SQLAlchemyError, ledger: str) -> OutageError:
    """Return what a database's error means; `ledger` names the ledger."""
    original = getattr(error, "orig", None)
    code = getattr(original, "sqlite_errorcode", None) or 0
    if getattr(original, "sqlstate", None) == _NO_RIGHT:
        return UnusableLedgerError(
            f"The ledger {ledger} cannot be used: {reason(error)}. The tables are sound; run "
            "zwrap ledger upgrade as their owner, who may create tables, and give this user of the "
            "database the right to select, insert, update and delete in all of them."
        )
    if code & 0xFF in _DAMAGED or isinstance(error, sa.exc.ProgrammingError):
        return damaged(ledger, reason(error))
    return OutageError(f"The ledger {ledger} cannot be used: {reason(error)}.")


def damaged(ledger: str, why: str) -> UnusableLedgerError:
    """Return the error of a ledger that is damaged."""
    return UnusableLedgerError(
        f"The ledger {ledger} cannot be used: {why}. End all services that use it, and put a "
        "backup in its place (zwrap ledger check, zwrap ledger backup)."
    )


def reason(error: Exception) -> str:
    """Return the first line of what the database said."""
    said = str(getattr(error, "orig", None) or error).splitlines()
    return said[0].rstrip(".") if said else type(error).__name__
