"""The answer of a batch system about its live jobs, in which attempts are looked up."""

from __future__ import annotations

import functools

from zwrap.attempt.record import Attempt
from zwrap.job import JobStatus, State


class Listing:
    """The live jobs of a batch system.

    An attempt's job is found by its id, else by its name: a batch system may spell an id in its
    list in another way than in its answer to the submission. Slurm does so with heterogeneous jobs,
    of which job 29 is listed as 29+0 and 29+1. Tasks of an array, which share one name, are found
    by id only.
    """

    def __init__(self, statuses: dict[str, JobStatus]) -> None:
        self.statuses = statuses
        """Job id to the status of the job."""

    def of(self, attempt: Attempt) -> JobStatus | None:
        """Return the status of the attempt's job; None: it is not in the list."""
        status = attempt.of(self.statuses)
        if status is None and attempt.task is None:
            return self._by_name.get(attempt.full_name)
        return status

    @functools.cached_property
    def _by_name(self) -> dict[str, JobStatus]:
        """Name to the status of a job; of several with one name, of one that runs, else the first.

        The parts of a heterogeneous job begin one after the other.
        """
        found: dict[str, JobStatus] = {}
        for status in self.statuses.values():
            known = found.get(status.name)
            if known is None or (status.state is State.RUNNING and known.state != status.state):
                found[status.name] = status
        return found
