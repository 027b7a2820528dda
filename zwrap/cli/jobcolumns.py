"""What lists of jobs show of each: the columns for people, and the facts for programs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.errors import MessageError, UnknownNameError
from zwrap.message.jsontext import decode
from zwrap.monitor.kept import owner_of, program_of, submission_of, working_directory
from zwrap.monitor.selection import ELLIPSIS
from zwrap.monitor.states import WATCHER, KnownJob

SHORT_ID = 8
"""Least number of characters that are shown of a recipe's ID."""

LONGEST_ID = 20
"""Largest number of characters that are shown of it where several begin alike."""

FRESH_S = 60.0
"""Age of what a Watcher has seen, in seconds, from which on a list tells it."""


class Shown(NamedTuple):
    """A job that is shown, and what goes with all of them."""

    job: KnownJob
    ledger: Ledger
    now: float
    """Seconds since the epoch."""
    id_width: int = SHORT_ID
    """Number of characters that tell apart the recipes that are shown."""


def age(seconds: float | None) -> str:
    """Return a time in seconds in at most four characters, such as ``12m``; empty for None."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    left = max(seconds, 0.0)
    for unit, size in (("s", 60), ("m", 60), ("h", 48)):
        if left < size:
            return f"{left:.0f}{unit}" if unit == "s" else f"{int(left)}{unit}"
        left /= 24 if unit == "h" else 60
    return f"{int(left)}d" if left < 1000 else f"{int(left / 365)}y"


def local_time(at: float | None) -> str | None:
    """Return a time, in seconds since the epoch, as local time in the form of ISO 8601."""
    if at is None:
        return None
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
    except (ValueError, OverflowError, OSError):  # of a row that another program wrote
        return "?"


def id_width(recipes: Sequence[str | None]) -> int:
    """Return how many characters tell recipes apart, `LONGEST_ID` at most."""
    found = {each for each in recipes if each}
    for width in range(SHORT_ID, LONGEST_ID):
        if len({each[:width] for each in found}) == len(found):
            return width
    return LONGEST_ID


def short_id(recipe_id: str | None, width: int = SHORT_ID) -> str:
    """Return the beginning of a recipe's ID, which `--recipe` takes."""
    return (recipe_id or "")[:width]


def corrected(job: KnownJob) -> object:
    """Return the corrections that were made for an attempt; None: there were none."""
    if job.verdict:
        return job.verdict.corrected or None
    with contextlib.suppress(MessageError):  # of a row that another program wrote
        return decode(job.attempt.corrected.encode()) if job.attempt.corrected else None
    return None


def facts(job: KnownJob) -> dict[str, object]:
    """Return what programs are told of each job in a list."""
    attempt = job.attempt
    return {
        "token": attempt.token,
        "job_id": attempt.job_id,
        "job_name": attempt.job_name,
        "recipe_id": attempt.recipe_id,
        "step": attempt.step,
        "cluster": attempt.cluster,
        "state": job.state,
        "cause": job.cause,
        "cause_label": job.label,
        "corrected": corrected(job),
        "witness": job.witness,
        "known": local_time(job.known),
        "outcome": attempt.outcome,
        "submitted": local_time(attempt.created),
        "job_directory": attempt.job_directory,
    }


def _cause(shown: Shown) -> str:
    """Return the cause in one line: its label, its words, and since when it is known."""
    job = shown.job
    said = " ".join(job.cause.split())
    told = f"{job.label}: {said}" if job.label else said
    stale = job.witness == WATCHER and job.attempt.outcome is None and job.known is not None
    if stale and shown.now - (job.known or 0.0) > FRESH_S:
        seen = f"seen {age(shown.now - (job.known or 0.0))} ago"
        told = f"{told} ({seen})" if told else seen
    return told


def _program(shown: Shown) -> str | None:
    """Return the name of a job's program."""
    return program_of(shown.job, submission_of(shown.job.attempt, shown.ledger))


def _of(read: Callable[[Attempt], object]) -> Callable[[Shown], object]:
    """Return the column of a value of the row."""
    return lambda shown: read(shown.job.attempt)


COLUMNS: dict[str, Callable[[Shown], object]] = {
    "job": lambda shown: shown.job.attempt.job_id or short_id(shown.job.attempt.token) + ELLIPSIS,
    "name": _of(lambda row: row.job_name),
    "recipe": lambda shown: short_id(shown.job.attempt.recipe_id, shown.id_width),
    "step": _of(lambda row: row.step),
    "cluster": _of(lambda row: row.cluster),
    "state": lambda shown: shown.job.state,
    "age": lambda shown: age(shown.now - shown.job.attempt.created),
    "cause": _cause,
    "label": lambda shown: shown.job.label,
    "witness": lambda shown: shown.job.witness,
    "known": lambda shown: local_time(shown.job.known),
    "submitted": lambda shown: local_time(shown.job.attempt.created),
    "elapsed": lambda shown: age(shown.job.attempt.elapsed_s),
    "memory": _of(lambda row: row.peak_memory_mib and round(row.peak_memory_mib)),
    "node": _of(lambda row: row.node),
    "attempt": _of(lambda row: row.number),
    "token": _of(lambda row: row.token),
    "id": _of(lambda row: row.recipe_id),
    "directory": lambda shown: working_directory(shown.job.attempt),
    "program": _program,
    "user": lambda shown: owner_of(shown.job.attempt),
}
"""Column of a list to what it shows. ``age``: time since the job was submitted; ``known``: when its
witness told the state; ``memory``: most memory of the program, in MiB; ``id``: the whole ID of the
recipe."""

USUAL = ("job", "name", "recipe", "step", "cluster", "state", "age", "cause")
"""Columns that are shown unless others are chosen; ``cluster`` only where there are several."""


def chosen_columns(given: str | None, jobs: Sequence[KnownJob]) -> list[str]:
    """Return the names of the columns of a list.

    `given`: names with commas between them; None: the usual ones.

    Raises UnknownNameError for another name.
    """
    if given is None:
        one = len({job.attempt.cluster for job in jobs}) < 2
        return [each for each in USUAL if not (one and each == "cluster")]
    names = [each.strip() for each in given.split(",") if each.strip()]
    for name in names:
        if name not in COLUMNS:
            raise UnknownNameError("column", name, COLUMNS, "--columns")
    return names


def rows(jobs: Sequence[KnownJob], ledger: Ledger, columns: Sequence[str]) -> list[list[object]]:
    """Return what the columns show of jobs."""
    width = id_width([job.attempt.recipe_id for job in jobs])
    now = ledger.now()
    return [[COLUMNS[name](Shown(job, ledger, now, width)) for name in columns] for job in jobs]


def outbox(attempt: Attempt) -> Path:
    """Return the directory of messages that wait to be sent."""
    return Path(attempt.job_directory, "outbox")
