"""Lookup of the jobs that earlier tries left in the batch system.

A job that is not found is submitted again. So it must be certain that nothing can act on the
earlier submission any more, and that the answer was made after that:

* What the earlier Submitter had started is over: it noted so, or its leftovers were ended here
  (`zwrap.calls.acting`), or the deadlines of its calls have passed.
* What has reached the batch system by then takes effect within `Scheduler.settle_s`.
* A batch system that hung may answer a question before it acts on an earlier request. So the job
  must be missing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import (
    NOT_FOUND,
    REJECTED,
    SUBMITTED,
    UNANSWERED,
    WAITING,
    Attempt,
)
from zwrap.calls import acting
from zwrap.calls.ask import ask
from zwrap.errors import PermanentError, UnknownOutcomeError, ZwrapError
from zwrap.scheduler import Scheduler
from zwrap.submission.outcomes import ElsewhereId

FRESH_S = 2.0
"""Largest age of an intent whose job may be submitted, in seconds; an older one is written anew."""

AGAIN_S = 5.0
"""Time after which a job that was not found is looked for once more, in seconds; less where the
batch system settles sooner."""

MARGIN_S = 0.05
"""Time by which another try is later than the clocks say, in seconds."""


UNDESCRIBED_S = 60.0
"""Time after which a cluster that the site does not describe any more is asked for again, in
seconds."""

SchedulerOf = Callable[[str], Scheduler]
"""Function from the name of a cluster to its batch system; it raises PermanentError if there is
none."""


def calls_s(scheduler: Scheduler) -> float:
    """Return the time after an intent by which all calls of a submission are over, in seconds.

    The last one begins within the time limit of a call, and each ends by itself.
    """
    return FRESH_S + 2 * scheduler.options.timeout_s + acting.LATER_S


def is_looked_up(row: Attempt) -> bool:
    """Return True if an attempt has a job, or may have one.

    A refused attempt (whose dead letter a person put back) has none, and neither has one that
    waits.
    """
    return bool(row.tried) and row.state not in (REJECTED, WAITING)


class Lookup:
    """Jobs of earlier tries on one batch system; each name is asked for once."""

    def __init__(self, ledger: Ledger, scheduler: Scheduler) -> None:
        self.away: ZwrapError | None = None
        """Reason why the batch system could not be asked; then it is not asked again."""
        self._ledger = ledger
        self._scheduler = scheduler
        self._found: dict[str, str | None] = {}
        self._known: dict[str, Mapping[str, object]] = {}
        self._missing: list[Attempt] = []
        self._others: acting.Others | ZwrapError | None = None

    def job_id(self, row: Attempt) -> str | None:
        """Return the job id of an attempt; None: there is no job, and it has to be submitted.

        Raises:
            UnknownOutcomeError: The batch system may still act on the last submission.
            UnreachableError: The batch system could not be asked.
        """
        if not is_looked_up(row):
            return None
        return row.job_id if row.state == SUBMITTED else self._after_unknown_outcome(row)

    def on(self, scheduler: Scheduler) -> Lookup:
        """Return a lookup on another batch system."""
        return Lookup(self._ledger, scheduler)

    def record(self) -> None:
        """Write what was found to the ledger, in one transaction."""
        if self._known:
            self._ledger.record(self._known)
        if self._missing:
            self._ledger.note_not_found(self._missing)

    def _after_unknown_outcome(self, row: Attempt) -> str | None:
        """Return the job id of an attempt that may have been submitted."""
        now = self._ledger.now()
        left_s = self._settled(row, now) - now
        if left_s > 0:
            raise UnknownOutcomeError(
                f"An earlier submission of {row.token} may still be under way.",
                retry_after_s=left_s + MARGIN_S,
            )
        job_id, form = self._job_named(row.full_name), self._scheduler.arrays
        if job_id and row.task and form:
            job_id = form.job_id(form.array_of(job_id), row.task)
        if job_id:
            self._known[row.token] = {"state": SUBMITTED, "job_id": job_id, "reason": None}
        elif row.state != NOT_FOUND:
            self._missing.append(row)
            raise UnknownOutcomeError(
                f"No job of an earlier submission of {row.token} was found; it is looked for once "
                "more before it is submitted again.",
                retry_after_s=self._again_s + MARGIN_S,
            )
        return job_id

    def _settled(self, row: Attempt, now: float) -> float:
        """Return when the last submission can no longer take effect, in seconds since the epoch."""
        if row.state == NOT_FOUND:
            return row.tried + self._again_s
        over = row.tried
        if row.state != UNANSWERED:
            others = self._acting(now)
            over += calls_s(self._scheduler)
            if not others.live and not self._ledger.is_shared and others.ended >= row.tried:
                over = min(over, others.ended)
        return over + self._scheduler.settle_s

    def _acting(self, now: float) -> acting.Others:
        """Return what is known of other Submitters, whose leftovers are ended once."""
        if self._others is None:
            try:
                self._others = acting.others(now)
            except ZwrapError as error:
                self._others = error
        if isinstance(self._others, ZwrapError):
            raise self._others
        return self._others

    @property
    def _again_s(self) -> float:
        """Time after which a job is looked for once more, in seconds."""
        return min(AGAIN_S, self._scheduler.settle_s / 3)

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


class Lookups:
    """Jobs of earlier tries, each on the batch system to which it was given.

    A step that names no cluster goes to another one after a change of the site file, and one that
    names one after a change of its recipe; its earlier job may be on the former all the same.
    """

    def __init__(self, own: Lookup, cluster: str, scheduler_of: SchedulerOf | None) -> None:
        self._own = own
        self._cluster = cluster
        self._scheduler_of = scheduler_of
        self._others: dict[str, Lookup] = {}

    def job_id(self, row: Attempt) -> str | None:
        """Return the job id of an attempt as `Lookup` does; an `ElsewhereId` on another cluster.

        Raises UnknownOutcomeError, too, if the site does not describe that cluster any more.
        """
        name = row.cluster
        if name in ("", self._cluster) or self._scheduler_of is None:
            return self._own.job_id(row)
        if row.state == SUBMITTED and row.job_id:
            return ElsewhereId(row.job_id, name)
        if not is_looked_up(row):
            return None
        if name not in self._others:
            try:
                self._others[name] = self._own.on(self._scheduler_of(name))
            except PermanentError as error:
                raise UnknownOutcomeError(
                    f"An earlier submission of {row.token} to cluster {name!r} may have become a "
                    f"job, which cannot be looked up there: {error} Describe the cluster again "
                    "until the job is known; nothing is submitted before.",
                    retry_after_s=UNDESCRIBED_S,
                ) from None
        found = self._others[name].job_id(row)
        return found and ElsewhereId(found, name)

    def record(self) -> None:
        """Write what was found to the ledger, in a transaction for each batch system."""
        for lookup in (self._own, *self._others.values()):
            lookup.record()
