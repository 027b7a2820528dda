"""Makes the calls that schedulers ask for, one function per kind, each with a hard time limit."""

from __future__ import annotations

from typing import TypeVar

from zwrap.calls import drmaa
from zwrap.calls.command import run
from zwrap.scheduler import Call, DrmaaCall, HttpRequest, Question, Reply

T = TypeVar("T")


def ask(question: Question[T]) -> T:
    """Make the call of a question and read the reply; so on with the question it leads to."""
    answer = question.read(make(question.call))
    while isinstance(answer, Question):
        answer = answer.read(make(answer.call))
    return answer


def make(call: Call) -> Reply:
    """Make one call."""
    if isinstance(call, DrmaaCall):
        return drmaa.submit(call)
    if isinstance(call, HttpRequest):
        from zwrap.calls import http  # slow to load, and seldom needed

        return http.send(call)
    return run(call)
