"""A running program: its process group, guard, time limit, and the end of all its descendants.

The guard is a shell that leads the program's process group and reads a pipe whose other end this
process holds. When this process dies, in whatever way, the guard ends the group. Descendants that
left the group (setsid) become children of this process (`zwrap.host.ending.become_subreaper`) and
are ended after the program.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import zwrap_templates

from zwrap.errors import ProgramError
from zwrap.host.ending import Act, Ending, become_subreaper, end_leftovers, signal_descendants
from zwrap.wrapper.ended import Ended

GUARD = Path(zwrap_templates.__file__).with_name("guard.sh")
"""The shell script of the guard."""


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
        """Start a program.

        Args:
            argv: Program, found on PATH, and its arguments; run without a shell.
            directory: Working directory.
            environment: All environment variables of the program.
            stdout: File to which standard output is appended; None: standard output and input are
                those of this process.
            stderr: File to which standard error is appended; None: that of this process.
            grace_s: Time between the signal that asks the program to end and SIGKILL, in seconds.
            stop_signal: Signal with which `stop` asks the program to end; at the time limit it is
                SIGTERM.
            save: Function that `wait` calls before it sends `stop_signal`, with the rest of the
                grace period in seconds; it returns True if the program has saved its state.

        Raises:
            ProgramError: The program cannot be started; the text tells why.
        """
        self._grace_s = grace_s
        self._gently, self._save = stop_signal, save
        self._stopped_by: str | None = None
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
        """Ask the program to end; a second call kills it without further delay.

        Args:
            because: Name of the signal, or of another reason; `Ended.stopped_by` is the first one.
            grace_s: Time until the program is killed, in seconds; None: that of the constructor.
        """
        if self._stopped_by is None:
            self._grace_s = grace_s or self._grace_s
            self._stopped_by = because
        else:
            self._again = True
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def wait(self, limit_s: float | None = None) -> Ended:
        """Wait for the end of the program, and end all its descendants; return its end.

        `limit_s`: time limit of the program, in seconds since its start; None: no limit.
        """
        ending = Ending(limit_s, began=self.began)
        saved = False
        ended = os.pidfd_open(self.pid)
        try:
            while not self._has_ended(ended, ending.until_due_s):
                while act := ending.due(
                    self._grace_s, wanted=self._stopped_by is not None, no_grace=self._again
                ):
                    if act is Act.ASK:
                        saved = self._ask(ending)
                    else:
                        self.signal(signal.SIGKILL)
                        saved = saved and self._save is not None
        finally:
            os.close(ended)
        returncode = self._process.wait()
        elapsed_s = time.monotonic() - self.began
        leftovers = end_leftovers(self._guard.pid)
        self._end_guard()
        return Ended(
            returncode=returncode,
            elapsed_s=elapsed_s,
            timed_out=ending.timed_out,
            stopped_by=self._stopped_by,
            saved=saved,
            leftovers=leftovers,
        )

    def _has_ended(self, descriptor: int, wait_s: float | None) -> bool:
        """Wait until the program ends, `stop` is called, or `wait_s` is over; True: it ended."""
        ready, _, _ = select.select([descriptor, self._wake_read], [], [], wait_s)
        if self._wake_read in ready:
            os.read(self._wake_read, 64)
        return descriptor in ready

    def _ask(self, ending: Ending) -> bool:
        """Let the program save its state if it can, and ask it to end; True: it has saved."""
        saved = not ending.timed_out and (
            self._save is None or self._save(max(1.0, ending.grace_left_s))
        )
        self.signal(signal.SIGTERM if ending.timed_out else self._gently)
        self.signal(signal.SIGCONT)
        return saved

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program's process group, and to its descendants outside of it."""
        signal_descendants(self._guard.pid, number)

    def _end_guard(self) -> None:
        """End the guard, and close all descriptors."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait()
        for descriptor in (self._lifeline, self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._wake_write = -1


@contextlib.contextmanager
def _appending(file: Path | None) -> Iterator[BinaryIO | None]:
    """Yield a file that is open for appending; None if there is none."""
    if file is None:
        yield None
        return
    with file.open("ab") as stream:
        yield stream


def _start_guard(grace_s: float) -> tuple[int, subprocess.Popen[bytes]]:
    """Start the guard; return the write end of its pipe, and the guard."""
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


def _why_not_started(program: str, directory: Path, error: OSError) -> str:
    """Return a sentence that tells why a program cannot be started."""
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


class Usage:
    """CPU time and memory of a process and its descendants."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.peak_mib = 0.0
        """Largest resident memory that was measured, in MiB."""

    def measure(self, pid: int) -> dict[str, float]:
        """Return `cpu_s` (seconds) and `memory_mib` (resident) of a process and its descendants."""
        import psutil  # a short job does not need it

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
