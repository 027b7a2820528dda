"""Tokens for slurmrestd (RFC 7519), as `scontrol token` makes them."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import time
from pathlib import Path

from zwrap.errors import UnreachableError

SOON_S = 24 * 3600.0
"""Time before the end of a token from which on a warning is given, in seconds."""

LATEST_S = 253402300799.0
"""Largest time that can be shown, in seconds since the epoch: the end of the year 9999."""

LONGEST = 65_536
"""Number of characters of the longest token that is read; headers of HTTP are shorter."""

REMEDY = "`scontrol token lifespan=SECONDS` makes another"


def read_token(given: str, where: str) -> tuple[str, str | None]:
    """Return the token that is given, or is in the given file, and a warning if it expires soon.

    `where`: a name for the token, with which a sentence begins. Raises UnreachableError for a file
    that cannot be read, a text that is not a token, and a token that has expired.
    """
    if "/" in given or given.startswith("~"):  # neither is in a token
        where += f" in {given}"
        try:
            with Path(given).expanduser().open() as file:
                given = file.read(LONGEST + 1).strip()
        except OSError as error:
            raise UnreachableError(f"{where} cannot be read: {error.strerror}.") from None
        except (ValueError, RuntimeError) as error:  # not UTF-8; no path; no home directory
            raise UnreachableError(f"{where} cannot be read: {error}.") from None
    text = given.removeprefix("SLURM_JWT=")
    fits = text.isascii() and text.isprintable() and 0 < len(text) <= LONGEST
    if not fits or " " in text:
        raise UnreachableError(f"{where} is not a valid token; `scontrol token` makes one.")
    expires = _expiry(text)
    left_s = expires - time.time()
    if left_s <= 0:
        raise UnreachableError(f"{where} expired on {_day(expires)}; {REMEDY}.")
    return text, f"{where} expires on {_day(expires)}; {REMEDY}" if left_s < SOON_S else None


def _day(moment: float) -> str:
    """Return a time, in seconds since the epoch, as local date and time for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _expiry(token: str) -> float:
    """Return the time at which a token (RFC 7519) expires, in seconds since the epoch.

    Infinity for a token without such a time.
    """
    parts = token.split(".")
    with contextlib.suppress(ValueError, RecursionError):
        content = parts[1] if len(parts) == 3 else ""
        claims = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        expires = claims.get("exp") if isinstance(claims, dict) else None
        if isinstance(expires, (int, float)) and abs(expires) <= LATEST_S:
            return float(expires)
    return math.inf
