"""The count of things that a program has done: rate and time left."""

from __future__ import annotations

import math
import re
import threading
from collections import deque
from typing import NamedTuple

from zwrap.host.clock import Clock, elapsed
from zwrap.units import LONGEST_S

CHANGES = 100
"""Largest number of changes of the count from which the rate is taken."""

LARGEST = 1e15
"""Largest number that counts things."""

_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")
"""A number whose thousands are set off by commas."""


class Seen(NamedTuple):
    """A count at a time."""

    at: float
    """Time in seconds, by the clock of the count."""
    done: float


class Count:
    """The number of things that are done, which a program prints as it goes on.

    The number never falls, but where counting begins anew: with another `stage`, or when it falls
    after everything was done, to less than half, or together with another total. Between these a
    smaller number comes from one of several workers, whose order means little. The methods may be
    called from several threads.
    """

    def __init__(self, clock: Clock = elapsed) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: deque[Seen] = deque(maxlen=CHANGES)
        """Counts of this stage, each larger than the one before."""
        self._total: float | None = None
        self._stage: str | None = None

    def note(self, at: float, done: float, total: float | None, stage: str | None = None) -> None:
        """Note a count.

        Args:
            at: Time at which it was read, by the clock; of counts that were read at once, which the
                program wrote at times that are not known, the last one counts.
            done: Number of things that are done.
            total: Number of all things; None: not known.
            stage: Name of the stage; None: it has none.
        """
        with self._lock:
            if self._begins_anew(done, total, stage):
                self._seen.clear()
            self._total, self._stage = total, stage
            if self._seen and done <= self._seen[-1].done:
                return
            if self._seen and self._seen[-1].at == at:
                self._seen.pop()
            self._seen.append(Seen(at, done))

    def _begins_anew(self, done: float, total: float | None, stage: str | None) -> bool:
        """Return True if a count is that of a new stage."""
        if not self._seen or stage != self._stage:
            return True
        highest = self._seen[-1].done
        if done >= highest:
            return False
        was_all = self._total is not None and highest >= self._total
        return was_all or total != self._total or done < highest / 2

    def fields(self) -> dict[str, float]:
        """Return the fields of a heartbeat; empty before the first count.

        These are `progress_done`, `progress_total`, `progress_per_s` (things per second, of this
        stage, as it was lately) and `remaining_s` (time until all things of this stage are done, in
        seconds), each as far as it is known.
        """
        with self._lock:
            if not self._seen:
                return {}
            done = self._seen[-1].done
            found = {"progress_done": _plain(done)}
            if self._total is not None:
                found["progress_total"] = _plain(self._total)
            rate = self._per_s()
            if rate:
                found["progress_per_s"] = float(f"{rate:.4g}")
                left = math.inf if self._total is None else max(0.0, self._total - done)
                if left / rate <= LONGEST_S:
                    found["remaining_s"] = round(left / rate)
            return found

    def _per_s(self) -> float | None:
        """Return the rate, in things per second; None: only one count is known.

        It falls while the next count takes longer than the earlier ones did.
        """
        first, last = self._seen[0], self._seen[-1]
        took_s = last.at - first.at
        if took_s <= 0:
            return None
        usual_s = took_s / (len(self._seen) - 1)
        late_s = max(0.0, self._clock() - last.at - usual_s)
        return (last.done - first.done) / (took_s + late_s)


def number(text: str | None) -> float | None:
    """Return the number in a text, which counts things; None: it is not one."""
    if text is None:
        return None
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= LARGEST else None


def _plain(value: float) -> float:
    """Return a number without a fraction if it has none."""
    return int(value) if value == int(value) else value
