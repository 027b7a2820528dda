"""Tokens of slurmrestd (RFC 7519), as `scontrol token` makes them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import UnreachableError

SOON_S = 24 * 3600.0
"""A token that expires so soon is warned of."""


class Token(NamedTuple):
    """A token that has not expired."""

    text: str
    expires: float | None
    """Seconds since the epoch; None if it does not say."""
    where: str
    """What it is, for a sentence to begin with."""

    def expires_soon(self) -> str | None:
        """A sentence if it does."""
        if self.expires is None or self.expires - time.time() >= SOON_S:
            return None
        return f"{self.where} expires on {_day(self.expires)}; {_REMEDY}"


_REMEDY = "`scontrol token lifespan=SECONDS` makes another"


def read_token(given: str, where: str) -> Token:
    """A token, or that in a file; UnreachableError says why it is no use."""
    if "/" in given or given.startswith("~"):  # neither is in a token
        where += f" in {given}"
        try:
            given = Path(given).expanduser().read_text().strip()
        except OSError as error:
            raise UnreachableError(f"{where} cannot be read: {error.strerror}.") from None
    text = given.removeprefix("SLURM_JWT=")
    if re.search(r"\s", text) or not text.isascii() or not text:
        raise UnreachableError(f"{where} is no token; `scontrol token` makes one.")
    expires = _expiry(text)
    if expires is not None and expires <= time.time():
        raise UnreachableError(f"{where} expired on {_day(expires)}; {_REMEDY}.")
    return Token(text, expires, where)


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _expiry(token: str) -> float | None:
    """When a token (RFC 7519) expires, seconds since the epoch; None if it does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    with contextlib.suppress(ValueError):
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims.get("exp") if isinstance(claims, dict) else None
        return float(expires) if isinstance(expires, (int, float)) else None
    return None
