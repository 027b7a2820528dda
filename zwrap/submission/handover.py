"""Submission to a batch system in three steps: the intent in the ledger, the call, the conclusion.

After the batch system has not answered, or has had no room, no further call is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.calls.ask import ask
from zwrap.errors import ClusterFullError, UnknownOutcomeError, UnreachableError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.job import JobRequest
from zwrap.scheduler import Busy, Question, Scheduler, Submission, Unknown
from zwrap.submission.outcomes import (
    FULL_S,
    Answer,
    OnOutcomes,
    Outcome,
    conclusion_of,
    full,
    waiting,
)
from zwrap.submission.pending import WRITERS, PendingJob, Writing, begin_files, finish_files

FRESH_S = 2.0
"""Largest age of an intent whose job may be submitted, in seconds. An older one is written anew,
because a later lookup of the job counts `settle_s`, which has a margin of 5 s, from the intent."""

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
        clock: Clock = elapsed,
    ) -> None:
        self.scheduler = scheduler
        self.stopped: ZwrapError | None = None
        """Reason why no further call is made; None: calls are made."""
        self._ledger = ledger
        self._on_outcomes = on_outcomes
        self._admit = admit
        self._clock = clock
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
        while len(ours := self._reserved(jobs, array)) < len(jobs):
            mine = {job.attempt.token for job in ours}
            others = [job for job in jobs if job.attempt.token not in mine]
            self.conclude([(job, self._of_another(job)) for job in others])
            if not array:
                break
            jobs = ours  # their numbers have gaps: count anew
        return self._admitted(ours)

    def ask(self, question: Question[Submission], request: JobRequest) -> Answer:
        """Ask the batch system to accept a job, or an array; note a reason to stop."""
        try:
            answer = ask(question)
        except ZwrapError as error:
            self.stopped = error
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
        for job, answer in answers:
            attempt = job.attempt
            if answer is not None:
                found = conclusion_of(answer, self.scheduler, job.request.cluster, attempt.task)
            else:
                assert self.stopped
                found = waiting(self.stopped)
            self.note(attempt.token, found.outcome)
            if found.columns:
                columns[attempt.token] = found.columns
        self._ledger.record(columns)
        self.report()

    def _reserved(self, jobs: Sequence[PendingJob], array: JobRequest | None) -> list[PendingJob]:
        """Write the intents; return the jobs that no other process is submitting."""
        token = array.token if array else None
        intents = [
            replace(job.attempt, array_token=token, task=number if array else None)
            for number, job in enumerate(jobs, 1)
        ]
        rows = {row.token: row for row in self._ledger.reserve(intents)}
        known = [(job, rows.get(job.attempt.token)) for job in jobs]
        return [job._replace(attempt=row) for job, row in known if row]

    def _admitted(self, jobs: list[PendingJob]) -> list[PendingJob]:
        """Return the jobs that are admitted; conclude the others, which wait."""
        reason: Answer | None = None
        count = 0
        if not self.stopped and jobs:
            try:
                count = self._admit(len(jobs))
                reason = ClusterFullError("There is no room for more.", retry_after_s=FULL_S)
            except ZwrapError as error:
                self.stopped = error
        self.conclude([(job, reason) for job in jobs[count:]])
        return jobs[:count]

    def _of_another(self, job: PendingJob) -> ZwrapError:
        """Return the outcome of a job that another process is submitting."""
        return UnknownOutcomeError(
            f"Another submitter is about to submit {job.attempt.token}.",
            retry_after_s=self.scheduler.settle_s,
        )

    # -- single jobs ---------------------------------------------------------------------------

    def submit_one(self, job: PendingJob) -> Answer | None:
        """Write the files of one job, submit it, and conclude it; None: the call was not made."""
        answer: Answer | None = None
        for ready in self.begin(self.with_files([job]), None):
            answer = self._hand_over(ready, self._clock())
            self.conclude([(ready, answer)])
        return answer

    def submit_each(self, jobs: Sequence[PendingJob]) -> None:
        """Submit each job as a single one, several at a time.

        While some calls are made, the files of further jobs are written, and answers are concluded
        as they arrive: a slow answer does not delay the others.
        """
        answered: SimpleQueue[Future[Answer | None]] = SimpleQueue()
        under_way: dict[Future[Answer | None], PendingJob] = {}
        with (
            ThreadPoolExecutor(WRITERS) as writers,
            ThreadPoolExecutor(self.scheduler.concurrency) as callers,
        ):
            ahead: list[Writing] = []
            for start in range(0, len(jobs) + PORTION, PORTION):
                current, ahead = ahead, self._begin_files(jobs[start : start + PORTION], writers)
                for job in self.begin(self._finish_files(current), None):
                    future = callers.submit(self._hand_over, job, self._clock())
                    under_way[future] = job
                    future.add_done_callback(answered.put)
                self._conclude_answered(answered, under_way, PORTION)
            self._conclude_answered(answered, under_way, 0)

    def _hand_over(self, job: PendingJob, since: float) -> Answer | None:
        """Submit a job whose intent was written at the time `since`; None: no call was made."""
        if self.stopped:
            return None
        if self._clock() - since > FRESH_S and not self._reserved([job], None):
            return self._of_another(job)
        assert job.question
        answer = self.ask(job.question, job.request)
        if isinstance(answer, Busy):
            self.stopped = full(job.request.cluster, answer)
        return answer

    def _conclude_answered(
        self,
        answered: SimpleQueue[Future[Answer | None]],
        under_way: dict[Future[Answer | None], PendingJob],
        most: int,
    ) -> None:
        """Conclude answers that have arrived; wait until at most `most` jobs are under way."""
        answers: list[tuple[PendingJob, Answer | None]] = []
        while len(under_way) > most or not answered.empty():
            done = answered.get()
            answers.append((under_way.pop(done), done.result()))
        self.conclude(answers)

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
