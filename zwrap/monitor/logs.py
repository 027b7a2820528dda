"""Files into which a job and its program write what they say."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from zwrap.attempt.record import Attempt
from zwrap.monitor.kept import working_directory

SUFFIXES = (".log", ".err")
"""Ends of the names of files that get the output and the error output of a program."""

OF_JOB = ("job.out", "job.err")
"""Files in the job directory that get the output and the error output of the job script."""

MOST = 20
"""Largest number of files that are told."""


def logs_of(attempt: Attempt, program: str | None) -> list[Path]:
    """Return the files with text that a job wrote, the most telling ones first.

    These are the logs of its program, other logs in the working directory that were written since
    the job was submitted, newest first, and the output of the job script. `program` is what the
    message or the job says: no other directory is looked into for its sake.
    """
    place, job = working_directory(attempt), Path(attempt.job_directory)
    is_name = bool(program) and "/" not in str(program)
    own = [place / f"{program}{suffix}" for suffix in SUFFIXES] if is_name else []
    found = [file for file in own if _written(file, 0.0)]
    others: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            path = place / entry.name
            if path not in own and path.suffix in SUFFIXES:
                at = _written(path, attempt.created)
                others += [(at, path)] if at else []
    found += [path for _, path in sorted(others, reverse=True)]
    return [*found, *(file for file in (job / name for name in OF_JOB) if _written(file, 0.0))][
        :MOST
    ]


def _written(file: Path, since: float) -> float | None:
    """Return when a file that holds something was written last; None: it is none, or is older.

    Times are in seconds since the epoch.
    """
    try:
        found = file.lstat()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return None
    is_log = stat.S_ISREG(found.st_mode) and found.st_size > 0
    return found.st_mtime if is_log and found.st_mtime >= since else None
