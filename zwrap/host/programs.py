"""Programs that zwrap starts: where they are found, and where they run.

None is found, and no Python loads a module, where a service or a job happens to stand: anybody may
have put a file there that is called `sbatch` or `msgspec.py`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping

ELSEWHERE = "/"
"""Working directory of programs of a batch system and of zwrap's helpers. There relative entries of
PATH, PYTHONPATH or LD_LIBRARY_PATH lead to what only root writes, and it is never removed: a batch
system may take no job from a directory that was."""

_found: dict[tuple[str, str], str] = {}
"""Path of each program that was found, by its name and the PATH."""


def own_python(*arguments: str) -> list[str]:
    """Return a command line of this Python, which imports no module from where it stands."""
    return [sys.executable, "-P", *arguments]


def own_directory() -> str:
    """Return the directory of the console scripts of this Python."""
    return sys.executable.rpartition(os.sep)[0]


def own_script(name: str) -> str | None:
    """Return the path of a console script: of this Python, else on PATH; None if there is none."""
    beside = os.path.join(own_directory(), name)
    return beside if os.path.exists(beside) else found(name, os.environ.get("PATH", os.defpath))


def found(program: str, path: str) -> str | None:
    """Return the absolute path of a program; None if there is none that can be run.

    Args:
        program: Name of the program, or an absolute path.
        path: PATH on which a name is looked for once; entries that are not absolute, such as ``.``
            and empty ones, do not count.
    """
    if os.sep in program:
        return program if program.startswith(os.sep) and _can_be_run(program) else None
    known = _found.get((program, path))
    if known is None or not _can_be_run(known):
        places = filter(os.path.isabs, path.split(os.pathsep))
        files = (os.path.join(place, program) for place in places)
        known = next(filter(_can_be_run, files), None)
        if known is not None:
            _found[program, path] = known
    return known


def to_run(program: str, environment: Mapping[str, str]) -> str:
    """Return the path by which a process is started; a name is found on PATH as `found` does.

    What cannot be found is returned unchanged, so that starting it fails with the reason.

    Raises FileNotFoundError if only an entry of PATH that does not count may hold it.
    """
    path = environment.get("PATH", os.defpath)
    if os.sep in program or not program:
        return program
    place = found(program, path)
    if place is None and not all(map(os.path.isabs, path.split(os.pathsep))):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return place or program


def _can_be_run(file: str) -> bool:
    """Return whether a path is a program."""
    # Unlike pathlib, this takes what cannot be examined for no file.
    return os.path.isfile(file) and os.access(file, os.X_OK)  # noqa: PTH113
