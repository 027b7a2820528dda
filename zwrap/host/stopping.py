"""Stop signals: the first one lets a program finish its work, the second one ends it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` at the first SIGTERM or SIGINT; end this process by the second one.

    Only the main thread can handle signals; called from another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def stopped(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
