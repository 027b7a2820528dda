"""Where zwrap keeps what belongs to this user on this host."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """``ZWRAP_STATE``, else ``zwrap`` in the user's state directory (XDG base directories)."""
    named = os.environ.get("ZWRAP_STATE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "zwrap"


def default_spool() -> Path:
    """``ZWRAP_SPOOL``, else the spool in the state directory; jobs must be able to see it."""
    named = os.environ.get("ZWRAP_SPOOL")
    return Path(named).absolute() if named else state_directory() / "spool"
