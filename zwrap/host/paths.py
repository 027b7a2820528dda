"""Directories of this user on this host."""

from __future__ import annotations

import os
from pathlib import Path


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


def default_spool() -> Path:
    """Return ``ZWRAP_SPOOL``, else the spool in the state directory; jobs must see it."""
    named = os.environ.get("ZWRAP_SPOOL")
    return Path(named).absolute() if named else state_directory() / "spool"
