"""A running program: its process group, guard, time limit, and the end of all its descendants.

The guard is a shell that leads the program's process group and reads a pipe whose other end this
process holds. When this process dies, in whatever way, the guard ends the group. Descendants that
left the group (setsid) become children of this process (`zwrap.host.ending.become_subreaper`) and
are ended after the program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import zwrap_templates

from zwrap.errors import ProgramError
from zwrap.host.ending import Act, Ending, become_subreaper, end_leftovers, signal_descendants
from zwrap.host.files import open_to_append
from zwrap.host.modes import READ_FILE
from zwrap.host.programs import to_run
from zwrap.wrapper.ended import Ended

GUARD = Path(zwrap_templates.__file__).with_name("guard.sh")
"""The shell script of the guard."""


class Program:
    """A running program. `stop` may be called from a signal handler or another thread."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        guard: _Guard,
        *,
        began: float,
        grace_s: float,
        stop_signal: signal.Signals,
        save: Callable[[float], bool] | None,
        saves: bool,
    ) -> None:
        self.saves = saves
        """True if the program can save its state before its job ends."""
        self._process, self._guard = process, guard
        self._grace_s, self._gently, self._save = grace_s, stop_signal, save
        self.began = began
        self._stopped_by: str | None = None
        self._again = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        stdin: str | None = None,
        stdout: Path | None,
        stderr: Path | None,
        grace_s: float = 10.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        save: Callable[[float], bool] | None = None,
        saves: bool = False,
    ) -> Program:
        """Start a program and return it.

        Args:
            argv: Program, found on PATH, and its arguments; run without a shell.
            directory: Working directory.
            environment: All variables of the program.
            stdin: Text on standard input; None: it is empty, or that of this process if `stdout`
                is None.
            stdout: File to which standard output is appended; None: that of this process.
            stderr: File to which standard error is appended; None: that of this process.
            grace_s: Time between `stop_signal` and SIGKILL, in seconds.
            stop_signal: Signal by which `stop` asks it to end; at the time limit it is SIGTERM.
            save: Function that `wait` calls before `stop_signal`, with the rest of the grace period
                in seconds; True: the program has saved its state.
            saves: True if it can save its state, in whatever way.

        Raises:
            ProgramError: The program cannot be started; the text tells why.
        """
        become_subreaper()
        guard = _start_guard(grace_s)
        began = time.monotonic()
        try:
            with (
                _readable(stdin) as text,
                _appending(stdout) as output,
                _appending(stderr) as error,
            ):
                process = subprocess.Popen(
                    list(argv),
                    executable=to_run(argv[0], environment),
                    cwd=directory,
                    env=dict(environment),
                    stdin=text or (subprocess.DEVNULL if stdout else None),
                    stdout=output,
                    stderr=error,
                    process_group=guard.pid,
                )
        except (OSError, ValueError) as error_:
            guard.end()
            raise ProgramError(_why_not_started(argv[0], directory, error_)) from None
        return cls(
            process, guard, began=began, grace_s=grace_s, stop_signal=stop_signal, save=save,
            saves=saves,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._process.pid

    def stop(self, because: str, grace_s: float | None = None) -> None:
        """Ask the program to end; a second call kills it without further delay.

        Args:
            because: Name of the signal, or of another reason; `Ended.stopped_by` is the first one.
            grace_s: Time until the program is killed, in seconds; None: that of `start`.
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
        asked = saved = False
        ended = os.pidfd_open(self.pid)
        try:
            while not self._has_ended(ended, ending.until_due_s):
                while act := ending.due(
                    self._grace_s, wanted=self._stopped_by is not None, no_grace=self._again
                ):
                    if act is Act.ASK:
                        asked, saved = True, self._ask(ending)
                    else:
                        self.signal(signal.SIGKILL)
                        saved = saved and self._save is not None
        finally:
            os.close(ended)
        returncode = self._process.wait()
        elapsed_s = time.monotonic() - self.began
        leftovers = end_leftovers(self._guard.pid)
        self._guard.end()
        os.close(self._wake_read)
        wake_write, self._wake_write = self._wake_write, -1
        os.close(wake_write)
        return Ended(
            returncode=returncode,
            elapsed_s=elapsed_s,
            timed_out=ending.timed_out,
            stopped_by=self._stopped_by,
            saved=saved if asked else self._was_asked_by_another(),
            leftovers=leftovers,
        )

    def _has_ended(self, descriptor: int, wait_s: float | None) -> bool:
        """Wait until the program ends, `stop` is called, or `wait_s` is over; True: it ended."""
        ready, _, _ = select.select([descriptor, self._wake_read], [], [], wait_s)
        if self._wake_read in ready:
            os.read(self._wake_read, 64)
        return descriptor in ready

    def _was_asked_by_another(self) -> bool:
        """Return True if the signal on which the program saves came from the batch system.

        One that signals all processes of a job may be faster than this process.
        """
        return self._save is None and self._stopped_by == self._gently.name

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


@contextlib.contextmanager
def _readable(text: str | None) -> Iterator[BinaryIO | None]:
    """Yield a file without a name that holds a text; None if there is none."""
    if text is None:
        yield None
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as stream:
        stream.write(text.encode(errors="surrogateescape"))
        stream.seek(0)
        yield stream


@contextlib.contextmanager
def _appending(file: Path | None) -> Iterator[BinaryIO | None]:
    """Yield a file that is open for appending; None if there is none."""
    if file is None:
        yield None
        return
    with open_to_append(file, READ_FILE) as stream:
        yield stream


class _Guard(msgspec.Struct, frozen=True):
    """The guard of a program."""

    process: subprocess.Popen[bytes]
    lifeline: int
    """Write end of the pipe that the guard reads."""

    @property
    def pid(self) -> int:
        """Process id of the guard, which leads the program's process group."""
        return self.process.pid

    def end(self) -> None:
        """End the guard, and what is left of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.lifeline)


def _start_guard(grace_s: float) -> _Guard:
    """Start the guard of a program that has `grace_s` seconds to end."""
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
    return _Guard(guard, write)


def _why_not_started(program: str, directory: Path, error: OSError | ValueError) -> str:
    """Return a sentence that tells why a program cannot be started."""
    if isinstance(error, ValueError):
        return f"{program!r} cannot be run: {error}."
    if not directory.is_dir():
        return f"The working directory {directory} does not exist."
    if isinstance(error, FileNotFoundError):
        return (
            f"The program {program!r} was not found on PATH; install it, name its full path, or "
            "load it in the definition's set_up lines."
        )
    if isinstance(error, PermissionError):
        return f"The program {program!r} is not executable: {error.strerror}."
    if error.errno == errno.E2BIG:
        return (
            f"The program {program!r} cannot be started: its arguments and variables are longer "
            "than the system takes, which is 128 KiB for one argument and for all shell text. Put "
            "long lists into a file (write, stdin), or into a list of arguments."
        )
    return f"The program {program!r} cannot be started: {error.strerror}."
