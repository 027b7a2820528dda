"""Holds: jobs wait while their batch system takes none of their lane, and one of them asks."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from zwrap.attempt.record import REJECTED, WAITING
from zwrap.errors import ClusterFullError, RejectedError
from zwrap.host.clock import Clock, elapsed
from zwrap.job import JobRequest
from zwrap.scheduler import Accepted, Busy, Rejected
from zwrap.submission.outcomes import Conclusion
from zwrap.submission.pending import PendingJob
from zwrap.units import duration

log = logging.getLogger(__name__)

ASK_S = 30.0
"""Time after which a batch system that did not take a job is asked again, in seconds: the same for
all jobs, so that they come again in their order."""

FORGET_S = 3600.0
"""Time after which a lane is forgotten of which no job asks any more, in seconds."""

MOST_TOLD = 1000
"""Number of reasons of single jobs after which each is told anew."""

UNKNOWN_S = 14 * 86_400.0
"""Longest time for which a job waits for others of which nothing is known, in seconds."""

THROTTLED = re.compile(r"tasks of its step may run at a time")
"""Words of a reason why a task waits for others of its step."""

_AWAITING = re.compile(rf"it waits for step |[0-9]+ {THROTTLED.pattern}")
"""Beginning of a reason that is `Awaited`, in a row of the ledger."""

LONGEST_ASK_S = 600.0
"""Longest such time for a job that waits alone, in seconds; it grows with the wait."""


class Awaited(Busy, frozen=True):
    """A job waits for others of its recipe; its batch system is not asked."""

    alive: bool = True
    """True if these are under way, so that the wait has an end; False: that is not known."""
    longest_s: float = UNKNOWN_S
    """Longest time for which is waited if that is not known, in seconds."""


class Lane(NamedTuple):
    """What the limits of a batch system apply to; jobs of one lane wait for the same."""

    partition: str | None
    account: str | None
    qos: str | None

    def __str__(self) -> str:
        named = (f"{key} {value!r}" for key, value in self._asdict().items() if value)
        return f"jobs of {', '.join(named)}" if any(self) else "jobs without partition and account"


def lane_of(request: JobRequest) -> Lane:
    """Return the lane of a job."""
    asked = request.resources
    return Lane(asked.partition, asked.account, asked.qos)


def _made(job: PendingJob) -> float:
    """Return the time at which the intent of a job was made, in seconds since the epoch."""
    return job.attempt.created or math.inf


def _form(reason: str) -> str:
    """Return a reason without the numbers in it, such as that of a job."""
    return re.sub(r"\d+", "0", reason)


class _Hold(msgspec.Struct):
    """A lane of which no jobs are taken, or which was opened a short time ago."""

    reason: str
    due: float
    """Time from which on the batch system may be asked again, in seconds."""
    line: float
    """Time at which the last job that was put off comes again, in seconds."""
    made: float
    """When the intent of the oldest job that asked was made, in seconds since the epoch."""
    probe: str = ""
    """Token of the job that asks."""
    closed: bool = True

    def counts(self, now: float) -> bool:
        """Return False if the hold is over, or if no job has come to ask for long."""
        return now < self.due + FORGET_S if self.closed else now < self.line + ASK_S


class Holds:
    """The held lanes of one cluster, which the Submitter keeps from batch to batch.

    Args:
        cluster: Name of the cluster.
        held_s: Longest time for which a job is held, in seconds.
        clock: Clock for the times between questions, in seconds.
    """

    def __init__(self, cluster: str, held_s: float, clock: Clock = elapsed) -> None:
        self._cluster = cluster
        self._held_s = held_s
        self._clock = clock
        self._lock = threading.Lock()  # jobs are submitted on several threads
        self._lanes: dict[Lane, _Hold] = {}
        self._told: set[tuple[str, Lane]] = set()
        """Reasons for which single jobs wait, as they were told."""

    def split(self, jobs: Sequence[PendingJob]) -> tuple[list[PendingJob], list[PendingJob]]:
        """Return the jobs that may be submitted, and those that are put off; each oldest first.

        Of a lane that is due to be asked again the oldest job may be submitted; a job that is older
        than all that asked need not wait for that, because after a restart a new job may come
        first.
        """
        submit: list[PendingJob] = []
        put_off: list[PendingJob] = []
        now = self._clock()
        self._forget(now)
        for job in sorted(jobs, key=_made):
            hold = self._lanes.get(lane_of(job.request))
            if hold and hold.closed and (now >= hold.due or _made(job) < hold.made):
                hold.due, hold.probe = now + ASK_S, job.attempt.token
                hold.made = min(hold.made, _made(job))
            (put_off if self.reason(job) else submit).append(job)
        return submit, put_off

    def _forget(self, now: float) -> None:
        """Forget lanes that are open again and whose jobs have all come back, or none has for long.

        That is also the time to tell that a lane is open: one that is full all the time opens and
        closes with each job that ends.
        """
        if len(self._told) > MOST_TOLD:
            self._told.clear()
        for lane, hold in list(self._lanes.items()):
            if not hold.counts(now):
                del self._lanes[lane]
                if not hold.closed:
                    log.info("Cluster %s takes %s again.", self._cluster, lane)

    def reason(self, job: PendingJob) -> str | None:
        """Return why a job must not be submitted now; None: it may be.

        In a lane that was opened a short time ago, jobs that were not held before come after those
        that were.
        """
        hold = self._lanes.get(lane_of(job.request))
        if hold is None or job.attempt.token == hold.probe:
            return None
        if hold.closed:
            return hold.reason
        if job.attempt.held is None and self._clock() < hold.line:
            return "jobs that have waited longer come first"
        return None

    def answered(self, job: PendingJob, answer: object) -> None:
        """Note what the batch system answered to the submission of a job.

        An answer that may be about the job alone (`Busy.wait_s`) holds no other job.
        """
        lane = lane_of(job.request)
        with self._lock:
            hold = self._lanes.get(lane)
            if isinstance(answer, Busy) and answer.wait_s is None:
                if hold is None:
                    log.warning(
                        "Cluster %s takes no %s now: %s. They wait, and one of them asks every "
                        "%.0f s.", self._cluster, lane, answer.reason, ASK_S,
                    )  # fmt: skip
                due = self._clock() + ASK_S
                made = min(_made(job), hold.made if hold and hold.closed else math.inf)
                self._lanes[lane] = _Hold(answer.reason, due, due, made)
            elif hold is None or job.attempt.token != hold.probe:
                return  # it was asked before the lane was closed
            elif isinstance(answer, Accepted):
                hold.closed = False
            elif isinstance(answer, (Busy, Rejected)):
                hold.due = self._clock()  # that was about this job; the next one may ask

    def conclusion(self, job: PendingJob, answer: Busy, now: float) -> Conclusion:
        """Return the conclusion for a job that is put off, or has waited as long as it may.

        `now`: seconds since the epoch, by the clock of the ledger.
        """
        since = job.attempt.held or now
        awaits, before = isinstance(answer, Awaited), job.attempt.reason or ""
        is_own = self._longest_s(answer) < self._held_s or awaits or _AWAITING.match(before)
        if is_own and _form(before) != _form(answer.reason):
            since = now  # so far it waited for something else
        waited_s, reason, name = now - since, answer.reason, f"Cluster {self._cluster!r}"
        if since != now and waited_s >= self._longest_s(answer):
            words = f"{name} has not taken the job for {duration(waited_s)}"
            if awaits:
                words = f"The job has waited for others of its recipe for {duration(waited_s)}"
            refused = {"state": REJECTED, "reason": reason, "held": None}
            return Conclusion(RejectedError(f"{words}: {reason}"), refused)
        again_s = ASK_S if awaits else self._again_s(job, answer, waited_s)
        words = "The job is not submitted yet" if awaits else f"{name} takes no such job now"
        error = ClusterFullError(f"{words}: {reason}.", retry_after_s=again_s)
        return Conclusion(error, {"state": WAITING, "reason": reason, "held": since})

    def _again_s(self, job: PendingJob, answer: Busy, waited_s: float) -> float:
        """Return the time after which a job that is put off comes again, in seconds."""
        if answer.wait_s is None:
            hold = self._lanes.get(lane_of(job.request))
            if hold and hold.closed:
                hold.line = self._clock() + ASK_S
            return ASK_S
        told = _form(answer.reason), lane_of(job.request)
        if told not in self._told:
            self._told.add(told)
            log.warning(
                "Cluster %s does not take %s now: %s. It is tried again, for %s at most, like all "
                "others of which that is said.",
                self._cluster, job.attempt.token, answer.reason, duration(self._longest_s(answer)),
            )  # fmt: skip
        return max(ASK_S, min(LONGEST_ASK_S, waited_s / 2))

    def _longest_s(self, answer: Busy) -> float:
        """Return the longest time for which a job waits after this answer, in seconds."""
        if isinstance(answer, Awaited):
            return math.inf if answer.alive else answer.longest_s
        return self._held_s if answer.wait_s is None else min(self._held_s, answer.wait_s)
