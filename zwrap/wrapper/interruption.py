"""Interruption of a program from outside: the signals that reach its wrapper, and their cause."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import signal
import sys
from collections.abc import Callable, Iterator

from zwrap.job import BatchJob, Cause, Interruption
from zwrap.scheduler import Inside, Meaning, Question, Signals

log = logging.getLogger(__name__)

Handler = Callable[[signal.Signals, Meaning], None]
Told = Question[Interruption] | Interruption | None
"""Answer of an inside half to the question why a job is stopped."""

OUT_OF_MEMORY = Interruption(
    cause=Cause.OUT_OF_MEMORY, words="the kernel killed it for want of memory"
)


@contextlib.contextmanager
def watched(signals: Signals, handler: Handler) -> Iterator[None]:
    """Call `handler` for each signal of the table inside the context; restore handlers after it."""

    def arrived(number: int, frame: object) -> None:
        del frame
        received = signal.Signals(number)
        if received is signal.SIGUSR2:
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        handler(received, signals[received])

    before = {number: signal.signal(number, arrived) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def why_stopped(inside: Inside, job: BatchJob, began: float) -> Told:
    """Return the inside half's answer after a signal that stops the job, without waiting.

    A fault of the inside half, which may be a site's own, must not prevent the program from being
    stopped; the answer is then None.
    """
    try:
        return inside.why_stopped(job, began)
    except Exception:
        log.exception("Why the job is stopped is not known")
        return None


def learned(told: Told) -> Interruption:
    """Return the interruption of a job that was stopped; a question is asked for it.

    The interruption has no cause if the batch system could not be asked.
    """
    try:
        if isinstance(told, Question):
            from zwrap.calls.ask import ask  # few jobs are stopped

            return ask(told)
    except Exception:  # the answer is helpful, but not necessary
        log.exception("Why the job was stopped is not known")
        return Interruption()
    return told or Interruption()
