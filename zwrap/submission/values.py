"""Readers of values in the `cluster` block of a step.

Each takes a value and its place, with which the text of an error begins, and raises RequestError
for a value that is not usable. What becomes a word of a directive line is checked here, too, so
that the sentence names the key.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from zwrap.configuration.joboptions import plain_name
from zwrap.errors import RequestError, short
from zwrap.units import LARGEST_MIB, MIB, bytes_of, mib, seconds

UNFIT = re.compile(r"^-|[\x00-\x20\x7f\x85\u2028\u2029'\"\\#]")
"""What a word of a directive line must not hold: it could add further directives or options."""

GRES = re.compile(r"[A-Za-z_]\w*(?::[\w.-]+(?::[0-9]{1,9}[KMGTP]?)?)?", re.ASCII)
"""One generic resource: name, and type or number, or both (sbatch(1), ``--gres``)."""

SIGNAL = re.compile(r"(?:B:)?(?:SIG)?(USR[12]|[0-9]{1,2})(@[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
"""A signal and the time before the end, in seconds (sbatch(1), ``--signal``)."""

WARNING = ("USR1", "USR2")
"""Signals that warn a job; the wrapper takes others for a request to stop."""

ADDRESS = re.compile(r"[A-Za-z0-9_][\w.+%@=-]*", re.ASCII)
"""One mail address, or the name of a user."""

ITEMS = 100
"""Largest number of items of a list."""

MAIL_ON = ("begin", "end", "fail", "requeue", "time_limit")
"""Events of a job of which a mail can tell."""

DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:?\d\d)?")
"""Date and time of day, with a time zone or without (ISO 8601)."""

TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


def word(value: str, where: str) -> str:
    """Return a value that is one word of a directive line."""
    if UNFIT.search(value):
        raise RequestError(
            f"{where} is {short(value)}; one word is expected, which does not begin with '-', "
            "without blanks, quotes, '#', backslashes and control characters."
        )
    return value


def nodes(value: str, where: str) -> str:
    """Return names of nodes; Slurm would take a text with a slash for the name of a file."""
    if "/" in word(value, where):
        raise RequestError(f"{where} is {short(value)}; names of nodes are expected, without '/'.")
    return value


def gres(value: str, where: str) -> str:
    """Return generic resources, such as ``gpu:a100:2``, separated by commas."""
    return _listed(value, GRES, where, "resources such as 'gpu:2' or 'gpu:a100:2,shard:1' are")


def mail(value: str, where: str) -> str:
    """Return mail addresses, separated by commas."""
    return _listed(value, ADDRESS, where, "mail addresses, separated by commas, are")


def signal(value: str, where: str) -> str:
    """Return the name of a signal and the time before the end of the job at which it is sent."""
    if match := SIGNAL.fullmatch(value):
        name = match[1].upper()
        if name.isdecimal() and int(name) in set(signals.Signals):
            name = signals.Signals(int(name)).name.removeprefix("SIG")
        if name in WARNING:
            return f"{name}{match[2] or ''}"
    raise RequestError(
        f"{where} is {short(value)}; a signal such as 'USR1@300', one of {', '.join(WARNING)}, is "
        "expected."
    )


def _listed(value: str, item: re.Pattern[str], where: str, expected: str) -> str:
    """Return a list with commas, of which each item matches `item`."""
    items = value.split(",")
    if len(items) > ITEMS:
        raise RequestError(f"{where} has {len(items)} items; {ITEMS} at most are expected.")
    if not all(item.fullmatch(each) for each in items):
        raise RequestError(f"{where} is {short(value)}; {expected} expected.")
    return value


def options(given: Mapping[str, object], allowed: Sequence[str], where: str) -> dict[str, str]:
    """Return options of the batch system, an empty text for one without a value.

    `allowed`: names of options that the site lets steps give. An option that is false is left out.
    """
    found = {}
    for option, value in given.items():
        name = plain_name(option)
        if name not in allowed:
            known = f"they are {', '.join(allowed)}" if allowed else "there are none"
            raise RequestError(
                f"{where}: the site does not let steps give the option {short(option)} to this "
                f"cluster; those that it allows are under 'allowed_options' ({known})."
            )
        if value is True:
            found[name] = ""
        elif value is None or value is False or value == "":
            continue
        elif isinstance(value, (str, int, float)):
            found[name] = word(str(value), f"{where}, option {name!r}")
        else:
            raise RequestError(f"{where}, option {name!r} is {short(value)}; one word is expected.")
    return found


def memory_mib(value: object, where: str, *, zero: bool = False) -> int:
    """Return an amount of memory in mebibytes: a number of them, or a text such as ``4G``.

    `zero`: True if 0 is accepted, which stands for all memory of a node.
    """
    if isinstance(value, str):
        if zero and bytes_of(value) == 0:
            return 0
        return mib(value, where, bare=MIB)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and (0 if zero else 1) <= value <= LARGEST_MIB:
        return value
    raise RequestError(
        f"{where} is {short(value)}; a number of megabytes, or a size such as '4G', is expected"
        f"{', or 0 for all memory of a node' if zero else ''}."
    )


def exclusive(value: object, where: str) -> bool | Literal["user"]:
    """Return whether other jobs are kept from the nodes; ``user``: those of other users."""
    if isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, (str, int)) else None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if text == "user":
        return "user"
    raise RequestError(f"{where} is {short(value)}; true, false or 'user' is expected.")


def begin(value: object, where: str) -> str:
    """Return the earliest start of a job, in the forms of `zwrap.job.Resources.begin`."""
    if isinstance(value, str) and DATE.fullmatch(value.strip()):
        try:
            at = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise RequestError(f"{where} is {short(value)}, which is no date: {error}.") from None
        if at.year < 1970 or (at.tzinfo and at.timestamp() < 0):
            raise RequestError(f"{where} is {short(value)}; a date from 1970 on is expected.")
        return f"@{int(at.timestamp())}" if at.tzinfo else at.strftime("%Y-%m-%dT%H:%M:%S")
    if isinstance(value, str) and re.fullmatch(r"\d+:\d+", value.strip()):
        raise RequestError(
            f"{where} is {short(value)}, which may be a time of day or a duration; a date and time "
            "such as '2026-11-28T20:00', or a duration such as 'PT1H30M', is expected."
        )
    return f"+{seconds(value, where)}"


def mail_on(value: object, where: str) -> str:
    """Return events of a job, separated by commas; a list, or such a text, is read."""
    items: Iterable[object] = value if isinstance(value, list) else str(value).split(",")
    given = [str(item).strip().lower() for item in items]
    if not given or not set(given) <= set(MAIL_ON):
        known = ", ".join(MAIL_ON)
        raise RequestError(f"{where} is {short(value)}; some of {known} are expected.")
    return ",".join(event for event in MAIL_ON if event in given)
