"""Settings of Python's garbage collector for processes that handle messages."""

from __future__ import annotations

import gc

THRESHOLD = 50_000
"""Number of new objects after which Python looks for garbage (gc.set_threshold); default: 700."""


def collect_seldom() -> None:
    """Let this process look for garbage rarely, and never among the objects that exist by now.

    Messages are trees of thousands of objects without cycles: looking for cycles as often as Python
    does by default costs a fifth of the time.
    """
    gc.freeze()
    gc.set_threshold(THRESHOLD)
