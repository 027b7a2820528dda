"""Queues and exchanges that must exist before messages are published, asked on one connection."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from zwrap.errors import TransportError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.transport.failures import NoDelayError
from zwrap.transport.rabbitmq.topology import Need

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import PikaConnection

ASKED = 32
"""Largest number of needs of the same messages that are asked for at the same time."""

ANSWER_S = 10.0
"""Longest wait for the answer to a declaration, for which other work waits, in seconds."""

REFUSED_S = 60.0
"""Time after which a step of the delays that loses messages is looked at again, in seconds: each
look holds up all messages for some seconds."""


class Needs:
    """The needs that a connection is known to satisfy, and the present question for others.

    Args:
        call_later: Function that calls another one on this thread after a number of seconds.
        is_blocked: Function that tells whether the server reads nothing at present.
        clock: Time in seconds.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], object],
        is_blocked: Callable[[], bool],
        clock: Clock = elapsed,
    ) -> None:
        self._call_later = call_later
        self._is_blocked = is_blocked
        self._clock = clock
        self._known: set[Need] = set()
        self._refused: dict[Need, tuple[float, ZwrapError]] = {}
        """Need to the time until which it is not asked for again, and the reason."""
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
            self._refused.clear()

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
                self._note(need, failure)
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
            self._ask(connection, need, functools.partial(told, need))
        if self._question is question:
            self._call_later(ANSWER_S, overdue)

    def _ask(
        self, connection: PikaConnection, need: Need, told: Callable[[ZwrapError | None], None]
    ) -> None:
        """Make sure that a need is satisfied, unless it was refused a short time ago."""
        if refused := self._still_refused(need):
            self._call_later(0.0, functools.partial(told, refused))
        else:
            need.ask(connection, told)

    def _note(self, need: Need, failure: ZwrapError) -> None:
        """Note a failure after which the need is not asked for again soon."""
        if isinstance(failure, NoDelayError) and need not in self._refused:
            self._refused[need] = (self._clock() + REFUSED_S, failure)

    def _still_refused(self, need: Need) -> ZwrapError | None:
        """Return why a need is not asked for again yet; None if it is to be asked for."""
        until, failure = self._refused.get(need, (0.0, None))
        if failure is not None and self._clock() >= until:
            del self._refused[need]
            return None
        return failure
