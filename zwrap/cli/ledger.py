"""`zwrap ledger`: check, copy or upgrade the ledger, or begin an empty one."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from zwrap.attempt.ledger.backup import copy
from zwrap.attempt.ledger.database import Database
from zwrap.attempt.ledger.health import Group, Health, examine
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import Marks, default_file, has_ledger, spool_of
from zwrap.attempt.ledger.version import HEAD, check_known, version_of
from zwrap.cli.common import Parser, say, say_json
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError
from zwrap.units import MIB, duration

GROUPS = {
    "open": "submitted, not concluded",
    "waiting": "waiting for their batch systems",
    "in_doubt": "in doubt for more than an hour whether there is a job",
    "unconcluded": "ended more than an hour ago, and not concluded: is a Watcher running?",
}
"""Part of a `Health` to what it counts."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser
    )
    for name, purpose in {
        "check": "tell whether the ledger is sound, what it holds, and what hangs; change nothing",
        "backup": "copy the ledger to a file while services run",
        "upgrade": "bring the ledger of an earlier release up to date, after a copy was made",
        "create": "begin an empty ledger where the one that was there is gone",
    }.items():
        action = actions.add_parser(name, help=purpose, description=purpose)
        action.add_argument("--json", action="store_true", help="one JSON object in one line")
        if name == "backup":
            action.add_argument("FILE", type=Path, help="file to make, which must not exist")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry out one action."""
    act = {"check": _check, "backup": _backup, "upgrade": _upgrade, "create": _create}
    facts, lines = act[options.action](configuration, options)
    if options.json:
        say_json(facts, indent=-1)
        return 0
    for line in lines:
        say(line)
    return 0


Told = tuple[dict[str, object], list[str]]
"""Facts for a program, and lines for people."""


def _check(configuration: Configuration, options: argparse.Namespace) -> Told:
    """Return the health of the ledger."""
    del options
    if not has_ledger(configuration):
        return {"ledger": str(default_file()), "schema": None}, [
            f"There is no ledger {default_file()} yet; the first service makes one."
        ]
    with _database(configuration) as database:
        health = examine(database, time.time())
        name = str(database.file or database.name)
    if health is None:
        return {"ledger": name, "schema": None}, [
            f"The ledger {name} has no tables yet; the first service makes them."
        ]
    facts = {
        "ledger": name, **health._asdict(), "current": health.is_current,
        **{
            key: group._asdict()
            for key in ("attempts", *GROUPS)
            if isinstance(group := getattr(health, key), Group)
        },
    }  # fmt: skip
    return facts, _lines(name, health)


def _lines(name: str, health: Health) -> list[str]:
    """Return what is said of a ledger that can be read."""
    state = "" if health.is_current else (
        f", of an earlier release; the first service, or zwrap ledger upgrade, makes it {HEAD}"
    )  # fmt: skip
    newest = f", the newest {_ago(health.newest)}" if health.newest else ""
    lines = [
        f"good: {name} is sound, {health.size_bytes / MIB:.1f} MiB",
        f"schema {health.schema}{state}",
        f"{health.attempts.number} attempts{_oldest(health.attempts)}{newest}",
    ]
    for key, what in GROUPS.items():
        group = getattr(health, key)
        if group is not None:
            lines.append(f"{group.number} {what}{_oldest(group)}")
    if health.lost_indexes:
        lines.append(
            f"slow: indexes are missing ({', '.join(health.lost_indexes)}); zwrap ledger upgrade "
            "makes them again"
        )
    return lines


def _oldest(group: Group) -> str:
    """Return the age of the oldest of some attempts, as a part of a sentence."""
    return f", the oldest {_ago(group.oldest)}" if group.oldest else ""


def _ago(moment: float) -> str:
    """Return how long ago a moment was."""
    return f"{duration(max(0.0, time.time() - moment))} ago"


def _backup(configuration: Configuration, options: argparse.Namespace) -> Told:
    """Copy the ledger."""
    target: Path = options.FILE.absolute()
    if configuration.site.ledger:
        raise ConfigurationError(
            "The ledger is on a database server, whose own means copy it, such as pg_dump."
        )
    if target.exists() or not target.parent.is_dir():
        raise MessageError(
            f"{target}: a file that does not exist, in a directory that does, is expected."
        )
    file = default_file()
    if not has_ledger(configuration):
        raise MessageError(f"There is no ledger {file} to copy.")
    with _database(configuration) as database, database.begin() as connection:
        check_known(version_of(connection), database.name)
    copy(file, target)
    size = target.stat().st_size
    facts: dict[str, object] = {"ledger": str(file), "file": str(target), "size_bytes": size}
    return facts, [f"{target} holds the ledger {file} ({size / MIB:.1f} MiB)."]


def _upgrade(configuration: Configuration, options: argparse.Namespace) -> Told:
    """Bring the ledger up to date."""
    del options
    if not has_ledger(configuration):
        raise MessageError(f"There is no ledger {default_file()} to upgrade.")
    with _database(configuration) as database:
        with database.begin() as connection:
            before = version_of(connection)
        check_known(before, database.name)
        database.complete()
        name = str(database.file or database.name)
    facts: dict[str, object] = {"ledger": name, "before": before, "schema": HEAD}
    done = "is up to date" if before == HEAD else "was brought up to date"
    return facts, [f"The ledger {name} {done}: schema {HEAD}."]


def _create(configuration: Configuration, options: argparse.Namespace) -> Told:
    """Begin an empty ledger."""
    del options
    file = default_file()
    if configuration.site.ledger:
        raise ConfigurationError("The ledger is on a database server; the first service begins it.")
    if file.exists() and file.stat().st_size:
        raise MessageError(
            f"There is a ledger {file}; move it away, with its -wal and -shm, first."
        )
    Marks(file, spool_of(configuration)).remove()
    Ledger.of(configuration).close()
    return {"ledger": str(file), "schema": HEAD}, [f"The ledger {file} is new and empty."]


@contextlib.contextmanager
def _database(configuration: Configuration) -> Iterator[Database]:
    """Yield the database of the ledger as it is; UnusableLedgerError if its file is gone."""
    given, spool = configuration.site.ledger, spool_of(configuration)
    if not given:
        Marks(default_file(), spool).check()
    database = Database(given.url if given else f"sqlite:///{default_file()}", spool)
    with contextlib.closing(database):
        yield database
