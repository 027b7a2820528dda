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
"""Answer of an inside half to why a job is stopped."""

OUT_OF_MEMORY = Interruption(
    cause=Cause.OUT_OF_MEMORY, words="the kernel killed it for want of memory"
)


@contextlib.contextmanager
def watched(signals: Signals, handler: Handler) -> Iterator[None]:
    """Call `handler` for each signal of the table; what was there before is put back."""

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
    """Return what the inside half says to a signal that stops the job, without waiting.

    A fault of the inside half, which may be a site's own, must not keep the program from being
    stopped.
    """
    try:
        return inside.why_stopped(job, began)
    except Exception:
        log.exception("Why the job is stopped is not known")
        return None


def learned(told: Told) -> Interruption:
    """Return why the job was stopped; the batch system is asked, within its time limit, if need be.

    An interruption without cause where nobody could be asked.
    """
    try:
        if isinstance(told, Question):
            from zwrap.calls.ask import ask  # few jobs are stopped

            return ask(told)
    except Exception:  # the answer is no more than a help
        log.exception("Why the job was stopped is not known")
        return Interruption()
    return told or Interruption()
