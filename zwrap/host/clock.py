"""The clocks that decisions are made by; a test hands in one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns a time in seconds."""

elapsed: Clock = time.monotonic
"""Time that never jumps; the clock for pauses, intervals and limits inside one process."""

wall: Clock = time.time
"""Seconds since the epoch; the clock for moments that are written down or shown to people."""
