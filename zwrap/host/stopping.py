"""Stop signals: the first one lets a program finish its work, the second one ends it.

SIGHUP is one of them for programs without a configuration that they read again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

_asked: list[float] = []
"""Time of the first stop signal of this process, by the monotonic clock."""


def asked_at() -> float | None:
    """Return the time of the first stop signal, by the monotonic clock; None: there was none."""
    return _asked[0] if _asked else None


def signals_to_stop() -> list[signal.Signals]:
    """Return the signals that ask a service to end: SIGTERM, SIGINT, and SIGHUP.

    SIGHUP, of a terminal that was closed, stays ignored under nohup(1).
    """
    hangup = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangup else [])]


def has_terminal() -> bool:
    """Return whether this process has a terminal, which is not closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def stop_on_signals(stop: threading.Event, hangup: threading.Event | None = None) -> None:
    """Set `stop` at the first of `signals_to_stop`; end this process by the second one.

    With `hangup` SIGHUP sets that event instead, unless the terminal of this process was closed.
    Only the main thread can handle signals; called from another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def stopped(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _asked[:] = _asked or [time.monotonic()]
        stop.set()

    terminal = hangup is not None and has_terminal()

    def hung_up(number: int, frame: FrameType | None) -> None:
        if hangup is None or (terminal and not has_terminal()):
            stopped(number, frame)
        else:
            hangup.set()

    for number in signals_to_stop():
        signal.signal(number, hung_up if number == signal.SIGHUP else stopped)
