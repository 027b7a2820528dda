"""Scratch files, under whose names files are written before they get their own; leftovers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
from pathlib import Path

from zwrap.host.processes import ProcessIdentity, host_name, is_alive, this_process

NAME_KEPT = 25
"""Number of characters of a name that the name of a scratch file shows: at most 100 bytes."""

LEFTOVER_S = 60.0
"""Time since its last change after which the scratch file of a process counts as left behind if it
is not known whether that lives, in seconds."""

LOOKED_AT = 1000
"""Largest number of files of a directory among which leftovers are looked for."""

_serial = itertools.count()


def scratch_beside(path: Path) -> str:
    """Return a path beside `path` that no other process or thread writes."""
    directory, name = os.path.split(path)
    return f"{directory or '.'}/.{name[:NAME_KEPT]}.{_own_name(os.getpid())}.{next(_serial)}.tmp"


@functools.lru_cache(maxsize=1)
def _own_name(_pid: int) -> str:
    """Return the identity of this process as text; a child process computes its own."""
    return str(this_process())


def remove_leftovers(directory: Path) -> None:
    """Remove the scratch files that killed processes have left in a directory, as far as possible.

    Something must just have been created or renamed there: its time of change is the present.
    """
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        now = os.stat(directory).st_mtime
        for entry in itertools.islice(entries, LOOKED_AT):
            if re.fullmatch(r"\..+-[0-9]+-[^-]+\.[0-9]+\.tmp", entry.name):
                lives = _writer_lives(entry.name)
                age_s = now - entry.stat(follow_symlinks=False).st_mtime
                if lives is False or (lives is None and age_s > LEFTOVER_S):
                    os.unlink(entry.path)


def _writer_lives(name: str) -> bool | None:
    """Return whether the process lives that writes a scratch file; None: that is not known."""
    here = re.escape(host_name())
    match = re.search(rf"\.({here}-[0-9]+-[^-]+)\.[0-9]+\.tmp$", name)
    writer = ProcessIdentity.parse(match[1]) if match else None
    return is_alive(writer) if writer else None
