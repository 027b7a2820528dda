"""Names of message files, and the directories that they lie in.

What a message must tell after a crash is in its name::

    1763712345678901234-node1-4711-3.zwrap~a2~n1763712350000~e1763712400000
    created (ns), host, pid, serial        attempt, not before (ms), expires (ms)

A file of another name, put there by a foreign filer producer, is a message without headers.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

from zwrap.errors import TransportError

OWN_SUFFIX = ".zwrap"
REASON_SUFFIX = ".reason"
DIRECTORY_MODE = 0o2770
FILE_MODE = 0o640

_NAME = re.compile(r"(?P<base>.+?)(?:~a(?P<a>\d+))?(?:~n(?P<n>\d+))?(?:~e(?P<e>\d+))?", re.DOTALL)


class Name:
    """A file name taken apart."""

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
        """Take `text` apart; a foreign name is all base."""
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


_made = threading.Lock()


def make_directory(path: Path) -> None:
    """Make a directory that the group of the directory above shares (mode 2770); OSError if not."""
    try:
        with _made:  # whoever made it a moment ago has set its mode, too, before we come here
            os.mkdir(path)
            os.chmod(path, DIRECTORY_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "there is something else", str(path)) from None
    except FileNotFoundError:
        if path.parent.is_dir():
            raise  # nothing can be made in there
        make_directory(path.parent)
        make_directory(path)


def make_spool_directory(path: Path) -> None:
    """Make a directory of the spool; TransportError if that is not possible now."""
    try:
        make_directory(path)
    except OSError as error:
        raise TransportError(
            f"The spool directory {path} cannot be made: {error.strerror}. "
            "Choose a directory that you may write to (ZWRAP_SPOOL, or plugin 'spool', key 'path')."
        ) from None
