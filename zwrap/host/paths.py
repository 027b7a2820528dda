"""Directories of this user on this host."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zwrap.host.modes import make_private


def state_directory() -> Path:
    """Return the directory of zwrap's state for this user on this host.

    ``ZWRAP_STATE``, else ``zwrap`` in the user's state directory (XDG Base Directory
    Specification).
    """
    named = os.environ.get("ZWRAP_STATE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "zwrap"


def made_private(path: Path) -> Path:
    """Return a path; if it is in the state directory, make that, for this user alone, if missing.

    A state directory that exists keeps its mode. Why it cannot be made is told where the path is
    used.
    """
    place = state_directory()
    if place in path.parents and not place.is_dir():
        with contextlib.suppress(OSError):
            make_private(place)
    return path


def in_state_directory(*parts: str) -> Path:
    """Return a path in the state directory, which is made as `made_private` says."""
    return made_private(state_directory().joinpath(*parts))


def default_spool() -> Path:
    """Return ``ZWRAP_SPOOL``, else the spool in the state directory; jobs must see it."""
    named = os.environ.get("ZWRAP_SPOOL")
    return Path(named).absolute() if named else state_directory() / "spool"
