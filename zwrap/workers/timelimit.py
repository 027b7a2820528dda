"""Time limit of a call, which holds whether or not the call can be interrupted."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from zwrap.errors import TEMPORARY, ZwrapError

GRACE_S = 5.0
"""Time after its limit within which a call may end, before its process is ended, in seconds."""


class TimeLimitError(ZwrapError):
    """A call took longer than it may."""


@contextlib.contextmanager
def time_limit(limit_s: float | None, who: str) -> Iterator[None]:
    """Raise TimeLimitError inside the context, the work of `who`, after `limit_s` seconds.

    That needs the main thread, and code that returns to Python now and then. Otherwise the process
    ends with status 111 and the tracebacks of all threads on standard error, and the messages that
    it held are delivered again. `limit_s` None: no limit.
    """
    if limit_s is None:
        yield
        return
    timer = threading.Timer(limit_s + GRACE_S, _end, (who, limit_s))
    timer.daemon = True
    timer.start()
    try:
        with _interrupting(limit_s, who):
            yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _interrupting(limit_s: float, who: str) -> Iterator[None]:
    """Raise TimeLimitError on the main thread by an alarm; do nothing on other threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TimeLimitError(f"The {who} took longer than its limit of {limit_s:g} s.")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end(who: str, limit_s: float) -> None:
    """End the process, with the tracebacks of all threads."""
    sys.stderr.write(
        f"The {who} goes on {GRACE_S:g} s after its limit of {limit_s:g} s; this process ends.\n"
    )
    sys.stderr.flush()
    faulthandler.dump_traceback(all_threads=True)
    os._exit(TEMPORARY)
