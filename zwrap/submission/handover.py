"""Submission to a batch system in three steps: the intent in the ledger, the call, the conclusion.

After the batch system has not answered, no further call is made; after it has not taken a job now,
none for jobs of the same lane (`zwrap.submission.holds`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import UNANSWERED, WAITING
from zwrap.calls.ask import ask
from zwrap.errors import ClusterFullError, UnknownOutcomeError, UnreachableError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.job import JobRequest
from zwrap.scheduler import Busy, Question, Rejected, Scheduler, Submission, Unknown
from zwrap.submission.holds import ASK_S, Holds
from zwrap.submission.lookup import FRESH_S
from zwrap.submission.outcomes import (
    Answer,
    Conclusion,
    OnOutcomes,
    Outcome,
    conclusion_of,
    waiting,
)
from zwrap.submission.pending import WRITERS, PendingJob, Writing, begin_files, finish_files
from zwrap.submission.underway import UnderWay

PORTION = 32
"""Number of jobs whose intents, or conclusions, are written in one transaction."""

Admit = Callable[[int], int]
"""Function from the number of jobs about to be submitted to the number that may be, at least one;
it raises ClusterFullError if none may be."""


class Handover:
    """Submission of jobs to one batch system, with a report of the outcome of each.

    `admit` limits the number of jobs; `on_outcomes` is called on the caller's thread only.
    """

    def __init__(
        self,
        ledger: Ledger,
        scheduler: Scheduler,
        on_outcomes: OnOutcomes,
        admit: Admit,
        holds: Holds,
        clock: Clock = elapsed,
    ) -> None:
        self.scheduler = scheduler
        self.holds = holds
        self.stopped: ZwrapError | None = None
        """Reason why no further call is made; None: calls are made."""
        self._ledger = ledger
        self._on_outcomes = on_outcomes
        self._admit = admit
        self.clock = clock
        self._outcomes: list[tuple[str, Outcome]] = []

    def note(self, token: str, outcome: Outcome) -> None:
        """Keep the outcome of an attempt for the next report."""
        self._outcomes.append((token, outcome))

    def report(self) -> None:
        """Report the outcomes that are new since the last report."""
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            self._on_outcomes(outcomes)

    # -- the three steps of each job -----------------------------------------------------------

    def begin(self, jobs: Sequence[PendingJob], array: JobRequest | None) -> list[PendingJob]:
        """Write the intents of jobs, or of the tasks of an array; return those to submit now."""
        while len(ours := self._ours(jobs, array)) < len(jobs):
            if not array:
                break
            jobs = ours  # their numbers have gaps: count anew
        return self._admitted(ours)

    def put_off(self, jobs: Sequence[PendingJob]) -> None:
        """Conclude jobs of held lanes, for which nobody is asked."""
        now = self._ledger.now()
        changing = []
        for job in jobs:
            found = self.holds.conclusion(job, Busy(self.holds.reason(job) or ""), now)
            row, columns = job.attempt, found.columns
            if row.state == WAITING == columns["state"] and row.held == columns["held"]:
                self.note(job.attempt.token, found.outcome)  # its row says so already
            else:
                changing.append(job)
        held = [(job, self.holds.reason(job)) for job in self._ours(changing, None)]
        self.conclude([(job, Busy(reason or "")) for job, reason in held])

    def hold(self, answers: Sequence[tuple[PendingJob, Busy | Rejected]]) -> None:
        """Conclude jobs that are not to be submitted now, or at all, for which nobody is asked."""
        now = self._ledger.now()
        changing = {}
        for job, answer in answers:
            known = job.attempt.state == WAITING and job.attempt.held and job.attempt.reason
            found = self.holds.conclusion(job, answer, now) if isinstance(answer, Busy) else None
            if found and known == answer.reason and found.columns["state"] == WAITING:
                self.note(job.attempt.token, found.outcome)  # its row says so already
            else:
                changing[job.attempt.token] = (job, answer)
        held = self._ours([job for job, _ in changing.values()], None)
        self.conclude([(job, changing[job.attempt.token][1]) for job in held])

    def _ours(self, jobs: Sequence[PendingJob], array: JobRequest | None) -> list[PendingJob]:
        """Write the intents of jobs; return those that are ours, and conclude the others."""
        ours = self._reserved(jobs, array)
        mine = {job.attempt.token for job in ours}
        others = [job for job in jobs if job.attempt.token not in mine]
        self.conclude([(job, self._of_another(job)) for job in others])
        return ours

    def ask(self, question: Question[Submission], request: JobRequest) -> Answer:
        """Ask the batch system to accept a job, or an array; note a reason to stop.

        Further questions, as for a verification, are asked within the time limit of one call.
        """
        try:
            answer = ask(question, within_s=question.call.timeout_s)
        except ZwrapError as error:
            self.stopped = error
            return error
        except Exception as error:  # of this job alone; it will be looked up
            return error
        if isinstance(answer, Unknown):
            self.stopped = UnreachableError(
                f"Cluster {request.cluster!r} did not answer for a job before this one: "
                f"{answer.reason}.",
                retry_after_s=self.scheduler.settle_s,
            )
        return answer

    def conclude(self, answers: Iterable[tuple[PendingJob, Answer | None]]) -> None:
        """Record and report what the answers mean; None: the call was not made."""
        columns = {}
        now = self._ledger.now()
        for job, answer in answers:
            found = self._conclusion(job, answer, now)
            self.note(job.attempt.token, found.outcome)
            if found.columns:
                columns[job.attempt.token] = found.columns
        self._ledger.record(columns)
        self.report()

    def _conclusion(self, job: PendingJob, answer: Answer | None, now: float) -> Conclusion:
        """Return the conclusion for one job."""
        if answer is None:
            assert self.stopped
            return waiting(self.stopped)
        if isinstance(answer, Busy):
            return self.holds.conclusion(job, answer, now)
        found = conclusion_of(answer, self.scheduler, job.attempt)
        if found.columns or isinstance(answer, UnknownOutcomeError):
            return found
        return found._replace(columns={"state": UNANSWERED, "tried": now})

    def _reserved(self, jobs: Sequence[PendingJob], array: JobRequest | None) -> list[PendingJob]:
        """Write the intents; return the jobs that no other process is submitting."""
        token = array.token if array else None
        intents = [
            replace(job.attempt, array_token=token, task=number if array else None)
            for number, job in enumerate(jobs, 1)
        ]
        runs = [
            (job.attempt.recipe_id, job.sender)
            for job in jobs
            if job.sender and job.attempt.recipe_id
        ]
        rows = {row.token: row for row in self._ledger.reserve(intents, runs)}
        known = [(job, rows.get(job.attempt.token)) for job in jobs]
        return [job._replace(attempt=row) for job, row in known if row]

    def _admitted(self, jobs: list[PendingJob]) -> list[PendingJob]:
        """Return the jobs that are admitted; conclude the others, which wait."""
        reason: Answer | None = None
        count = 0
        if not self.stopped and jobs:
            try:
                count = self._admit(len(jobs))
                reason = ClusterFullError("There is no room for more.", retry_after_s=ASK_S)
            except ZwrapError as error:
                self.stopped = error
        self.conclude([(job, reason) for job in jobs[count:]])
        return jobs[:count]

    def _of_another(self, job: PendingJob) -> ZwrapError:
        """Return the outcome of a job that another process is submitting."""
        return UnknownOutcomeError(
            f"Another submitter is about to submit {job.attempt.token}, or the ledger is slow.",
            retry_after_s=self.scheduler.settle_s,
        )

    # -- single jobs ---------------------------------------------------------------------------

    def submit_one(self, job: PendingJob) -> Answer | None:
        """Write the files of one job, submit it, and conclude it; None: the call was not made."""
        answer: Answer | None = None
        written, since = self.with_files([job]), self.clock()
        for ready in self.begin(written, None):
            answer = self._hand_over(ready, since)
            self.conclude([(ready, answer)])
        return answer

    def submit_each(self, jobs: Sequence[PendingJob]) -> None:
        """Submit each job as a single one, several at a time.

        While some calls are made, the files of further jobs are written, and answers are concluded
        as they arrive: a slow answer does not delay the others. Jobs of a lane that were held are
        submitted one after the other, so that they keep their order.
        """
        with (
            ThreadPoolExecutor(WRITERS) as writers,
            ThreadPoolExecutor(self.scheduler.concurrency) as callers,
        ):
            under_way, ahead = UnderWay(), list[Writing]()
            for start in range(0, len(jobs) + PORTION, PORTION):
                current, ahead = ahead, self._begin_files(jobs[start : start + PORTION], writers)
                written, since = self._finish_files(current), self.clock()
                for job in self.begin(written, None):
                    call = functools.partial(callers.submit, self._hand_over, job, since)
                    under_way.add(job, call)
                self.conclude(under_way.answers(PORTION))
            self.conclude(under_way.answers(0))

    def _hand_over(self, job: PendingJob, since: float) -> Answer | None:
        """Submit a job whose intent was written after the time `since`; None: no call was made."""
        if self.stopped:
            return None
        if self.clock() - since > FRESH_S:
            since = self.clock()
            if not self._reserved([job], None) or self.clock() - since > FRESH_S:
                return self._of_another(job)
        if reason := self.holds.reason(job):
            return Busy(reason)
        assert job.question
        answer = self.ask(job.question, job.request)
        self.holds.answered(job, answer)
        return answer

    def with_files(self, jobs: Sequence[PendingJob]) -> list[PendingJob]:
        """Write the files of jobs; return the jobs that can be submitted, conclude the others."""
        with ThreadPoolExecutor(WRITERS) as writers:
            return self._finish_files(self._begin_files(jobs, writers))

    def _begin_files(self, jobs: Sequence[PendingJob], writers: Executor) -> list[Writing]:
        """Begin to write files, unless no further call is made."""
        if self.stopped:
            return [Writing(job, None) for job in jobs]
        return begin_files(jobs, self.scheduler, writers)

    def _finish_files(self, writing: Sequence[Writing]) -> list[PendingJob]:
        """Wait for the files; return the jobs that can be submitted, conclude the others."""
        ready, failed = finish_files(writing)
        self.conclude(failed)
        return ready
