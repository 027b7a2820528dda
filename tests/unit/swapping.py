"""Somebody who swaps directories for links while others write into them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534
SWAPPED_S = 2.0
"""Time for which directories are swapped, in seconds."""

STAYS_S = 0.002
"""Time for which a directory, and then a link, stays in its place, in seconds."""


@contextlib.contextmanager
def swapping(directory: Path, target: Path) -> Iterator[None]:
    """Swap ``work``, and ``.zwrap`` in it, for links to a target, as another user if possible."""
    if os.geteuid() == 0:
        for each in (directory, directory / "work", directory / "work" / ".zwrap"):
            os.chown(each, NOBODY, NOBODY)
        target.chmod(0o700)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()  # the interpreter may be where another user cannot start it
    if not child:
        try:
            _swap(directory, target)
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _swap(directory: Path, target: Path) -> None:
    """Become another user and swap without end."""
    os.chdir(directory)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for number in itertools.count():
        for name in ("work", "work/.zwrap"):
            aside = f"{name}.{number}"
            with contextlib.suppress(OSError):
                os.rename(name, aside)
            with contextlib.suppress(OSError):
                Path(name).symlink_to(target)
                time.sleep(STAYS_S)
                os.unlink(name)
            with contextlib.suppress(OSError):
                os.rename(aside, name)
            time.sleep(STAYS_S)


def listing(directory: Path) -> list[tuple[str, int]]:
    """Return what is in a directory, and its modes."""
    found = [directory, *directory.rglob("*")]
    return sorted((str(each), os.lstat(each).st_mode) for each in found)
