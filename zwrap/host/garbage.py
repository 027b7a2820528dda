"""Settings of Python's garbage collector for processes that handle messages."""

from __future__ import annotations

import gc

THRESHOLD = 50_000
"""Number of new objects after which Python looks for garbage (gc.set_threshold); usually 700."""


def collect_seldom() -> None:
    """Let this process look for garbage seldom, and never among what is loaded by now.

    Messages are trees of thousands of objects that die without a cycle: looking for cycles as often
    as Python usually does costs a fifth of all work.
    """
    gc.freeze()
    gc.set_threshold(THRESHOLD)
