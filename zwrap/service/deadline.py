"""The deadline of a service that was asked to stop: then it ends, whatever it is doing."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator

from zwrap.errors import TEMPORARY

LOOK_S = 1.0
"""Interval of looks whether a stop was asked for, in seconds."""


@contextlib.contextmanager
def ending_late_stops(
    stop: threading.Event, name: str, grace_s: Callable[[], float]
) -> Iterator[None]:
    """End this process if the context goes on too long after `stop`.

    The status is then 111, the tracebacks of all threads are on standard error, and the messages at
    hand are delivered again.

    Args:
        stop: Event that is set when a stop is asked for.
        name: Name of the service.
        grace_s: Function that returns the time that it may take to stop, in seconds.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_S):
            if stop.is_set():
                allowed_s = grace_s()
                if not done.wait(allowed_s):
                    _end(name, allowed_s)

    thread = threading.Thread(target=watch, name="deadline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _end(name: str, grace_s: float) -> None:
    """End the process, with the tracebacks of all threads."""
    sys.stderr.write(
        f"{name} was asked to stop and is still at work after {grace_s:g} s; this process ends, "
        "and its messages come again.\n"
    )
    sys.stderr.flush()
    faulthandler.dump_traceback(all_threads=True)
    os._exit(TEMPORARY)
