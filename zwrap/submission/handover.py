"""The steps of each submission: the intent in the ledger, the question, and what was said.

Where the batch system does not answer, or has no room, nothing more is asked of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.calls.ask import ask
from zwrap.errors import (
    ClusterFullError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
    UnreachableError,
    ZwrapError,
)
from zwrap.job import JobRequest
from zwrap.scheduler import Accepted, Busy, Question, Rejected, Scheduler, Submission, Unknown

FULL_S = 30.0
"""So long nothing is tried with a batch system that has as many jobs as may be."""

FRESH_S = 2.0
"""A job whose intent is older is reserved anew before it is submitted: who looks for the job counts
from the intent on (`settle_s` has a margin of 5 s)."""


class Failed(NamedTuple):
    """A job for which nobody was asked: its files cannot be written, or it cannot be expressed."""

    error: ZwrapError


Tell = Callable[[Sequence[tuple[str, str | ZwrapError]]], None]
"""Is told tokens of attempts, each with its job id or what is in the way."""

Answer = Submission | Failed | ZwrapError | None
"""What was said to a job; None: it was not asked for."""


def _nothing() -> None:
    """All files are there."""


class PendingJob(NamedTuple):
    """A job to submit."""

    request: JobRequest
    script: Path
    attempt: Attempt
    text: str | None = None
    """What the script will say, if it has yet to be written."""
    write: Callable[[], None] = _nothing
    """Writes the files of the job, its script included."""
    question: Question[Submission] | None = None
    """How the batch system is asked to take it as a job of its own, once the files are there."""


class Handover:
    """Takes jobs for one batch system through the steps."""

    def __init__(
        self,
        ledger: Ledger,
        scheduler: Scheduler,
        tell: Tell,
        admit: Callable[[int], int],
    ) -> None:
        self._ledger = ledger
        self._scheduler = scheduler
        self._tell = tell
        self._admit = admit
        self._news: list[tuple[str, str | ZwrapError]] = []
        self.stopped: ZwrapError | None = None
        """Why nothing more is asked of the batch system."""

    def note(self, token: str, outcome: str | ZwrapError) -> None:
        """Remember what has become known of an attempt: its job id, or what is in the way."""
        self._news.append((token, outcome))

    def tell(self) -> None:
        """Tell what has become known; only the thread that submits the lot does."""
        news, self._news = self._news, []
        if news:
            self._tell(news)

    def hand_over(self, job: PendingJob, since: float) -> Answer:
        """Submit a job whose intent was written at that time."""
        if self.stopped:
            return None
        if time.monotonic() - since > FRESH_S and not self._reserved([job], None):
            return self._of_another(job)
        assert job.question
        answer = self.ask(job.question, job.request)
        if isinstance(answer, Busy):
            self.stopped = _full(job.request, answer)
        return answer

    def begin(self, jobs: list[PendingJob], array: JobRequest | None) -> list[PendingJob]:
        """Write the intents; those that may be submitted now."""
        while len(ours := self._reserved(jobs, array)) < len(jobs):
            mine = {job.attempt.token for job in ours}
            others = [job for job in jobs if job.attempt.token not in mine]
            self.conclude([(job, self._of_another(job)) for job in others])
            if not array:
                break
            jobs = ours  # their numbers have gaps: count anew
        return self._admitted(ours)

    def _of_another(self, job: PendingJob) -> ZwrapError:
        return UnknownOutcomeError(
            f"Another submitter is about to submit {job.attempt.token}.",
            retry_after_s=self._scheduler.settle_s,
        )

    def _admitted(self, jobs: list[PendingJob]) -> list[PendingJob]:
        """As many as may be there; the others wait."""
        reason: Answer = None
        count = 0
        if not self.stopped and jobs:
            try:
                count = self._admit(len(jobs))
                reason = ClusterFullError("There is no room for more.", retry_after_s=FULL_S)
            except ZwrapError as error:
                self.stopped = error
        self.conclude([(job, reason) for job in jobs[count:]])
        return jobs[:count]

    def _reserved(self, jobs: Sequence[PendingJob], array: JobRequest | None) -> list[PendingJob]:
        """Those of the jobs that nobody else is about to submit, with their intents."""
        token = array.token if array else None
        intents = [
            replace(job.attempt, array_token=token, task=number if array else None)
            for number, job in enumerate(jobs, 1)
        ]
        rows = {row.token: row for row in self._ledger.reserve(intents)}
        known = [(job, rows.get(job.attempt.token)) for job in jobs]
        return [job._replace(attempt=row) for job, row in known if row]

    def ask(self, question: Question[Submission], request: JobRequest) -> Answer:
        """Ask the batch system to take a job, or an array."""
        try:
            answer = ask(question)
        except ZwrapError as error:
            self.stopped = error
            return error
        if isinstance(answer, Unknown):
            self.stopped = UnreachableError(
                f"Cluster {request.cluster!r} did not answer for a job before this one: "
                f"{answer.reason}.",
                retry_after_s=self._scheduler.settle_s,
            )
        return answer

    def conclude(self, answers: Sequence[tuple[PendingJob, Answer]]) -> None:
        """Write and remember what was said to jobs; None: they were not asked for."""
        changes = {}
        for job, answer in answers:
            state, outcome = self._outcome(job, answer)
            if outcome is None:
                continue
            self.note(job.attempt.token, outcome)
            if state == SUBMITTED:
                changes[job.attempt.token] = {"state": state, "job_id": outcome}
            elif state:
                changes[job.attempt.token] = {"state": state, "reason": _reason(answer, outcome)}
        self._ledger.record(changes)
        self.tell()

    def _outcome(
        self, job: PendingJob, answer: Answer
    ) -> tuple[str | None, str | ZwrapError | None]:
        """State in the ledger, if it changes, and outcome, of a job to which this was said."""
        cluster = f"Cluster {job.request.cluster!r}"
        form = self._scheduler.arrays
        match answer:
            case Accepted(job_id):
                task = job.attempt.task
                return SUBMITTED, form.job_id(job_id, task) if form and task else job_id
            case Rejected(reason):
                return REJECTED, RejectedError(f"{cluster} refused the job: {reason}")
            case Busy():
                return WAITING, _full(job.request, answer)
            case Unknown(reason):
                return None, UnknownOutcomeError(
                    f"{cluster} did not say whether it took the job: {reason}. It will be looked "
                    "up before it is submitted again.",
                    retry_after_s=self._scheduler.settle_s,
                )
            case Failed(error):
                return REJECTED if isinstance(error, PermanentError) else WAITING, error
            case ClusterFullError():
                return WAITING, answer
            case None:
                return WAITING, self.stopped
        return None, answer


def _full(request: JobRequest, answer: Busy) -> ClusterFullError:
    return ClusterFullError(
        f"Cluster {request.cluster!r} takes no job now: {answer.reason}.", retry_after_s=FULL_S
    )


def _reason(answer: Answer, outcome: str | ZwrapError) -> str:
    return answer.reason if isinstance(answer, (Rejected, Busy)) else str(outcome)
