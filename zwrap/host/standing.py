"""Paths that stand for open files and directories, and the names by which people know them.

Below ``/proc/self/fd`` each descriptor of this process has a path, which leads to what is open,
whatever is renamed meanwhile. It says little to people, so errors and logs name the real path.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from zwrap.errors import ZwrapError

OPEN = Path("/proc/self/fd")
"""Directory with the descriptors of this process."""


@contextlib.contextmanager
def standing_for(descriptor: int, path: Path) -> Iterator[Path]:
    """Yield a path that stands for a descriptor, which is closed in the end.

    `path`: the real path, which errors inside the context name.
    """
    place = OPEN / str(descriptor)
    try:
        with naming(place, path):
            yield place
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(place: Path, path: Path) -> Iterator[None]:
    """Let errors inside the context name `path` where they name `place`, which stands for it."""
    named = _renaming(place, path)
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            error.filename = named(str(error.filename))
        raise
    except ZwrapError as error:
        error.args = tuple(map(named, error.args))
        raise


def _renaming(place: Path, path: Path) -> Callable[[object], object]:
    """Return the function that puts the real path into a text; other values stay as they are."""
    pattern = re.compile(rf"{re.escape(str(place))}(?![0-9])")

    def named(text: object) -> object:
        return pattern.sub(lambda _: str(path), text) if isinstance(text, str) else text

    return named


def real_name(path: Path) -> Path:
    """Return the name of what a path stands for; any other path stays as it is."""
    if not path.is_relative_to(OPEN) or path == OPEN:
        return path
    number, *rest = path.relative_to(OPEN).parts
    try:
        return Path(os.readlink(OPEN / number), *rest)
    except OSError:  # it is closed
        return path
