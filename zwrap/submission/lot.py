"""Submits jobs that waited together: those of one shape as arrays, the others in parallel."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING
from zwrap.errors import ZwrapError
from zwrap.job import JobRequest
from zwrap.scheduler import ArrayForm, Busy, Question, Rejected, Scheduler, Submission
from zwrap.submission.arrays import Shape, array_request, shape_of, write_script
from zwrap.submission.handover import Answer, Failed, Handover, PendingJob, Tell
from zwrap.submission.lookup import Lookup

WRITERS = 4
"""So many jobs have their files written at the same time."""

PORTION = 32
"""So many have their intents, and what became of them, written in one transaction."""

Answered = SimpleQueue[tuple["PendingJob", "Future[Answer]"]]
"""Jobs that were handed over, and what was said to them."""

Writing = tuple["PendingJob", "Future[Question[Submission] | Failed] | None"]
"""A job whose files are being written; None: they are not."""


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
        self._ledger = ledger
        self._scheduler = scheduler
        self._handover = Handover(ledger, scheduler, tell, admit)
        self._largest_array = largest_array or 0
        self._lookup = Lookup(ledger, scheduler)

    def submit(self, jobs: Sequence[PendingJob]) -> None:
        """Submit those that are not there."""
        each = {job.attempt.token: job for job in jobs}  # a message may have come twice
        rows = self._ledger.known(list(each))
        known = [job._replace(attempt=rows.get(token, job.attempt)) for token, job in each.items()]
        missing = [job for job in known if self._is_missing(job)]
        self._handover.tell()
        alone: list[PendingJob] = []
        for shape, alike in self._by_shape(missing):
            if shape and len(alike) > 1:
                alone += self._submit_arrays(shape, self._ready(alike))
            else:
                alone += alike
        self._submit_alone(alone)

    # -- what is there already ---------------------------------------------------------------------

    def _is_missing(self, job: PendingJob) -> bool:
        """Whether the job has to be submitted."""
        row = job.attempt
        # Of a refused attempt (whose dead letter a person put back), and of one that waits, no job
        # exists.
        if not row.tried or row.state in (REJECTED, WAITING):
            return True
        try:
            job_id = row.job_id if row.state == SUBMITTED else self._lookup.job_id(row)
        except ZwrapError as error:
            self._handover.stopped = self._lookup.away
            self._handover.note(row.token, error)
            return False
        if job_id is None:
            return True
        self._handover.note(row.token, job_id)
        return False

    # -- what is not -------------------------------------------------------------------------------

    def _by_shape(self, jobs: Sequence[PendingJob]) -> list[tuple[Shape | None, list[PendingJob]]]:
        many = self._largest_array > 1 and len(jobs) > 1
        possible = self._scheduler.arrays if many else None
        alike: dict[Shape | None, list[PendingJob]] = defaultdict(list)
        for job in jobs:
            alike[_shape(job, possible) if possible else None].append(job)
        return list(alike.items())

    def _submit_arrays(self, shape: Shape, jobs: list[PendingJob]) -> list[PendingJob]:
        """Submit jobs as arrays, the largest that there is room for; those left to submit alone."""
        size, full = self._largest_array, False
        left: list[PendingJob] = []
        while len(jobs) > 1 and size > 1 and not self._handover.stopped:
            array = array_request([job.request for job in jobs])
            some, jobs = self._handover.begin(jobs[:size], array), jobs[size:]
            if len(some) < 2:
                left += some
                continue
            script = self._array_script(array, shape, some)
            answer = self._handover.ask(self._scheduler.submit(array, script, len(some)), array)
            if isinstance(answer, Busy):
                jobs, size, full = [*some, *jobs], len(some) // 2, True
            elif isinstance(answer, Rejected):
                left += self._try_one_of(some)
            else:
                self._handover.conclude([(job, answer) for job in some])
                if full:  # the room that is left is less than was just taken
                    size //= 2
        return [*left, *jobs]

    def _array_script(self, array: JobRequest, shape: Shape, jobs: Sequence[PendingJob]) -> Path:
        form = self._scheduler.arrays
        assert form
        return write_script(array, shape, [job.request for job in jobs], form.variable)

    def _try_one_of(self, jobs: list[PendingJob]) -> list[PendingJob]:
        """After an array was refused: one job tells whether that is due to what they all ask for.

        Those that are left to submit alone.
        """
        first = self._handover.begin(self._ready(jobs[:1]), None)
        answers = [(job, self._handover.hand_over(job, time.monotonic())) for job in first]
        self._handover.conclude(answers)
        for _, answer in answers:
            if isinstance(answer, Rejected):
                self._handover.conclude([(job, answer) for job in jobs[1:]])
                return []
        return jobs[1:]

    def _submit_alone(self, jobs: list[PendingJob]) -> None:
        """Submit jobs each by itself.

        While some are handed over, the files of the next are written, and those that were answered
        are told of: one answer that takes long does not hold up the others.
        """
        answered: Answered = SimpleQueue()
        under_way = 0
        portions = [jobs[start : start + PORTION] for start in range(0, len(jobs), PORTION)]
        with (
            ThreadPoolExecutor(WRITERS) as writers,
            ThreadPoolExecutor(self._scheduler.concurrency) as callers,
        ):
            ahead: list[Writing] = []
            for portion in [*portions, []]:
                written, ahead = ahead, self._writing(portion, writers)
                begun = self._handover.begin(self._written(written), None)
                for job in begun:
                    self._hand_to(callers, job, answered)
                under_way += len(begun)
                under_way -= self._take(answered, under_way - PORTION)
            self._take(answered, under_way)

    def _hand_to(self, callers: Executor, job: PendingJob, answered: Answered) -> None:
        future = callers.submit(self._handover.hand_over, job, time.monotonic())
        future.add_done_callback(lambda done: answered.put((job, done)))

    def _take(self, answered: Answered, least: int) -> int:
        """Conclude what was answered, and wait until it is so much at least; how much it is."""
        answers: list[tuple[PendingJob, Answer]] = []
        while len(answers) < least or not answered.empty():
            job, done = answered.get()
            answers.append((job, done.result()))
        self._handover.conclude(answers)
        return len(answers)

    def _ready(self, jobs: Sequence[PendingJob]) -> list[PendingJob]:
        """Write the files of jobs; those that the batch system can express."""
        with ThreadPoolExecutor(WRITERS) as writers:
            return self._written(self._writing(jobs, writers))

    def _writing(self, jobs: Sequence[PendingJob], writers: Executor) -> list[Writing]:
        """Begin to write their files, unless nothing is asked any more."""
        if self._handover.stopped:
            return [(job, None) for job in jobs]
        return [(job, writers.submit(_questioned, job, self._scheduler)) for job in jobs]

    def _written(self, writing: Sequence[Writing]) -> list[PendingJob]:
        """Wait for that; those that the batch system can express."""
        ready, failed = [], []
        for job, future in writing:
            question = future.result() if future else None
            if isinstance(question, Failed):
                failed.append((job, question))
            else:
                ready.append(job._replace(question=question))
        self._handover.conclude(failed)
        return ready


def _shape(job: PendingJob, form: ArrayForm) -> Shape | None:
    text = job.script.read_text() if job.text is None else job.text
    return shape_of(job.request, text, form)


def _questioned(job: PendingJob, scheduler: Scheduler) -> Question[Submission] | Failed:
    """How to ask for a job, whose files are there now."""
    if job.question:
        return job.question
    try:
        job.write()
        return scheduler.submit(job.request, job.script)
    except ZwrapError as error:
        return Failed(error)
