"""Runs one program: its own process group, a guard, a time limit, and nobody left behind.

The guard is a shell that leads the program's process group and reads a pipe which this process
holds; when this process vanishes, however it died, the guard ends the group. Descendants that
left the group (setsid) become children of this process (PR_SET_CHILD_SUBREAPER, prctl(2)) and
are ended with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import zwrap_templates

from zwrap.errors import ProgramError

log = logging.getLogger(__name__)

GUARD = Path(zwrap_templates.__file__).with_name("guard.sh")
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_S = 2.0
LEFTOVER_LIMIT_S = 10.0
"""A process in uninterruptible sleep (a dead file server, say) is not waited for any longer."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended."""

    returncode: int
    """Exit status, or minus the number of the signal that killed it."""
    elapsed_s: float
    timed_out: bool = False
    stopped_by: str | None = None
    """Name of the signal on which it was stopped."""
    saved: bool = False
    """It was asked to save before it was ended, and did as far as can be told."""
    leftovers: int = 0
    """Processes that the program left behind, which were ended."""

    @property
    def exit_status(self) -> int:
        """The status a shell would report: 128 + signal for a killed program."""
        return 128 - self.returncode if self.returncode < 0 else self.returncode


class Program:
    """A running program. `stop` may be called from a signal handler or another thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        stdout: Path | None,
        stderr: Path | None,
        grace_s: float = 10.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        save: Callable[[float], bool] | None = None,
    ) -> None:
        """Start it. Without files for its output it has standard input and output of our own.

        `stop` asks it with `stop_signal` to end, after `save`, which gets the time that is left.
        """
        self._grace_s = self._stop_grace_s = grace_s
        self._gently, self._save = stop_signal, save
        self._stop_signal: str | None = None
        self._again = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        become_subreaper()
        self._lifeline, self._guard = _start_guard(grace_s)
        self.began = time.monotonic()
        try:
            with _appending(stdout) as output, _appending(stderr) as error:
                self._process = subprocess.Popen(
                    list(argv),
                    cwd=directory,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL if stdout else None,
                    stdout=output,
                    stderr=error,
                    process_group=self._guard.pid,
                )
        except OSError as error_:
            self._end_guard()
            raise ProgramError(_why_not_started(argv[0], directory, error_)) from None
        except ValueError as error_:
            self._end_guard()
            raise ProgramError(f"{argv[0]!r} cannot be run: {error_}.") from None

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._process.pid

    def stop(self, because: str, grace_s: float | None = None) -> None:
        """Ask the program to end, and make it end `grace_s` later; a second call is at once."""
        self._stop_grace_s = grace_s or self._grace_s
        self._again = self._stop_signal is not None
        self._stop_signal = self._stop_signal or because
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def wait(self, limit_s: float | None = None) -> Ended:
        """Wait for the end, at most `limit_s` seconds of run time."""
        deadline = self.began + limit_s if limit_s else float("inf")
        kill_at = float("inf")
        timed_out = asked = saved = False
        ended = os.pidfd_open(self.pid)
        try:
            while True:
                due = min(kill_at, float("inf") if asked else deadline)
                ready, _, _ = select.select([ended, self._wake_read], [], [], _until(due))
                if ended in ready:
                    break
                if self._wake_read in ready:
                    os.read(self._wake_read, 64)
                now = time.monotonic()
                if not asked and (self._stop_signal or now >= deadline):
                    timed_out = not self._stop_signal
                    asked = True
                    kill_at = now + (self._grace_s if timed_out else self._stop_grace_s)
                    saved = not timed_out and self._saved(kill_at)
                    self.signal(signal.SIGTERM if timed_out else self._gently)
                    self.signal(signal.SIGCONT)
                if asked and (self._again or now >= kill_at):
                    self.signal(signal.SIGKILL)
                    saved = saved and self._save is not None
                    kill_at = float("inf")
        finally:
            os.close(ended)
        returncode = self._process.wait()
        elapsed_s = time.monotonic() - self.began
        leftovers = end_leftovers(self._guard.pid)
        self._end_guard()
        return Ended(
            returncode=returncode,
            elapsed_s=elapsed_s,
            timed_out=timed_out,
            stopped_by=self._stop_signal,
            saved=saved,
            leftovers=leftovers,
        )

    def _saved(self, until: float) -> bool:
        return self._save is None or self._save(max(1.0, until - time.monotonic()))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program's whole process group, and to its descendants outside."""
        strayed = _strayed(self._guard.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._guard.pid, number)
        for pid in strayed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end_guard(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait()
        for descriptor in (self._lifeline, self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._wake_write = -1


def end_leftovers(guard: int | None = None) -> int:
    """End what is left in the guard's process group, and our own and adopted children; how many."""
    seen: set[int] = set()
    began = time.monotonic()
    while left := _leftovers(guard):
        late = time.monotonic() - began > LEFTOVER_GRACE_S
        if time.monotonic() - began > LEFTOVER_LIMIT_S:
            log.error("Processes that SIGKILL does not end are left behind: %s", left)
            break
        for pid in left:
            if late or pid not in seen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        seen |= left
        time.sleep(0.01)
    return len(seen)


def _strayed(guard: int) -> list[int]:
    """Descendants of this process, adopted ones included, that are not in the guard's group."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pid, state, parent, group in processes():
        if state != "Z":
            children[parent].append((pid, group))
    found, to_do = [], [os.getpid()]
    while to_do:
        for pid, group in children[to_do.pop()]:
            to_do.append(pid)
            if group != guard:
                found.append(pid)
    return found


def _leftovers(guard: int | None) -> set[int]:
    """Live processes of the program's group, and adopted ones, but for the guard."""
    me = os.getpid()
    left = set()
    for pid, state, parent, group in processes():
        if state == "Z":
            if parent == me and pid != guard:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        elif pid != guard and (group == guard or parent == me):
            left.add(pid)
    return left


@contextlib.contextmanager
def _appending(file: Path | None) -> Iterator[BinaryIO | None]:
    if file is None:
        yield None
        return
    with file.open("ab") as stream:
        yield stream


def _start_guard(grace_s: float) -> tuple[int, subprocess.Popen[bytes]]:
    """Start the guard; the write end of its pipe, and the guard."""
    read, write = os.pipe()
    try:
        guard = subprocess.Popen(
            ["/bin/sh", str(GUARD), f"{grace_s:g}"],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
    finally:
        os.close(read)
    return write, guard


def _until(moment: float) -> float | None:
    return None if moment == float("inf") else max(0.0, moment - time.monotonic())


def _why_not_started(program: str, directory: Path, error: OSError) -> str:
    if not directory.is_dir():
        return f"The working directory {directory} does not exist."
    if isinstance(error, FileNotFoundError):
        return (
            f"The program {program!r} was not found on PATH; install it, name its full path, or "
            "load it in the definition's set_up lines."
        )
    if isinstance(error, PermissionError):
        return f"The program {program!r} is not executable: {error.strerror}."
    return f"The program {program!r} cannot be started: {error.strerror}."


def become_subreaper() -> None:
    """Adopt descendants whose parents end; where that is not possible nothing is adopted."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes() -> list[tuple[int, str, int, int]]:
    """Process id, state, parent and process group of every process (proc(5), stat)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError), Path("/proc", entry, "stat").open("rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
                found.append((int(entry), fields[0].decode(), int(fields[1]), int(fields[2])))
    return found


class Usage:
    """CPU time and memory of a process tree, and the largest memory seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.peak_mib = 0.0

    def measure(self, pid: int) -> dict[str, float]:
        """Seconds of CPU and MiB of resident memory of a process and its descendants."""
        import psutil  # a short job never asks

        cpu_s = rss = 0.0
        with contextlib.suppress(psutil.NoSuchProcess), self._lock:
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    rss += process.memory_info().rss
            self.peak_mib = max(self.peak_mib, rss / 2**20)
        return {"cpu_s": round(cpu_s, 2), "memory_mib": round(rss / 2**20, 1)}
