"""Walking down a path by descriptors (openat(2)), directory by directory, through no link.

`zwrap.host.beneath` decides where the walk goes on after a link, and where it may begin.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from zwrap.host.modes import READ_DIRECTORY, mode_alike, settle_alike

_PASSED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags of open(2) for a directory on the way, which need not be readable."""

_made = threading.Lock()
"""Lock of those who set the mode of a directory that they create: others must find it set."""


class LinkError(Exception):
    """There is a link, which is not followed."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


Open = Callable[[int, str], int]
"""Function that opens a name in an open directory and returns a descriptor; `LinkError` if it is a
link."""


class Detour:
    """A part of a path that is a link, or the ``..`` of one; `passed` parts before it are real."""

    def __init__(self, passed: int, target: str) -> None:
        self.passed = passed
        self.target = target

    def way(self, root: Path, parts: Sequence[str]) -> Path:
        """Return the absolute path to walk instead of `parts` below `root`."""
        before, rest = parts[: self.passed], parts[self.passed + 1 :]
        if self.target != "..":
            return root.joinpath(*before, self.target, *rest)
        if before:
            return root.joinpath(*before[:-1], *rest)
        return Path(os.path.realpath(root)).parent.joinpath(*rest)


def descended(root: Path, parts: Sequence[str], last: Open, enter: Open) -> int | Detour:
    """Walk down from a directory, whose path may hold links.

    Return what `last` opened at the end, or the first detour. `enter` opens directories on the way.
    Raises OSError.
    """
    here = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, name in enumerate(parts[:-1]):
            if name == "..":
                return Detour(number, name)
            try:
                following = enter(here, name)
            except LinkError as link:
                return Detour(number, link.target)
            os.close(here)
            here = following
        if parts and parts[-1] == "..":
            return Detour(len(parts) - 1, "..")
        try:
            return last(here, parts[-1] if parts else ".")
        except LinkError as link:
            return Detour(len(parts) - 1, link.target)
    finally:
        os.close(here)


def entered(directory: int, name: str) -> int:
    """Return the descriptor of a directory in another one; `Open`."""
    try:
        return os.open(name, _PASSED, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            _check_link(directory, name)
        raise


def found(directory: int, name: str) -> int:
    """Return a descriptor of whatever has a name in a directory, without opening it; `Open`."""
    try:
        return entered(directory, name)
    except NotADirectoryError:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def making(*, alike: bool) -> Open:
    """Return a function that enters a directory, and creates it if it is missing.

    `alike`: True for the modes of `zwrap.host.modes.make_alike`, False for those of directories
    that people read.
    """

    def enter(directory: int, name: str) -> int:
        try:
            return entered(directory, name)
        except FileNotFoundError:
            above = Path(f"/proc/self/fd/{directory}")
            wanted = mode_alike(above) if alike else None
            is_new = _is_made(directory, name, wanted)
        descriptor = entered(directory, name)
        if is_new:
            try:
                settle_alike(Path(f"/proc/self/fd/{descriptor}"), wanted)
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    def enter_alone(directory: int, name: str) -> int:
        with _made:
            return enter(directory, name)

    return enter_alone if alike else enter


def _is_made(directory: int, name: str, wanted: int | None) -> bool:
    """Create a directory; return False if another process was faster."""
    try:
        os.mkdir(name, READ_DIRECTORY if wanted is None else wanted & 0o777, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def opening(flags: int, mode: int) -> Open:
    """Return a function that opens a file with flags and mode of open(2), never through a link."""

    def opened(directory: int, name: str) -> int:
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                _check_link(directory, name)
            raise

    return opened


def _check_link(directory: int, name: str) -> None:
    """Raise LinkError if a name in a directory is a link."""
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError:
        return
    raise LinkError(target)
