"""Make the calls that schedulers ask for, one function per kind, each with a hard time limit."""

from __future__ import annotations

import math
from typing import TypeVar

from zwrap.calls.acting import boot_time
from zwrap.calls.command import run
from zwrap.errors import UnreachableError
from zwrap.scheduler import Call, DrmaaCall, HttpRequest, Question, Reply

T = TypeVar("T")


def ask(question: Question[T], within_s: float = math.inf) -> T:
    """Make the call of a question, and of each question that its reply leads to; return the answer.

    `within_s`: time within which each of these calls begins, in seconds.

    Raises what the last `Question.read` raises, such as UnreachableError, which is also raised if
    the time is over.
    """
    until = boot_time() + within_s
    answer = question.read(make(question.call))
    while isinstance(answer, Question):
        if boot_time() > until:
            raise UnreachableError(f"The batch system was asked for more than {within_s:g} s.")
        answer = answer.read(make(answer.call))
    return answer


def make(call: Call) -> Reply:
    """Make one call; the reply has no status if none came within the time limit."""
    if isinstance(call, DrmaaCall):
        from zwrap.calls import drmaa  # loaded only by processes that need it

        return drmaa.submit(call)
    if isinstance(call, HttpRequest):
        from zwrap.calls import http

        return http.send(call)
    return run(call)
