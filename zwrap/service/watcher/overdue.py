"""Jobs that a batch system runs for ever although their wrappers have reported the end.

The end of a job gets lost if the daemons of a batch system are killed in that moment: Grid Engine's
qmaster, started again, waits for it without end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from zwrap.attempt.record import Attempt
from zwrap.configuration.clusters import ClusterSettings
from zwrap.host.clock import Clock
from zwrap.job import JobStatus, State
from zwrap.service.watcher.heartbeats import Heartbeats

log = logging.getLogger(__name__)

LOOKS = 3
"""Number of looks at the job directories within the time that a verdict has to be there."""


class Overdue:
    """Jobs whose verdict has been in place for `lost_s`, and whose wrappers are silent.

    Args:
        has_verdict: Function that tells whether there is a verdict on an attempt.
        heartbeats: Heartbeats of all wrappers.
        settings: Settings of the cluster.
        clock: Clock, in seconds.
    """

    def __init__(
        self,
        has_verdict: Callable[[Attempt], bool],
        heartbeats: Heartbeats,
        settings: ClusterSettings,
        clock: Clock,
    ) -> None:
        self._has_verdict = has_verdict
        self._heartbeats = heartbeats
        self._settings = settings
        self._clock = clock
        self._due = float("-inf")
        self._since: dict[str, float] = {}
        """Token to the time at which its verdict was first seen."""

    def among(self, attempts: Iterable[Attempt], states: Mapping[str, JobStatus]) -> list[Attempt]:
        """Return those of the jobs that are overdue; empty if it is not time to look again.

        `states`: token to what the batch system says of the job.
        """
        now = self._clock()
        if now < self._due:
            return []
        self._due = now + self._settings.lost_s / LOOKS
        reported = [
            attempt for attempt in attempts
            if self._runs_silently(attempt, states) and self._has_verdict(attempt)
        ]  # fmt: skip
        self._since = {each.token: self._since.get(each.token, now) for each in reported}
        overdue = [
            each for each in reported if now - self._since[each.token] >= self._settings.lost_s
        ]
        for attempt in overdue:
            log.warning(
                "Job %s: its wrapper reported the end at least %.0f s ago; that the batch system "
                "calls it running is not heeded any longer",
                attempt.job_id, self._settings.lost_s,
            )  # fmt: skip
        return overdue

    def _runs_silently(self, attempt: Attempt, states: Mapping[str, JobStatus]) -> bool:
        """Tell whether a job runs, as the batch system says, and its wrapper is not heard."""
        status = states.get(attempt.token)
        if status is None or status.state is not State.RUNNING:
            return False
        silent_s = self._heartbeats.silent_s(attempt.token)
        return silent_s is None or silent_s >= self._settings.silent_s
