"""Modes of what zwrap creates, and the directories themselves: who may read it, and who may write.

The table of docs/site.md, "Who may read what", in code. The umask takes permissions away from a
mode, unless the directory above has a default ACL (acl(5)), which then decides in its place.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

PRIVATE_FILE, PRIVATE_SCRIPT, PRIVATE_DIRECTORY = 0o600, 0o700, 0o700
"""Modes of the state of one user: ledger, locks, marks, jobs of the built-in batch system."""

OWN_FILE, OWN_SCRIPT, OWN_DIRECTORY = 0o640, 0o750, 0o2750
"""Modes of zwrap's own that lies where others look: an attempt's directory, claim, verdict,
submission, script, outbox. The group reads, if only to find the output of the job there."""

READ_FILE, READ_DIRECTORY = 0o664, 0o775
"""Modes of what people read: logs and output of programs, working directories, results."""

PUBLIC_FILE = 0o644
"""Mode of files for any program of the host, such as a monitor's."""

SHARED_FILE, SHARED_DIRECTORY = 0o640, 0o2770
"""Modes of a spool, which its group shares, whatever the umasks of its users are: new files belong
to the group, too."""

_DEFAULT_ACL = "system.posix_acl_default"
"""Extended attribute with the ACL that new files in a directory get (Linux)."""

_making = threading.Lock()


def make_private(path: Path) -> None:
    """Create a directory for this user alone, unless it exists; those above it may be read."""
    _make(path, lambda: os.mkdir(path, PRIVATE_DIRECTORY), make_readable)


def make_readable(path: Path) -> None:
    """Create a directory that people read, and those above it, unless they exist."""
    _make(path, lambda: os.mkdir(path, READ_DIRECTORY), make_readable)


def make_shared(path: Path) -> None:
    """Create a directory that a group shares, and those above it, unless they exist."""

    def create() -> None:
        os.mkdir(path)
        os.chmod(path, SHARED_DIRECTORY)

    _make(path, create, make_shared)


def make_alike(path: Path) -> None:
    """Create a directory, and those above it, for those who may use the directory above them.

    It has the group and the default ACL of the directory above, as far as the system gives it these
    (setgid bit, acl(5)). Without such an ACL its group may read it, whatever the umask is, and may
    write to it if the group of the directory above may write there; others may not.
    """
    _make(path, lambda: _create_alike(path), make_alike)


def _create_alike(path: Path) -> None:
    """Create one directory as `make_alike` does."""
    wanted = mode_alike(path.parent)
    os.mkdir(path, READ_DIRECTORY if wanted is None else wanted & 0o777)
    settle_alike(path, wanted)


def mode_alike(directory: Path) -> int | None:
    """Return the mode of a new directory in another one; None: an ACL decides on it."""
    if _has_default_acl(directory):
        return None
    return OWN_DIRECTORY | (os.stat(directory).st_mode & stat.S_IWGRP)


def settle_alike(made: Path, wanted: int | None) -> None:
    """Give a directory that was just created the mode that `mode_alike` told of the one above."""
    if wanted is None:
        return
    status = os.stat(made)
    mode = stat.S_IMODE(status.st_mode)
    # chmod(2) takes the setgid bit away from a group that is not ours, and with it the readers.
    needed = OWN_DIRECTORY & 0o2070
    keeps = mode & needed == needed and not _is_ours(status.st_gid)
    if mode != wanted and not keeps:
        os.chmod(made, wanted)


def _has_default_acl(directory: Path) -> bool:
    """Return whether an ACL decides on the permissions of new files in a directory."""
    try:
        return bool(os.getxattr(directory, _DEFAULT_ACL))
    except OSError:  # there is none, or the filesystem has none
        return False


def _is_ours(group: int) -> bool:
    """Return whether chmod(2) keeps the setgid bit of files of a group."""
    return os.geteuid() == 0 or group in (os.getegid(), *os.getgroups())


def _make(path: Path, create: Callable[[], None], make_above: Callable[[Path], None]) -> None:
    """Create a directory unless it exists; any number of processes may do so at the same time.

    Raises OSError if that is not possible.
    """
    for tries_left in (2, 1, 0):  # another process may remove a parent that is empty
        try:
            with _making:  # a thread that just created the directory must have set its mode, too
                create()
            return
        except FileNotFoundError:
            if not tries_left or path == path.parent:
                raise  # nothing can be created in there
            make_above(path.parent)
        except OSError:  # whatever a filesystem says of one that exists
            if path.is_dir():
                return
            raise
