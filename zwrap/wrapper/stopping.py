"""Stopping of a step's program, by signals to the job and before the job's time limit."""

from __future__ import annotations

import functools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec

from zwrap.attempt.record import KeptSubmission
from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import group_age_s
from zwrap.job import BatchJob
from zwrap.program.definition import Checkpoint
from zwrap.scheduler import Meaning
from zwrap.wrapper.ending import NEAR_LIMIT
from zwrap.wrapper.process import Program

log = logging.getLogger(__name__)

P = ParamSpec("P")

SAVE_SHARE = 0.9
"""Fraction of the time before the job's limit within which a program must save and end."""


class StoppedError(BaseException):
    """A signal asked a wrapper written in Python to stop.

    Like KeyboardInterrupt it is not an Exception: it may be raised anywhere, also inside `logging`
    or inside a wrapper's own ``except Exception``, and neither must suppress it.
    """

    exit_status = 143


class Stopping:
    """The part that stops the program of one step; used by signal handler, timer and main thread.

    Args:
        limit_s: Time limit of the job, in seconds since its start; None: not known.
        on_stop: Function that is called when a signal first asks the job to stop, before the
            program is asked.
        clock: Clock for the time limit, in seconds.
        ran_s: Time for which the job has run, in seconds.
    """

    def __init__(
        self,
        limit_s: float | None,
        on_stop: Callable[[], None],
        clock: Clock = elapsed,
        *,
        ran_s: float = 0.0,
    ) -> None:
        self._limit_s = limit_s
        self._on_stop = on_stop
        self._clock = clock
        self._began = clock() - ran_s
        self._program: Program | None = None
        self._timer: threading.Timer | None = None
        self.checkpoint: Checkpoint | None = None
        """The way in which the program saves its state; None: it cannot."""
        self.by = ""
        """Name of the signal, or `NEAR_LIMIT`; empty while nothing has stopped the step."""
        self._raises = False

    @classmethod
    def in_job(
        cls, job: BatchJob, submission: KeptSubmission | None, on_stop: Callable[[], None]
    ) -> Stopping:
        """Return the part for a step in a job, whose time limit counts from the job's own start.

        A batch system runs the job script as the leader of a process group.
        """
        limit_s = submission.asked.time_limit if submission else None
        return cls(limit_s, on_stop, ran_s=group_age_s() if job.job_id else 0.0)

    @property
    def ran_s(self) -> float:
        """Seconds since the start of the job."""
        return self._clock() - self._began

    def ordered_by(self) -> str:
        """Return what has ordered the step to end; "": nothing has.

        The approaching time limit of the job is an order only to a program that can save its state.
        """
        return "" if self.by == NEAR_LIMIT else self.by

    def is_stopped(self) -> bool:
        """Return True if something has stopped the step."""
        return bool(self.by)

    def signalled(self, number: signal.Signals, meaning: Meaning) -> None:
        """Stop the program, or let it save its state, as a signal to the job means."""
        if meaning is not Meaning.STOP:
            log.warning("Signal %s means %s to this job", number.name, meaning.value)
            if meaning is Meaning.WARN:
                self._save()
            return
        if not self.by:
            self.by = number.name
            self._on_stop()
        if self._program:
            self._program.stop(number.name)
        elif self._raises:
            self._raise()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Let stop signals, also an earlier one, raise StoppedError in the main thread.

        Only an exception stops a wrapper that is written in Python.
        """
        self._raises = True
        try:
            if self.by:
                self._raise()
            yield
        finally:
            self._raises = False

    def uninterrupted(self, function: Callable[P, object]) -> Callable[P, None]:
        """Return the function such that a stop signal is raised after it, and not within.

        An exception that a signal raises within may leave a lock behind that nobody releases.
        """

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> None:
            if threading.current_thread() is not threading.main_thread():
                function(*args, **kwargs)  # only the main thread receives signals
                return
            before, raises = self.by, self._raises
            self._raises = False
            try:
                function(*args, **kwargs)
            finally:
                self._raises = raises
            if raises and self.by != before:
                self._raise()
            return

        return called

    def _raise(self) -> NoReturn:
        """Raise StoppedError with the name of the signal."""
        raise StoppedError(f"The step was stopped by {self.by}.")

    @contextmanager
    def running(self, program: Program) -> Iterator[None]:
        """Note a program while it runs; a signal after its end is not a cause of that end."""
        self.started(program)
        try:
            yield
        finally:
            self.ended()

    def started(self, program: Program) -> None:
        """Note the running program, and let it save its state before the job's time limit."""
        self._program = program
        if self.by and (program.saves or self.by != NEAR_LIMIT):
            program.stop(self.by)
        elif (
            self.checkpoint
            and program.saves
            and self._limit_s
            and self._limit_s > self.checkpoint.before_s
        ):
            due_s = self._limit_s - self.checkpoint.before_s - self.ran_s
            self._timer = threading.Timer(max(due_s, 0.0), self._save)
            self._timer.daemon = True
            self._timer.start()

    def ended(self) -> None:
        """Note that the program has ended, so that nothing stops it any more."""
        if self._timer:
            self._timer.cancel()
        self._program = None

    def _save(self) -> None:
        """Let the program save its state and end, because its job will end soon."""
        program = self._program
        if program and program.saves and self.checkpoint and not self.by:
            self.by = NEAR_LIMIT
            program.stop(NEAR_LIMIT, SAVE_SHARE * self.checkpoint.before_s)
