"""Replaces child processes that ended without having been asked, with back-off."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from types import FrameType

from zwrap.cli.common import remark
from zwrap.errors import PERMANENT
from zwrap.host.backoff import Backoff
from zwrap.host.programs import own_python
from zwrap.host.stopping import has_terminal, signals_to_stop

FIRST_S, LAST_S = 0.1, 5.0
"""Shortest and longest pause before another start, in seconds."""

ORDERLY_END = "ZWRAP_ORDERLY_END"
"""Environment variable with the descriptor on which a child tells of its orderly end."""


def restarted(commands: Sequence[Sequence[str]], *, renewed: bool = False) -> int:
    """Run Python with each list of arguments; replace each process that has no reason to end.

    A reason is a stop, the end of a run with ``--once``, or a mistake in the configuration. A
    failure that may pass is none, and neither is a handler that ends its process by `os._exit`.

    Returns, when all have ended, the first exit status that is not 0, else 0. SIGTERM, SIGINT and
    SIGHUP are passed on and end the restarts; with `renewed` SIGHUP is passed on only, because the
    processes read their configuration again, unless the terminal was closed.
    """
    children = [_Restarter(command) for command in commands]

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for child in children:
            child.stop(number)

    terminal = renewed and has_terminal()

    def hung_up(number: int, frame: FrameType | None) -> None:
        if not renewed or (terminal and not has_terminal()):
            stop(number, frame)
        else:
            for child in children:
                child.tell(number)

    for number in signals_to_stop():
        signal.signal(number, hung_up if number == signal.SIGHUP else stop)
    threads = [threading.Thread(target=child.run) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next((child.status for child in children if child.status), 0)


def tell_orderly_end() -> None:
    """Let this process, if it is such a child, tell at its end that Python ended it."""
    given = os.environ.pop(ORDERLY_END, "")
    if given.isdecimal():
        process = os.getpid()
        atexit.register(lambda: _tell(int(given), process))


def _tell(descriptor: int, process: int) -> None:
    """Tell of the end of a process, but not of those that it forked."""
    if os.getpid() == process:
        with contextlib.suppress(OSError):
            os.write(descriptor, b".")


class _Restarter:
    """One child process, and its successors."""

    def __init__(self, command: Sequence[str]) -> None:
        self.status = 0
        self._command = own_python(*command)
        self._child: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()

    def run(self) -> None:
        """Start the child, and again after each end that has no reason."""
        backoff = Backoff(FIRST_S, LAST_S)
        while not self._stop.is_set():
            began = time.monotonic()
            status, why = self._life()
            if not why or self._stop.is_set():
                self.status = status if status >= 0 else 128 - status  # as shells report signals
                return
            if time.monotonic() - began > LAST_S:
                backoff.reset()
            pause_s = backoff.next_s()
            remark(f"{self._name}: {why}; it is started again in {pause_s:g} s.")
            self._stop.wait(pause_s)

    @property
    def _name(self) -> str:
        """Name for people: the last arguments of the command."""
        return " ".join(self._command[-6:])

    def _life(self) -> tuple[int, str]:
        """Run the child to its end; return status and why it is replaced (empty: it is not)."""
        read, write = os.pipe()
        try:
            try:
                self._child = subprocess.Popen(
                    self._command,
                    env={**os.environ, ORDERLY_END: str(write)},
                    pass_fds=[write],
                )
            except OSError as error:
                return 1, f"it could not be started: {error}"
            status = self._child.wait()
            os.set_blocking(read, False)
            with contextlib.suppress(BlockingIOError):
                if os.read(read, 1) and status in (0, PERMANENT):
                    return status, ""
        finally:
            os.close(read)
            os.close(write)
        return status, _why(status)

    def stop(self, number: int) -> None:
        """Pass a signal on to the child, and start nothing more."""
        self._stop.set()
        self.tell(number)

    def tell(self, number: int) -> None:
        """Pass a signal on to the child."""
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, number)


def _why(status: int) -> str:
    """Return how a process ended that was not asked to, as a clause."""
    if status < 0:
        return f"the service was ended by signal {-status}"
    if status in (0, PERMANENT):
        return (
            f"the service ended with status {status}, and was not asked to (a handler or a library "
            "has ended the process)"
        )
    return f"the service ended with status {status}"
