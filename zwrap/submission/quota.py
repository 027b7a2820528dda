"""Number of jobs that a cluster may have at a time, counted by what the batch system says."""

from __future__ import annotations

from zwrap.calls.ask import ask
from zwrap.errors import ClusterFullError
from zwrap.host.clock import Clock, elapsed
from zwrap.scheduler import Scheduler

COUNTED_S = 10.0
"""Validity of a count, in seconds; what is submitted meanwhile is added to it."""


class Quota:
    """Admits jobs of one cluster as long as there are fewer than `limit` (None: any number).

    All live jobs of the user count, those of other Submitters included. Several Submitters may
    overshoot by what each of them submits within `COUNTED_S`.
    """

    def __init__(
        self, name: str, scheduler: Scheduler, limit: int | None, clock: Clock = elapsed
    ) -> None:
        self._name = name
        self._scheduler = scheduler
        self._limit = limit
        self._clock = clock
        self._count = 0
        self._counted = float("-inf")

    def admit(self, wanted: int) -> int:
        """Count `wanted` more jobs, or as many as may be; return how many.

        Raises:
            ClusterFullError: there are as many jobs as may be.
            UnreachableError: the batch system could not be asked.
        """
        if self._limit is None:
            return wanted
        if self._clock() - self._counted >= COUNTED_S:
            self._count = len(ask(self._scheduler.states()))
            self._counted = self._clock()
        if self._count >= self._limit:
            raise ClusterFullError(
                f"Cluster {self._name!r} has {self._count} jobs, and 'max_jobs' is {self._limit}.",
                retry_after_s=COUNTED_S,
            )
        admitted = min(wanted, self._limit - self._count)
        self._count += admitted
        return admitted
