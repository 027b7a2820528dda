"""Durations, sizes and KEY=VALUE: one grammar and one reader for all values that people write.

Slurm and python-zocalo disagree about ``A:B``: sbatch(1) reads it as minutes:seconds, time limits
of python-zocalo's steps (pydantic's timedelta) as hours:minutes. zwrap reads it as hours:minutes,
with a warning: a limit that is too long costs a place in the queue, one that is too short costs the
whole run.
"""

from __future__ import annotations

import functools
import logging
import math
import re

from zwrap.errors import RequestError, short

log = logging.getLogger(__name__)

LONGEST_S = 10 * 365 * 86400
"""Longest duration that is accepted, in seconds: ten years."""

MIB = 2**20
"""Size of a mebibyte, in bytes."""

LARGEST_MIB = 2**40
"""Largest size that is accepted, in mebibytes: an exbibyte."""

_I, _N = "[0-9]{1,12}", r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_PAIR = rf"(?P<h>{_I}):(?P<m>{_I})"
_CLOCK = rf"(?P<h>(?:{_I})?):(?P<m>(?:{_I})?):(?P<s>(?:{_N})?)"  # sge_types(5): "1::" is an hour
_DAYS_HOURS = rf"(?P<d>{_I})-(?P<h>{_I})(?::(?P<m>{_I})(?::(?P<s>{_I}))?)?"
_TIMEDELTA = rf"(?P<d>{_I}) ?d(?:ays?)?(?:,? ?(?P<h>{_I}):(?P<m>{_I})(?::(?P<s>{_N}))?)?"
_ISO_TIME = rf"(?:T(?=.)(?:(?P<h>{_I})H)?(?:(?P<m>{_I})M)?(?:(?P<s>{_N})S)?)?"
_ISO = rf"P(?=.)(?:(?P<w>{_I})W)?(?:(?P<d>{_I})D)?{_ISO_TIME}"  # ISO 8601, 5.5.2.2
_ANYWHERE = (_CLOCK, _DAYS_HOURS, _TIMEDELTA, _ISO)
_FORMS = (rf"(?P<s>{_N})", _PAIR, *_ANYWHERE)
_MINUTES_FORMS = (rf"(?P<m>{_I})", rf"(?P<m>{_I}):(?P<s>{_I})", *_ANYWHERE)
_UNITS_S = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(value: object, where: str, *, in_minutes: bool = False) -> int:
    """Return a duration in whole seconds, rounded up.

    Accepted are a number of seconds, and the texts ``H:MM:SS``, ``D-HH``, ``D-HH:MM``,
    ``D-HH:MM:SS``, ``2 days, 3:04:05``, ISO 8601 (``PT1H30M``), and ``HH:MM``, which is ambiguous
    and logs a warning once.

    Args:
        value: The value that was given.
        where: Place of the value, with which the text of an error begins.
        in_minutes: Read ``N`` as minutes and ``A:B`` as minutes:seconds, as sbatch(1) does.

    Raises:
        RequestError: The value has another form, is not above 0, or is longer than `LONGEST_S`.
    """
    found_s = 0.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found_s = value
    elif isinstance(value, str):
        found_s = _read(value.strip(), _MINUTES_FORMS if in_minutes else _FORMS)
        if not in_minutes and (pair := re.fullmatch(_PAIR, value.strip())):
            _warn(where, pair[0], pair["h"], pair["m"])
    if 0 < found_s <= LONGEST_S:
        return math.ceil(found_s)
    raise RequestError(
        f"{where} is {short(value)}; a duration above 0 and up to ten years is expected: seconds, "
        "'H:MM:SS', 'D-HH:MM:SS', or 'PT1H30M' (ISO 8601)."
    )


def _read(text: str, forms: tuple[str, ...]) -> float:
    """Return the seconds in a text, by the first form that matches; 0 if none does."""
    for form in forms:
        if match := re.fullmatch(form, text, re.IGNORECASE):
            parts = match.groupdict()
            return sum(float(part) * _UNITS_S[unit] for unit, part in parts.items() if part)
    return 0.0


@functools.lru_cache(maxsize=1000)
def _warn(where: str, text: str, first: str, second: str) -> None:
    """Log once how an ambiguous duration is read, and how to write it clearly."""
    log.warning(
        "%s is %r, which is read as hours and minutes (some batch systems: minutes and seconds); "
        "write %r for this, or %r for minutes and seconds.",
        where, text, f"{text}:00", f"0:{first}:{second}",
    )  # fmt: skip


_SIZE = rf"({_N})([KMGT]?)(?:i?B)?"


def duration(given_s: float) -> str:
    """Return a time in seconds as words for people, in the unit that suits its length."""
    for unit, size_s in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if given_s == size_s:
            return f"1 {unit}"
        if given_s >= 2 * size_s:
            return f"{given_s / size_s:.0f} {unit}s"
    return f"{given_s:.0f} s"


def bytes_of(text: str, *, bare: int = 1) -> int | None:
    """Return a size such as ``200M``, ``1.5G`` or ``328.402MB`` in bytes; None: it is not a size.

    Letters stand for powers of 1024. Grid Engine's small letters stand for powers of 1000, but are
    read the same way, so that the result is never too small.

    Args:
        text: The text that was given or recorded.
        bare: Unit of a number without a letter, in bytes.
    """
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE)
    if match is None:
        return None
    factor = 1024 ** " KMGT".index(match[2].upper()) if match[2] else bare
    return round(float(match[1]) * factor)


def mib(text: str, where: str, *, bare: int = 1) -> int:
    """Return a requested size in whole mebibytes, rounded up.

    Args:
        text: The text that was given, in the form of `bytes_of`.
        where: Place of the value, with which the text of an error begins.
        bare: Unit of a number without a letter, in bytes.

    Raises:
        RequestError: The text is not a size, or 0, or larger than `LARGEST_MIB`.
    """
    found = math.ceil((bytes_of(text, bare=bare) or 0) / MIB)
    if 0 < found <= LARGEST_MIB:
        return found
    raise RequestError(
        f"{where} is {short(text)}; a size above 0 is expected, such as '800M' or '4G'."
    )


def key_value(given: str, option: str, form: str = "KEY=VALUE") -> tuple[str, str]:
    """Return key and value of an option's argument; the value may hold further '='.

    Raises:
        RequestError: There is no '=', or no key before it.
    """
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise RequestError(f"{option} {given!r} is not usable; {form} is expected.")
    return key, value


def whole_number(text: str) -> int | None:
    """Return the number that a text of up to 18 ASCII digits is; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
