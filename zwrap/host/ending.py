"""Ending of processes and their descendants: a signal first, SIGKILL after a grace period."""

from __future__ import annotations

import contextlib
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
"""Longest wait for the end of such processes, in seconds; one in uninterruptible sleep, as on a
dead file server, is left behind."""

LEFTOVER_POLL_S = 0.01
"""Poll interval during that wait, in seconds."""


class Act(enum.Enum):
    """Next step in ending a process."""

    ASK = "ask"
    """Send the signal that lets the process end in its own way."""
    KILL = "kill"
    """Send SIGKILL, because the grace period is over."""


class Ending:
    """Times at which a running process is asked to end, and killed.

    The process is asked once, on demand or because its time limit is reached, and killed `grace_s`
    seconds later. The code that waits for the process calls `due` to learn what to do.
    """

    def __init__(
        self, limit_s: float | None, *, began: float | None = None, clock: Clock = elapsed
    ) -> None:
        """Start the time limit.

        Args:
            limit_s: Time limit of the process, in seconds; None: no limit.
            began: Time at which the process began, in seconds, by `clock`; None: now.
            clock: Clock for the time limit and the grace period.
        """
        self._clock = clock
        began = clock() if began is None else began
        self._due_at = began + limit_s if limit_s else float("inf")
        self._asked = self._killed = False
        self.timed_out = False
        """True if the process was asked to end because its time limit was reached."""

    def due(self, grace_s: float, *, wanted: bool, no_grace: bool = False) -> Act | None:
        """Return the act that is due now, each act once; None: none is.

        Args:
            grace_s: Time between `ASK` and `KILL`, in seconds; read when `ASK` is due.
            wanted: True if the process is to end before its time limit.
            no_grace: True if the rest of the grace period is cut off.
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
        """Seconds until a process that was asked to end is killed; 0 before and after."""
        return (self.until_due_s or 0.0) if self._asked else 0.0


def become_subreaper() -> None:
    """Adopt descendants whose parents end, if the kernel can do that (prctl(2))."""
    import ctypes  # for this alone, and not every job needs it

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
    """End the processes of a group except its leader, and all children of this process.

    Each gets SIGTERM, and SIGKILL `LEFTOVER_GRACE_S` later. Returns the number of processes.
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
    """Return live processes of the group except its leader, and live children; reap dead ones."""
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
