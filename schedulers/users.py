"""The user of this process, and the environment variables that a job gets from its user."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd


def user_name() -> str:
    """Return the name of this process's user, whatever its environment says; else the number."""
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def job_environment(user: str | None = None) -> dict[str, str]:
    """Return the variables of a job that its script does not set: its user's and PATH."""
    name = user or user_name()
    known = {"PATH": "/usr/local/bin:/usr/bin:/bin", "USER": name, "LOGNAME": name}
    home = _home(name)
    return {**known, "HOME": home} if home else known


@functools.lru_cache(maxsize=16)
def _home(user: str) -> str | None:
    """Return the home directory of a user; None for one that this host does not know."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user).pw_dir
    return None
