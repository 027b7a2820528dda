"""CPU time and memory of a program and its descendants, living and ended."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


class Usage:
    """CPU time and memory of the programs that this process runs, one after the other.

    The CPU time of a process that has ended is in that of the process that waited for it: its
    parent, or this one, which adopts descendants whose parents have ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before_s = _ended_children_s()
        self._cpu_s = 0.0
        self.peak_mib = 0.0
        """Largest resident memory that was measured, in MiB."""

    def measure(self, pid: int) -> dict[str, float]:
        """Return `cpu_s` and `memory_mib` of a program, which is this process or its child.

        `cpu_s` is the CPU time in seconds of all programs so far and their descendants, which
        never falls; `memory_mib` is the resident memory of those that live, in MiB.
        """
        import psutil  # a short job does not need it

        with self._lock:
            cpu_s, rss = _ended_children_s() - self._before_s, 0
            for process in _family(pid):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    if process.pid != os.getpid():
                        cpu_s += times.children_user + times.children_system
                    rss += process.memory_info().rss
            # A process that ends meanwhile is missing, as its parent was looked at before it.
            self._cpu_s = max(self._cpu_s, cpu_s)
            self.peak_mib = max(self.peak_mib, rss / 2**20)
            return {"cpu_s": round(self._cpu_s, 2), "memory_mib": round(rss / 2**20, 1)}


def _family(pid: int) -> Iterator[psutil.Process]:
    """Yield a program and its descendants, adopted ones included, parents before their children.

    The guard, which leads the program's process group, is left out.
    """
    import psutil

    own = psutil.Process()
    if pid == own.pid:
        yield own
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        guard = os.getpgid(pid)
        for process in own.children(recursive=True):
            if process.pid != guard or guard == pid:
                yield process


def _ended_children_s() -> float:
    """Return the CPU time of the ended children of this process, in seconds."""
    times = os.times()
    return times.children_user + times.children_system
