"""Limit on the number of jobs of a cluster at a time, as the batch system counts them."""

from __future__ import annotations

import logging

from zwrap.calls.ask import ask
from zwrap.errors import ClusterFullError
from zwrap.host.clock import Clock, elapsed
from zwrap.scheduler import Scheduler

log = logging.getLogger(__name__)

COUNTED_S = 10.0
"""Time for which a count is used, in seconds; jobs submitted meanwhile are added to it."""


class Quota:
    """Limit on the live jobs of the user on one cluster; `limit` None: any number.

    Jobs of other Submitters count, too. Several Submitters may together exceed the limit by the
    jobs that each of them submits within `COUNTED_S`.
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
        self._full = False

    def admit(self, wanted: int) -> int:
        """Admit up to `wanted` more jobs; return their number, at least one.

        Raises:
            ClusterFullError: There are as many jobs as there may be.
            UnreachableError: The batch system could not be asked.
        """
        if self._limit is None:
            return wanted
        if self._clock() - self._counted >= COUNTED_S:
            self._count = len(ask(self._scheduler.states()))
            self._counted = self._clock()
        if self._count >= self._limit:
            words = (
                f"Cluster {self._name!r} has {self._count} jobs, and 'max_jobs' is {self._limit}."
            )
            if not self._full:
                log.warning("%s Further jobs wait.", words)
            self._full = True
            raise ClusterFullError(words, retry_after_s=COUNTED_S)
        self._full = False
        admitted = min(wanted, self._limit - self._count)
        self._count += admitted
        return admitted
