"""Submits a lot of jobs that waited together: those of one shape as arrays, the others in parallel.

Where the batch system does not answer, or has no room, nothing more of the lot is asked of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.errors import (
    ClusterFullError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
    UnreachableError,
    ZwrapError,
)
from zwrap.job import JobRequest
from zwrap.ledger import REJECTED, SUBMITTED, WAITING, Attempt, Ledger
from zwrap.scheduler import Accepted, Busy, Question, Rejected, Scheduler, Submission, Unknown
from zwrap.submission.array import Shape, array_request, shape_of, write_script
from zwrap.submission.calls import ask
from zwrap.submission.earlier import Earlier

FULL_S = 30.0
"""So long nothing is tried with a batch system that has as many jobs as may be."""

WRITERS = 4
"""So many jobs have their files written at the same time."""

PORTION = 32
"""So many have their intents, and what became of them, written in one transaction."""

FRESH_S = 2.0
"""A job whose intent is older is reserved anew before it is submitted: who looks for the job counts
from the intent on (`settle_s` has a margin of 5 s)."""


class Failed(NamedTuple):
    """A job for which nobody was asked: its files cannot be written, or it cannot be expressed."""

    error: ZwrapError


Answered = SimpleQueue[tuple["Job", "Future[Answer]"]]
"""Jobs that were handed over, and what was said to them."""

Writing = tuple["Job", "Future[Question[Submission] | Failed] | None"]
"""A job whose files are being written; None: they are not."""

Tell = Callable[[Sequence[tuple[str, str | ZwrapError]]], None]
"""Is told tokens of attempts, each with its job id or what is in the way."""

Answer = Submission | Failed | ZwrapError | None
"""What was said to a job; None: it was not asked for."""


def _nothing() -> None:
    """All files are there."""


class Job(NamedTuple):
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


def all_of_them(count: int) -> int:
    """Any number of jobs may be submitted."""
    return count


class Lot:
    """Jobs for one batch system, and what became of them."""

    def __init__(
        self,
        ledger: Ledger,
        scheduler: Scheduler,
        tell: Tell,
        admit: Callable[[int], int],
        largest_array: int | None,
    ) -> None:
        self._tell = tell
        self._news: list[tuple[str, str | ZwrapError]] = []
        self._ledger = ledger
        self._scheduler = scheduler
        self._admit = admit
        self._largest_array = largest_array or 0
        self._earlier = Earlier(ledger, scheduler)
        self._stopped: ZwrapError | None = None
        """Why nothing more is asked of the batch system."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit those that are not there."""
        each = {job.attempt.token: job for job in jobs}  # a message may have come twice
        rows = self._ledger.known(list(each))
        known = [job._replace(attempt=rows.get(token, job.attempt)) for token, job in each.items()]
        missing = [job for job in known if self._is_missing(job)]
        self._tell_new()
        alone: list[Job] = []
        for shape, alike in self._by_shape(missing):
            if shape and len(alike) > 1:
                alone += self._submit_arrays(shape, self._ready(alike))
            else:
                alone += alike
        self._submit_alone(alone)

    def _tell_new(self) -> None:
        """Tell what has become known; only the thread that submits the lot does."""
        news, self._news = self._news, []
        if news:
            self._tell(news)

    # -- what is there already ---------------------------------------------------------------------

    def _is_missing(self, job: Job) -> bool:
        """Whether the job has to be submitted."""
        row = job.attempt
        # Of a refused attempt (whose dead letter a person put back), and of one that waits, no job
        # exists.
        if not row.tried or row.state in (REJECTED, WAITING):
            return True
        try:
            job_id = row.job_id if row.state == SUBMITTED else self._earlier.job_id(row)
        except ZwrapError as error:
            self._stopped = self._earlier.away
            self._news.append((row.token, error))
            return False
        if job_id is None:
            return True
        self._news.append((row.token, job_id))
        return False

    # -- what is not -------------------------------------------------------------------------------

    def _by_shape(self, jobs: Sequence[Job]) -> list[tuple[Shape | None, list[Job]]]:
        possible = self._scheduler.arrays and self._largest_array > 1 and len(jobs) > 1
        alike: dict[Shape | None, list[Job]] = defaultdict(list)
        for job in jobs:
            alike[_shape(job) if possible else None].append(job)
        return list(alike.items())

    def _submit_arrays(self, shape: Shape, jobs: list[Job]) -> list[Job]:
        """Submit jobs as arrays, the largest that there is room for; those left to submit alone."""
        size, full = self._largest_array, False
        left: list[Job] = []
        while len(jobs) > 1 and size > 1 and not self._stopped:
            array = array_request([job.request for job in jobs])
            some, jobs = self._begun(jobs[:size], array), jobs[size:]
            if len(some) < 2:
                left += some
                continue
            script = self._array_script(array, shape, some)
            answer = self._ask(self._scheduler.submit(array, script, len(some)), array)
            if isinstance(answer, Busy):
                jobs, size, full = [*some, *jobs], len(some) // 2, True
            elif isinstance(answer, Rejected):
                left += self._try_one_of(some)
            else:
                self._conclude([(job, answer) for job in some])
                if full:  # the room that is left is less than was just taken
                    size //= 2
        return [*left, *jobs]

    def _array_script(self, array: JobRequest, shape: Shape, jobs: Sequence[Job]) -> Path:
        form = self._scheduler.arrays
        assert form
        return write_script(array, shape, [job.request for job in jobs], form.variable)

    def _try_one_of(self, jobs: list[Job]) -> list[Job]:
        """After an array was refused: one job tells whether that is due to what they all ask for.

        Those that are left to submit alone.
        """
        first = self._begun(self._ready(jobs[:1]), None)
        answers = [(job, self._hand_over(job, time.monotonic())) for job in first]
        self._conclude(answers)
        for _, answer in answers:
            if isinstance(answer, Rejected):
                self._conclude([(job, answer) for job in jobs[1:]])
                return []
        return jobs[1:]

    def _submit_alone(self, jobs: list[Job]) -> None:
        """Submit jobs each by itself.

        While some are handed over, the files of the next are written, and those that were answered
        are told of: one answer that takes long does not hold up the others.
        """
        answered: Answered = SimpleQueue()
        under_way = 0
        portions = [jobs[start : start + PORTION] for start in range(0, len(jobs), PORTION)]
        with (
            ThreadPoolExecutor(WRITERS) as writers,
            ThreadPoolExecutor(self._scheduler.at_once) as callers,
        ):
            ahead: list[Writing] = []
            for portion in [*portions, []]:
                written, ahead = ahead, self._writing(portion, writers)
                begun = self._begun(self._written(written), None)
                for job in begun:
                    self._hand_to(callers, job, answered)
                under_way += len(begun)
                under_way -= self._take(answered, under_way - PORTION)
            self._take(answered, under_way)

    def _hand_to(self, callers: Executor, job: Job, answered: Answered) -> None:
        future = callers.submit(self._hand_over, job, time.monotonic())
        future.add_done_callback(lambda done: answered.put((job, done)))

    def _take(self, answered: Answered, least: int) -> int:
        """Conclude what was answered, and wait until it is so much at least; how much it is."""
        answers: list[tuple[Job, Answer]] = []
        while len(answers) < least or not answered.empty():
            job, done = answered.get()
            answers.append((job, done.result()))
        self._conclude(answers)
        return len(answers)

    def _hand_over(self, job: Job, since: float) -> Answer:
        """Submit a job whose intent was written at that time."""
        if self._stopped:
            return None
        if time.monotonic() - since > FRESH_S and not self._reserved([job], None):
            return self._of_another(job)
        assert job.question
        answer = self._ask(job.question, job.request)
        if isinstance(answer, Busy):
            self._stopped = _full(job.request, answer)
        return answer

    def _ready(self, jobs: Sequence[Job]) -> list[Job]:
        """Write the files of jobs; those that the batch system can express."""
        with ThreadPoolExecutor(WRITERS) as writers:
            return self._written(self._writing(jobs, writers))

    def _writing(self, jobs: Sequence[Job], writers: Executor) -> list[Writing]:
        """Begin to write their files, unless nothing is asked any more."""
        if self._stopped:
            return [(job, None) for job in jobs]
        return [(job, writers.submit(_questioned, job, self._scheduler)) for job in jobs]

    def _written(self, writing: Sequence[Writing]) -> list[Job]:
        """Wait for that; those that the batch system can express."""
        ready, failed = [], []
        for job, future in writing:
            question = future.result() if future else None
            if isinstance(question, Failed):
                failed.append((job, question))
            else:
                ready.append(job._replace(question=question))
        self._conclude(failed)
        return ready

    # -- the steps of a submission -----------------------------------------------------------------

    def _begun(self, jobs: list[Job], array: JobRequest | None) -> list[Job]:
        """Write the intents; those that may be submitted now."""
        while len(ours := self._reserved(jobs, array)) < len(jobs):
            mine = {job.attempt.token for job in ours}
            others = [job for job in jobs if job.attempt.token not in mine]
            self._conclude([(job, self._of_another(job)) for job in others])
            if not array:
                break
            jobs = ours  # their numbers have gaps: count anew
        return self._admitted(ours)

    def _of_another(self, job: Job) -> ZwrapError:
        return UnknownOutcomeError(
            f"Another submitter is about to submit {job.attempt.token}.",
            retry_after_s=self._scheduler.settle_s,
        )

    def _admitted(self, jobs: list[Job]) -> list[Job]:
        """As many as may be there; the others wait."""
        reason: Answer = None
        count = 0
        if not self._stopped and jobs:
            try:
                count = self._admit(len(jobs))
                reason = ClusterFullError("There is no room for more.", retry_after_s=FULL_S)
            except ZwrapError as error:
                self._stopped = error
        self._conclude([(job, reason) for job in jobs[count:]])
        return jobs[:count]

    def _reserved(self, jobs: Sequence[Job], array: JobRequest | None) -> list[Job]:
        """Those of the jobs that nobody else is about to submit, with their intents."""
        token = array.token if array else None
        intents = [
            replace(job.attempt, array_token=token, task=number if array else None)
            for number, job in enumerate(jobs, 1)
        ]
        rows = {row.token: row for row in self._ledger.reserve(intents)}
        known = [(job, rows.get(job.attempt.token)) for job in jobs]
        return [job._replace(attempt=row) for job, row in known if row]

    def _ask(self, question: Question[Submission], request: JobRequest) -> Answer:
        try:
            answer = ask(question)
        except ZwrapError as error:
            self._stopped = error
            return error
        if isinstance(answer, Unknown):
            self._stopped = UnreachableError(
                f"Cluster {request.cluster!r} did not answer for a job before this one: "
                f"{answer.reason}.",
                retry_after_s=self._scheduler.settle_s,
            )
        return answer

    def _conclude(self, answers: Sequence[tuple[Job, Answer]]) -> None:
        """Write and remember what was said to jobs; None: they were not asked for."""
        changes = {}
        for job, answer in answers:
            state, outcome = self._outcome(job, answer)
            if outcome is None:
                continue
            self._news.append((job.attempt.token, outcome))
            if state == SUBMITTED:
                changes[job.attempt.token] = {"state": state, "job_id": outcome}
            elif state:
                changes[job.attempt.token] = {"state": state, "reason": _reason(answer, outcome)}
        self._ledger.record(changes)
        self._tell_new()

    def _outcome(self, job: Job, answer: Answer) -> tuple[str | None, str | ZwrapError | None]:
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
                return WAITING, self._stopped
        return None, answer


def _full(request: JobRequest, answer: Busy) -> ClusterFullError:
    return ClusterFullError(
        f"Cluster {request.cluster!r} takes no job now: {answer.reason}.", retry_after_s=FULL_S
    )


def _reason(answer: Answer, outcome: str | ZwrapError) -> str:
    return answer.reason if isinstance(answer, (Rejected, Busy)) else str(outcome)


def _shape(job: Job) -> Shape | None:
    return shape_of(job.request, job.script.read_text() if job.text is None else job.text)


def _questioned(job: Job, scheduler: Scheduler) -> Question[Submission] | Failed:
    """How to ask for a job, whose files are there now."""
    if job.question:
        return job.question
    try:
        job.write()
        return scheduler.submit(job.request, job.script)
    except ZwrapError as error:
        return Failed(error)
