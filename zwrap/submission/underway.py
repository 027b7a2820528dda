"""Concurrent submission calls to one batch system; jobs of a held lane keep their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from zwrap.submission.holds import Lane, lane_of
from zwrap.submission.outcomes import Answer
from zwrap.submission.pending import PendingJob

Call = Callable[[], Future[Answer | None]]
"""Function that begins the call for a job."""


class UnderWay:
    """Calls that have begun or wait; for jobs of a held lane one call is made after the other.

    So these jobs keep their order, and use no more than one of the concurrent calls.
    """

    def __init__(self) -> None:
        self._answered: SimpleQueue[Future[Answer | None]] = SimpleQueue()
        self._begun: dict[Future[Answer | None], tuple[PendingJob, Lane | None]] = {}
        self._behind: dict[Lane, deque[tuple[PendingJob, Call]]] = {}
        """Lane of which a call has begun, to the calls that come after it."""

    def add(self, job: PendingJob, call: Call) -> None:
        """Begin the call for a job, now or after those of its lane."""
        lane = lane_of(job.request) if job.attempt.held else None
        if lane is None:
            self._begin(job, call, None)
        elif lane in self._behind:
            self._behind[lane].append((job, call))
        else:
            self._behind[lane] = deque()
            self._begin(job, call, lane)

    def answers(self, most: int) -> list[tuple[PendingJob, Answer | None]]:
        """Return the answers that have arrived; wait until at most `most` calls are under way.

        Calls that come after others of their lane do not count: they hold up nobody else.
        """
        answers: list[tuple[PendingJob, Answer | None]] = []
        while len(self._begun) > most or not self._answered.empty():
            done = self._answered.get()
            job, lane = self._begun.pop(done)
            answers.append((job, done.result()))
            if lane:
                self._go_on(lane)
        return answers

    def _go_on(self, lane: Lane) -> None:
        """Begin the next call of a lane."""
        if behind := self._behind[lane]:
            self._begin(*behind.popleft(), lane)
        else:
            del self._behind[lane]

    def _begin(self, job: PendingJob, call: Call, lane: Lane | None) -> None:
        """Begin a call."""
        future = call()
        self._begun[future] = (job, lane)
        future.add_done_callback(self._answered.put)
