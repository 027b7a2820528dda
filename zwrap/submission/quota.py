"""How many jobs a cluster may have at a time, counted by what the batch system says."""

from __future__ import annotations

import time

from zwrap.calls.ask import ask
from zwrap.errors import ClusterFullError
from zwrap.scheduler import Scheduler

COUNTED_S = 10.0
"""So long a count holds; what is submitted meanwhile is added to it."""


class Quota:
    """Admits jobs of one cluster as long as there are fewer than `limit`.

    All live jobs of the user count, those of other Submitters included. Several Submitters may
    overshoot together by what each of them submits within `COUNTED_S`.
    """

    def __init__(self, name: str, scheduler: Scheduler, limit: int | None) -> None:
        self._name = name
        self._scheduler = scheduler
        self._limit = limit
        self._count = 0
        self._counted = -COUNTED_S

    def admit(self, wanted: int) -> int:
        """Count that many more, or as many as may be; ClusterFullError if none may be."""
        if self._limit is None:
            return wanted
        if time.monotonic() - self._counted >= COUNTED_S:
            self._count = len(ask(self._scheduler.states()))
            self._counted = time.monotonic()
        if self._count >= self._limit:
            raise ClusterFullError(
                f"Cluster {self._name!r} has {self._count} jobs, and 'max_jobs' is {self._limit}.",
                retry_after_s=COUNTED_S,
            )
        admitted = min(wanted, self._limit - self._count)
        self._count += admitted
        return admitted
