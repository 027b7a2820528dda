"""Which processes may still act on a submission: Submitters, and what they started.

A Submitter that is killed leaves behind what it had called, such as an `sbatch` that has not yet
asked its controller. Each Submitter holds a lock on a file of its own, its *mark*, which all
processes that it starts inherit with the open file. So a lock that is held after its Submitter is
dead is held by such leftovers, and the next Submitter on this host ends them, with their sessions,
before it looks for their jobs. On other hosts they end by the deadline of their call
(`zwrap.calls.command`, `zwrap.calls.drmaahelper`).
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import UnknownOutcomeError
from zwrap.host.modes import PRIVATE_FILE, make_private
from zwrap.host.paths import in_state_directory
from zwrap.host.processes import ProcessIdentity, is_alive, process_status, processes, this_process

log = logging.getLogger(__name__)

LATER_S = 1.0
"""Time after its limit at which a call is ended if its own process cannot do that, in seconds."""

KEPT_S = 3600.0
"""Time for which it is known that a Submitter is dead, in seconds: longer than calls take."""

END_S = 5.0
"""Longest wait for the end of a process that was killed, in seconds."""

ENDED = "ended-"
"""Beginning of the name of the mark of a Submitter whose leftovers are gone."""

_POLL_S = 0.02


class Others(NamedTuple):
    """Other processes that may have submitted jobs from this host."""

    live: bool
    """True if another Submitter may be at work, here or on another host."""
    ended: float
    """Time at which the last dead Submitter, with all that it had started, was known to be over, in
    seconds since the epoch; 0.0: none is known."""


class _Mark:
    """The mark of this process."""

    descriptor: int | None = None
    owner = 0
    """Number of the process that made it; a fork has none."""


def boot_time() -> float:
    """Return the time since the start of this host, in seconds, also while it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def begin() -> None:
    """Make the mark of this process, unless it has one.

    Without it, what a killed Submitter leaves behind ends by its deadline only.
    """
    if _Mark.owner == os.getpid() and _Mark.descriptor is not None:
        return
    _Mark.owner, _Mark.descriptor = os.getpid(), None
    path = _directory() / str(this_process())
    try:
        make_private(path.parent)
        _Mark.descriptor = _locked_new(path)
    except OSError as error:
        log.warning("The mark %s cannot be made: %s", path, error.strerror)
    else:
        atexit.register(_remove, path, os.getpid())


def inherited() -> tuple[int, ...]:
    """Return the descriptors that each process gets that this process starts."""
    mark = _Mark.descriptor if _Mark.owner == os.getpid() else None
    return () if mark is None else (mark,)


def others(now: float) -> Others:
    """End what dead Submitters of this host left behind, and return what is known of the others.

    `now`: seconds since the epoch, by the clock of the ledger.

    Raises:
        UnknownOutcomeError: A leftover cannot be ended, such as one that waits for a dead disk.
    """
    live, ended, began = False, 0.0, time.monotonic()
    for path in _marks():
        if path.name.startswith(ENDED):
            ended = max(ended, _kept(path, now))
            continue
        who = ProcessIdentity.parse(path.name)
        if who is None or who == this_process():
            continue
        held = _is_held(path)
        if held and is_alive(who) is not False:
            live = True
            continue
        if held:
            _end_leftovers(path)
        over = now + time.monotonic() - began  # their end may have taken a while
        _note_end(path, over)
        ended = max(ended, over)
    return Others(live, ended)


def _directory() -> Path:
    """Return the directory of the marks."""
    return in_state_directory("submitting")


def _marks() -> list[Path]:
    """Return the files of all marks."""
    try:
        return list(_directory().iterdir())
    except OSError:
        return []


def _locked_new(path: Path) -> int:
    """Create a file and lock it; return its descriptor, which processes do not inherit by itself.

    Another process may remove the file before it is locked, for a mark of the dead.
    """
    while True:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE
        )
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _remove(path: Path, owner: int) -> None:
    """Remove the mark of a process that ends in peace; a fork leaves it alone."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_held(path: Path) -> bool:
    """Return True if a process may hold the lock of a mark."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # A shared lock, so that others who look at the same time do not take it for held.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _note_end(path: Path, now: float) -> None:
    """Note when the leftovers of a dead Submitter were known to be over, for other processes."""
    with contextlib.suppress(OSError):
        os.utime(path, (now, now))
        path.rename(path.with_name(ENDED + path.name))


def _kept(path: Path, now: float) -> float:
    """Return when the leftovers of a mark ended; an old mark is removed."""
    with contextlib.suppress(OSError):
        ended = path.stat().st_mtime
        if now - ended < KEPT_S:
            return min(ended, now)
        path.unlink()
    return 0.0


def _end_leftovers(path: Path) -> None:
    """Kill the sessions of the processes that hold a mark, and wait for their end.

    Each call has a session of its own. A program in it may have closed the open file: Python does
    so for all that it starts.
    """
    deadline = time.monotonic() + END_S
    sessions: set[int] = set()
    while True:
        sessions |= {status.session for pid in _holders(path) if (status := process_status(pid))}
        sessions.discard(os.getsid(0))
        left = [each for each in processes() if each.session in sessions and not each.is_dead]
        if not left and not _is_held(path):
            return
        for status in left:
            log.warning("Process %d, which a dead Submitter left behind, is ended", status.pid)
            _kill(status.pid, status.session)
        if time.monotonic() > deadline:
            named = ", ".join(str(status.pid) for status in left) or "of another user"
            raise UnknownOutcomeError(
                f"A dead Submitter left behind process {named}, which may still submit a job and "
                f"cannot be ended; it holds {path}.",
                retry_after_s=END_S,
            )
        time.sleep(_POLL_S)


def _kill(pid: int, session: int) -> None:
    """Kill a process, unless its number belongs to another one by now."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            status = process_status(pid)
            if status and status.session == session:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _holders(path: Path) -> Iterator[int]:
    """Yield the processes of this host that hold the lock of a mark, as far as this user sees them.

    Source: proc(5), ``/proc/PID/fdinfo``.
    """
    wanted = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                if _target(link) == wanted and _is_locked(process / "fdinfo" / link.name):
                    yield int(process.name)


def _target(link: Path) -> str | None:
    """Return what a link in /proc points to; None: it is closed by now."""
    with contextlib.suppress(OSError):
        return os.readlink(link)
    return None


def _is_locked(file: Path) -> bool:
    """Return True if an open file has an exclusive lock; false for who only looks at the file."""
    with contextlib.suppress(OSError):
        return re.search(r"^lock:.*FLOCK.*WRITE", file.read_text(), re.MULTILINE) is not None
    return False
