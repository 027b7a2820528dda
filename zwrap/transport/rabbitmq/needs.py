"""Queues and exchanges that must exist before messages are published, asked on one connection."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from zwrap.errors import TransportError, ZwrapError
from zwrap.transport.rabbitmq.topology import Need

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import PikaConnection

ASKED = 32
"""Largest number of needs of the same messages that are asked for at the same time."""

ANSWER_S = 10.0
"""Longest wait for the answer to a declaration, for which other work waits, in seconds."""


class Needs:
    """The needs that a connection is known to satisfy, and the present question for others.

    Args:
        call_later: Function that calls another one on this thread after a number of seconds.
        is_blocked: Function that tells whether the server reads nothing at present.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], object],
        is_blocked: Callable[[], bool],
    ) -> None:
        self._call_later = call_later
        self._is_blocked = is_blocked
        self._known: set[Need] = set()
        self._question: object | None = None

    @property
    def is_asking(self) -> bool:
        """True while an answer is awaited."""
        return self._question is not None

    def forget(self, *, question: bool) -> None:
        """Forget what is known, and with `question` also what is asked."""
        self._known.clear()
        if question:
            self._question = None

    def missing(self, needs: Iterable[Need]) -> list[Need]:
        """Return those of the needs that are not known to be satisfied."""
        return [need for need in needs if need not in self._known]

    def ask(
        self,
        connection: PikaConnection,
        needs: Iterable[Need],
        done: Callable[[Need | None, ZwrapError | None], None],
    ) -> None:
        """Make sure that the first needs are satisfied, `ASKED` of them at the same time.

        `done` is called once, unless the question is forgotten: with the first need that is not
        satisfied and the reason, or with None and None.
        """
        question = self._question = object()
        asked = [*dict.fromkeys(needs)][:ASKED]
        waiting = set(asked)
        failures: dict[Need, ZwrapError] = {}

        def told(need: Need, failure: ZwrapError | None) -> None:
            if self._question is not question or need not in waiting:
                return  # too late, or asked again on the next connection
            waiting.discard(need)
            if failure is None:
                self._known.add(need)
            else:
                failures[need] = failure
            if not waiting:
                self._question = None
                first = next((each for each in asked if each in failures), None)
                done(first, failures[first] if first is not None else None)

        def overdue() -> None:
            if self._question is question and self._is_blocked():
                self._call_later(ANSWER_S, overdue)
                return
            late = TransportError(f"a declaration was not answered within {ANSWER_S:g} s")
            for need in [*waiting]:
                told(need, late)

        for need in asked:
            need.ask(connection, functools.partial(told, need))
        if self._question is question:
            self._call_later(ANSWER_S, overdue)
