"""`zwrap events`: show what happened to a job, to a run of a recipe, or to a request."""

from __future__ import annotations

import argparse

from zwrap.attempt.ledger.thinning import ACTION
from zwrap.cli.common import say, say_json
from zwrap.cli.jobcolumns import local_time
from zwrap.cli.joblist import ledger_of
from zwrap.cli.output import show_columns
from zwrap.cli.selecting import name_of
from zwrap.configuration.site import Configuration
from zwrap.monitor.history import Entry, history

COLUMNS = ("time", "job", "what", "by", "facts")
"""Titles of the columns."""

WHOLE = ("time", "job", "what")
"""Columns that are never cut."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "ID",
        help="a job as for `zwrap jobs`, else the beginning of a recipe's ID, else a request's id",
    )
    add("--json", action="store_true", help="one JSON object a line")
    parser.epilog = (
        "Up to 20 events of each attempt are kept, the first and the last ones among them. Exit "
        "status: 0; 100: there is no such job, recipe or request; 111: the ledger cannot be used "
        "now."
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print a line for each event, oldest first."""
    with ledger_of(configuration) as ledger:
        entries = history(ledger, options.ID)
    if options.json:
        for entry in entries:
            say_json(_facts(entry), indent=-1)
    elif entries:
        show_columns(COLUMNS, [_row(entry) for entry in entries], whole=WHOLE)
    else:
        say("No events.")
    return 0


def _known(entry: Entry) -> dict[str, object]:
    """Return the facts of an event, with the cause that the row of its attempt holds."""
    facts = {name: value for name, value in entry.event.facts.items() if name != ACTION}
    if entry.event.what == "verdict" and entry.attempt and entry.attempt.cause:
        facts["cause"] = entry.attempt.cause
    return facts


def _facts(entry: Entry) -> dict[str, object]:
    """Return an event for programs."""
    event, attempt = entry
    return {
        "at": event.at,
        "time": local_time(event.at),
        "of": event.token,
        "job": attempt.job_id if attempt else None,
        "recipe": attempt.recipe_id if attempt else None,
        "step": attempt.step if attempt else None,
        "what": event.what,
        "witness": event.witness,
        "facts": _known(entry),
    }


def _row(entry: Entry) -> list[object]:
    """Return an event for people."""
    event, attempt = entry
    told = ", ".join(f"{name}: {value}" for name, value in _known(entry).items())
    job = name_of(attempt) if attempt else ""
    return [local_time(event.at), job, event.what, event.witness, told]
