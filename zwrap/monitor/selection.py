"""The query language: which jobs are meant, as a typed value and as people write it.

A job has to fit every field that is not empty, and of each field one value. `zwrap.monitor.finding`
finds the jobs; `zwrap.attempt.ledger.selection` has what the columns of the ledger can tell.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Sequence

import msgspec

from zwrap.attempt.ledger.selection import Selection
from zwrap.errors import RequestError, short
from zwrap.monitor.states import check_state
from zwrap.units import key_value, whole_number

ELLIPSIS = "\u2026"
"""End of a text that was cut, which may be pasted back with it."""

AGES_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
"""Unit of an age, such as ``2h``, to its length in seconds."""

LONGEST_TIME = 40
"""Largest number of characters of a time."""

LOOK = 5000
"""Number of jobs whose files are looked into for what is in no column of the ledger."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are meant."""

    ids: Sequence[str] = ()
    """Job ids, beginnings of tokens, and ``cluster:job``."""
    states: Sequence[str] = ()
    causes: Sequence[str] = ()
    """Labels of known errors, or words of causes."""
    programs: Sequence[str] = ()
    """Names of programs or wrappers."""
    names: Sequence[str] = ()
    """Patterns of names of jobs."""
    steps: Sequence[int] = ()
    clusters: Sequence[str] = ()
    recipes: Sequence[str] = ()
    """IDs of recipes, or their beginnings."""
    directories: Sequence[str] = ()
    """Absolute paths: the working directory, or one above it."""
    users: Sequence[str] = ()
    """Owners of working directories."""
    since: float | None = None
    until: float | None = None
    """Times between which the attempt was written, in seconds since the epoch."""
    where: Sequence[tuple[str, str]] = ()
    """Paths of values in the message that became the job, and the values as text."""
    look: int = LOOK
    """Number of jobs whose files are looked into for `programs`, `users` and `where`."""

    @property
    def is_empty(self) -> bool:
        """True if every job fits."""
        return self == Query(look=self.look)

    @property
    def needs_files(self) -> bool:
        """True if files of a job tell whether it fits."""
        return bool(self.programs or self.users or self.where)

    def rows(self, recipes: Sequence[str]) -> Selection:
        """Return the conditions on rows of the ledger, without those on causes.

        `recipes`: the IDs in full.
        """
        return Selection(
            recipes=recipes, clusters=self.clusters, names=self.names, steps=self.steps,
            directories=self.directories, since=self.since, until=self.until,
        )  # fmt: skip


def parse_query(
    *,
    ids: Sequence[str] = (),
    states: Sequence[str] = (),
    causes: Sequence[str] = (),
    programs: Sequence[str] = (),
    names: Sequence[str] = (),
    steps: Sequence[str] = (),
    clusters: Sequence[str] = (),
    recipes: Sequence[str] = (),
    directories: Sequence[str] = (),
    users: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    where: Sequence[str] = (),
    look: int = LOOK,
    now: float | None = None,
) -> Query:
    """Return the query of texts that a person wrote; several values of a field have commas.

    `now`: the time before which ages are counted, in seconds since the epoch; None: now.

    Raises:
        RequestError: A text has no meaning; the error names its option.
        UnknownNameError: No job can have such a state.
    """
    moment = time.time() if now is None else now
    wanted = _several(states, "--state")
    for option, texts in (("--cause", causes), ("--name", names), ("--recipe", recipes),
                          ("--dir", directories)):  # fmt: skip
        for text in texts:
            _check_given(text, option)
    for state in wanted:
        check_state(state, "--state")
    return Query(
        ids=tuple(each.rstrip(ELLIPSIS) for each in ids), states=wanted, causes=tuple(causes),
        programs=_several(programs, "--program"), names=tuple(names),
        steps=_steps(_several(steps, "--step")),
        clusters=_several(clusters, "--cluster"),
        recipes=tuple(each.rstrip(ELLIPSIS) for each in recipes),
        directories=tuple(each for one in directories for each in _directory(one)),
        users=_several(users, "--user"), since=parse_time(since, "--since", moment),
        until=parse_time(until, "--until", moment), where=tuple(map(_condition, where)),
        look=look,
    )  # fmt: skip


def parse_time(text: str | None, option: str, now: float) -> float | None:
    """Return the time that a text means, in seconds since the epoch; None for no text.

    Raises RequestError if it is neither an age (``30s``, ``10m``, ``2h``, ``3d``, ``1w``) nor a
    local time (``14:05``, ``2026-11-29``, ``2026-11-29T14:05``).
    """
    if text is None:
        return None
    given = text.strip()
    if (age := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])", given)) is not None:
        return now - float(age[1]) * AGES_S[age[2]]
    try:
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", given):
            today = dt.datetime.fromtimestamp(now, dt.UTC).astimezone().date().isoformat()
            given = f"{today}T{given:0>{8 if given.count(':') > 1 else 5}}"
        if not re.match("[0-9]{4}-[0-9]{2}-[0-9]{2}", given) or len(given) > LONGEST_TIME:
            raise ValueError(given)
        return dt.datetime.fromisoformat(given).timestamp()
    except (ValueError, OverflowError, OSError):
        raise RequestError(
            f"{option} {short(text)} is no time; an age such as 10m, 2h, 3d or 1w, or a local time "
            "such as 14:05, 2026-11-29 or 2026-11-29T14:05 is expected."
        ) from None


def _several(given: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the values of texts that may hold several, with commas between them.

    Raises RequestError for an empty one.
    """
    found = tuple(part.strip() for text in given for part in text.split(","))
    for part in found:
        _check_given(part, option)
    return found


def _check_given(text: str, option: str) -> None:
    """Raise RequestError for an empty value, perhaps of a variable of the shell that is not set.

    It must not mean that the option was not given, and so all jobs.
    """
    if not text.strip():
        raise RequestError(f"{option} is empty; leave it out, or give it a value.")


def _steps(given: Sequence[str]) -> tuple[int, ...]:
    """Return numbers of steps; RequestError if one is no number."""
    found = []
    for text in given:
        number = whole_number(text)
        if number is None:
            raise RequestError(f"--step {short(text)}: the number of a step is expected.")
        found.append(number)
    return tuple(found)


def _directory(given: str) -> list[str]:
    """Return the absolute paths of a directory, as it is written and without links."""
    path = os.path.abspath(os.path.expanduser(given))  # noqa: PTH100,PTH111
    return sorted({path, os.path.realpath(path)})


def _condition(given: str) -> tuple[str, str]:
    """Return path and value of a condition on the message; RequestError if it has another form."""
    path, value = key_value(given, "--where", "PATH=VALUE, such as payload.dcid=123,")
    if path.split(".")[0] not in ROOTS:
        raise RequestError(
            f"--where {short(given)}: the path begins with {', '.join(ROOTS[:-1])} or {ROOTS[-1]}; "
            "payload.dcid=123 and job_parameters.d_min=2 are examples."
        )
    return path, value


ROOTS = ("payload", "environment", "parameters", "job_parameters", "step")
"""First parts of a path in a message: keys of the message, keys of its step, and the whole step."""
