"""How processes are ended: asked, after a grace period made to, and their descendants with them."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import logging
import os
import signal
import time
from collections import defaultdict

from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import processes

log = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36
"""Number of the operation (linux/prctl.h)."""

LEFTOVER_GRACE_S = 2.0
"""Time between SIGTERM and SIGKILL for processes that a program left behind, in seconds."""

LEFTOVER_LIMIT_S = 10.0
"""Longest wait for their end, in seconds; one in uninterruptible sleep (a dead file server, say)
is left behind."""

LEFTOVER_POLL_S = 0.01
"""Interval between two looks at them, in seconds."""


class Act(enum.Enum):
    """Act that is due to a process that has to end."""

    ASK = "ask"
    """Send the signal that lets it end in its own way."""
    KILL = "kill"
    """Send SIGKILL: its grace period is over."""


class Ending:
    """When a running process is asked to end, and when it is made to.

    It is asked once, because somebody wants it or because its time limit is reached, and killed
    `grace_s` seconds later. Whoever waits for the process asks `due` what is to be done.
    """

    def __init__(
        self, limit_s: float | None, *, began: float | None = None, clock: Clock = elapsed
    ) -> None:
        """Take the time limit and when the process began.

        Args:
            limit_s: time limit in seconds; None: there is none.
            began: when the process began, by `clock`; None: now.
            clock: the time in seconds.
        """
        self._clock = clock
        began = clock() if began is None else began
        self._due_at = began + limit_s if limit_s else float("inf")
        self._asked = self._killed = False
        self.timed_out = False
        """True if it was asked because its time limit was reached."""

    def due(self, grace_s: float, *, wanted: bool, no_grace: bool = False) -> Act | None:
        """Return what is to be done now, each act once; None: nothing.

        Args:
            grace_s: seconds between `ASK` and `KILL`; counts at `ASK`.
            wanted: whether somebody wants the process to end.
            no_grace: whether the rest of the grace period is cut off.
        """
        now = self._clock()
        if not self._asked:
            if not wanted and now < self._due_at:
                return None
            self._asked, self.timed_out = True, not wanted
            self._due_at = now + grace_s
            return Act.ASK
        if self._killed or not (no_grace or now >= self._due_at):
            return None
        self._killed = True
        return Act.KILL

    @property
    def until_due_s(self) -> float | None:
        """Seconds until the next act is due by the clock alone; None: never."""
        if self._killed or self._due_at == float("inf"):
            return None
        return max(0.0, self._due_at - self._clock())

    @property
    def grace_left_s(self) -> float:
        """Seconds until a process that was asked is killed; 0 before and after."""
        return (self.until_due_s or 0.0) if self._asked else 0.0


def become_subreaper() -> None:
    """Adopt descendants whose parents end (prctl(2)); where that cannot be, nothing is adopted."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_descendants(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, and to descendants of this process outside of it."""
    strayed = _strayed(group)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
    for pid in strayed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_session(leader: int) -> None:
    """Kill every process of a session but this one; its leader may be dead."""
    for process in processes():
        if process.session == leader and process.pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)


def end_leftovers(group: int | None = None) -> int:
    """End what is left in a process group but its leader, and all children of this process.

    Returns how many processes there were. Each gets SIGTERM, and SIGKILL `LEFTOVER_GRACE_S` later.
    """
    seen: set[int] = set()
    began = time.monotonic()
    while left := _leftovers(group):
        late = time.monotonic() - began > LEFTOVER_GRACE_S
        if time.monotonic() - began > LEFTOVER_LIMIT_S:
            log.error("Processes that SIGKILL does not end are left behind: %s", left)
            break
        for pid in left:
            if late or pid not in seen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        seen |= left
        time.sleep(LEFTOVER_POLL_S)
    return len(seen)


def _strayed(group: int) -> list[int]:
    """Return descendants of this process, adopted ones included, that are not in the group."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for process in processes():
        if process.state != "Z":
            children[process.parent].append((process.pid, process.group))
    found, to_do = [], [os.getpid()]
    while to_do:
        for pid, own_group in children[to_do.pop()]:
            to_do.append(pid)
            if own_group != group:
                found.append(pid)
    return found


def _leftovers(group: int | None) -> set[int]:
    """Return live processes of the group and live children, but for its leader; reap dead ones."""
    me = os.getpid()
    left = set()
    for process in processes():
        if process.pid == group:
            continue
        if process.state == "Z":
            if process.parent == me:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        elif process.group == group or process.parent == me:
            left.add(process.pid)
    return left
