"""Restarts child processes that failed, with back-off, as long as they may recover."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from zwrap.errors import PERMANENT
from zwrap.host.backoff import Backoff

FIRST_S, LAST_S = 0.1, 5.0
"""Shortest and longest pause before another start, in seconds."""


def restarted(commands: Sequence[Sequence[str]]) -> int:
    """Run Python with each list of arguments; restart each process whose failure is temporary.

    Returns, when all have ended, the first exit status that is not 0, else 0. SIGTERM and SIGINT
    are passed on and end the restarts.
    """
    children = [_Restarter(command) for command in commands]

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for child in children:
            child.stop(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    threads = [threading.Thread(target=child.run) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next((child.status for child in children if child.status), 0)


class _Restarter:
    """One child process, and its restarts."""

    def __init__(self, command: Sequence[str]) -> None:
        self.status = 0
        self._command = [sys.executable, *command]
        self._child: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()

    def run(self) -> None:
        """Start the child, and again after each temporary failure."""
        backoff = Backoff(FIRST_S, LAST_S)
        while not self._stop.is_set():
            began = time.monotonic()
            self._child = subprocess.Popen(self._command)
            status = self._child.wait()
            if status in (0, PERMANENT) or self._stop.is_set():
                self.status = status if status >= 0 else 128 - status  # as shells report signals
                return
            if time.monotonic() - began > LAST_S:
                backoff.reset()
            pause_s = backoff.next_s()
            sys.stderr.write(f"The service ended with status {status}; again in {pause_s:g} s.\n")
            self._stop.wait(pause_s)

    def stop(self, number: int) -> None:
        """Pass a signal on to the child, and start nothing more."""
        self._stop.set()
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, number)
