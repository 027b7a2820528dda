"""The clocks by which decisions are made; tests pass their own."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Function that returns a time in seconds."""

elapsed: Clock = time.monotonic
"""Clock that never jumps, for pauses, intervals and limits inside one process."""

wall: Clock = time.time
"""Clock of seconds since the epoch, for times that are recorded or shown to people."""
