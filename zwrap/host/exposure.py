"""Who else may read or write a file or directory, as a clause for people."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_WHO = ((stat.S_IRWXG, "its group"), (stat.S_IRWXO, "everybody"))
"""Bits of a mode and those for whom they stand."""


def others(path: Path, wanted: int) -> str:
    """Return who may read or write a path beyond a wanted mode, as a clause; empty: nobody.

    A path that does not exist, or cannot be looked at, is open to nobody. A directory in which each
    may change only what is his own (sticky) counts as one that others may write all the same.
    """
    try:
        status = os.stat(path)
    except OSError:
        return ""
    extra = stat.S_IMODE(status.st_mode) & ~wanted & 0o777
    found = []
    for bits, who in _WHO:
        may = [verb for bit, verb in ((0o444, "read"), (0o222, "write")) if extra & bits & bit]
        if may:
            found.append(f"{who} may {' and '.join(may)}")
    return ", ".join(found) + (" (sticky)" if found and status.st_mode & stat.S_ISVTX else "")


def is_closed(directory: Path) -> bool:
    """Return True if nobody else may enter a directory, and so reach what lies in it."""
    try:
        return not os.stat(directory).st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    except OSError:
        return False


def replaceable_parts(path: Path) -> list[Path]:
    """Return the directories above a path in which others may put something in its place.

    These are writable by everybody, and not sticky.
    """
    return [each for each in path.parents if _is_open(each)]


def _is_open(directory: Path) -> bool:
    """Return True if everybody may rename what is in a directory."""
    try:
        mode = os.stat(directory).st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
