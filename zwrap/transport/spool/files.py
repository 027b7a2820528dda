"""Names of message files and of their directories.

The name of a file holds all that must be known after a crash::

    1763712345678901234-node1-4711-3.zwrap~a2~n1763712350000~e1763712400000
    created (ns), host, pid, serial        attempt, not before (ms), expires (ms)

A file with a name of another form, from a foreign filer producer, is a message without headers.
"""

from __future__ import annotations

import re
from pathlib import Path

from zwrap.errors import TransportError
from zwrap.host.files import make_directory
from zwrap.transport.failures import NoRouteError

OWN_SUFFIX = ".zwrap"
REASON_SUFFIX = ".reason"
FILE_MODE = 0o640

_NAME = re.compile(r"(?P<base>.+?)(?:~a(?P<a>\d+))?(?:~n(?P<n>\d+))?(?:~e(?P<e>\d+))?", re.DOTALL)


class Name:
    """The parts of a file name; times are in milliseconds since the epoch, 0: not given."""

    __slots__ = ("base", "delivery_count", "expires_ms", "not_before_ms")

    def __init__(
        self, base: str, delivery_count: int = 1, not_before_ms: int = 0, expires_ms: int = 0
    ) -> None:
        self.base = base
        self.delivery_count = delivery_count
        self.not_before_ms = not_before_ms
        self.expires_ms = expires_ms

    @classmethod
    def parse(cls, text: str) -> Name:
        """Return the parts of a file name; all of a foreign name is the base."""
        if "~" not in text:
            return cls(text)
        match = _NAME.fullmatch(text)
        if match is None:
            return cls(text)
        return cls(match["base"], int(match["a"] or 1), int(match["n"] or 0), int(match["e"] or 0))

    def __str__(self) -> str:
        return (
            self.base
            + (f"~a{self.delivery_count}" if self.delivery_count > 1 else "")
            + (f"~n{self.not_before_ms}" if self.not_before_ms else "")
            + (f"~e{self.expires_ms}" if self.expires_ms else "")
        )


def make_spool_directory(path: Path) -> None:
    """Create a directory of the spool; TransportError if that is not possible now."""
    try:
        make_directory(path)
    except OSError as error:
        raise TransportError(
            f"The spool directory {path} cannot be made: {error.strerror}. "
            "Choose a directory that you may write to (ZWRAP_SPOOL, or plugin 'spool', key 'path')."
        ) from None


def checked_name(name: str) -> str:
    """Return a queue or topic name; NoRouteError if it is not safe as a directory name."""
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(name) > 200:
        raise NoRouteError(
            f"{name!r} cannot be a queue or topic: a name of 1 to 200 characters is expected, "
            "without '/' and not beginning with '.'."
        )
    return name
