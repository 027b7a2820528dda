"""Lookup of the jobs that earlier tries left in the batch system."""

from __future__ import annotations

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.calls.ask import ask
from zwrap.errors import UnknownOutcomeError, ZwrapError
from zwrap.scheduler import Scheduler


class Lookup:
    """Jobs of earlier tries on one batch system; each name is asked for once."""

    def __init__(self, ledger: Ledger, scheduler: Scheduler) -> None:
        self.away: ZwrapError | None = None
        """Reason why the batch system could not be asked; then it is not asked again."""
        self._ledger = ledger
        self._scheduler = scheduler
        self._found: dict[str, str | None] = {}

    def job_id(self, row: Attempt) -> str | None:
        """Return the job id of an attempt; None: there is no job, and it has to be submitted.

        Raises:
            UnknownOutcomeError: The batch system may still act on the last submission.
            UnreachableError: The batch system could not be asked.
        """
        # A refused attempt (whose dead letter a person put back) has no job, and neither has one
        # that waits.
        if not row.tried or row.state in (REJECTED, WAITING):
            return None
        return row.job_id if row.state == SUBMITTED else self._after_unknown_outcome(row)

    def _after_unknown_outcome(self, row: Attempt) -> str | None:
        """Return the job id of an attempt that may have been submitted, and record it."""
        left_s = row.tried + self._scheduler.settle_s - self._ledger.now()
        if left_s > 0:
            raise UnknownOutcomeError(
                f"An earlier submission of {row.token} may still be under way.",
                retry_after_s=left_s + 0.05,
            )
        job_id, form = self._job_named(row.full_name), self._scheduler.arrays
        if job_id and row.task and form:
            job_id = form.job_id(form.array_of(job_id), row.task)
        if job_id:
            self._ledger.record({row.token: {"state": SUBMITTED, "job_id": job_id}})
        return job_id

    def _job_named(self, name: str) -> str | None:
        """Return the id of a job of that name, for an array the id of any task; None: no job."""
        if name not in self._found:
            if self.away:
                raise self.away
            try:
                found = ask(self._scheduler.find(name))
            except ZwrapError as error:
                self.away = error
                raise
            self._found[name] = found[0].job_id if found else None
        return self._found[name]
