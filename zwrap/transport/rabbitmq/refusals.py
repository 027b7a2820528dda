"""Queues that take no messages at present, as RabbitMQ tells with a negative confirmation.

RabbitMQ gives no reason. A queue that is full (``x-overflow: reject-publish``) refuses, and for
some seconds one whose leader is elected.
"""

from __future__ import annotations

import logging

from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock
from zwrap.transport.failures import RefusedError

log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""Pause before a refused message is published again, in seconds."""

WAIT_S = 5.0
"""Default of the time, in all, for which messages are published again while any queue refuses them,
in seconds; afterwards their senders are told."""

YOUNG_S = 2.0
"""Longest pause while a queue has refused messages for less than this, in seconds: the election of
a leader is short."""

FIRST_S, LAST_S = 1.0, 60.0
"""First and longest pause until a sender should try such a queue again, in seconds."""

REASON = "it is full (x-overflow: reject-publish), or its leader is away"


class _Refusing:
    """One queue that refuses messages."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.pauses = Backoff(FIRST_S, LAST_S)


class Refusals:
    """The queues of a server that refuse messages at present; each is told once."""

    def __init__(self, where: str, clock: Clock) -> None:
        self._where = where
        self._clock = clock
        self._queues: dict[str, _Refusing] = {}
        self._until: float | None = None
        """Time up to which messages are published again; None: no queue refuses any."""
        self.wait_s = WAIT_S
        """Time for which messages are published again, in seconds."""

    @property
    def told(self) -> str:
        """Clause about the queues that refuse messages; empty if there are none."""
        names = ", ".join(map(repr, self._queues))
        return f"no messages are taken for {names}: {REASON}" if names else ""

    def refused(self, queue: str) -> RefusedError:
        """Note a refusal, and return its error."""
        if self._until is None:
            self._until = self._clock() + self.wait_s
        if queue not in self._queues:
            self._queues[queue] = _Refusing(self._clock())
            log.warning(
                "%s takes no messages for queue %r at present: %s. Only messages to it wait.",
                self._where, queue, REASON,
            )  # fmt: skip
        return RefusedError(f"queue {queue!r} takes no messages at present: {REASON}")

    def taken(self, queue: str) -> None:
        """Note that a message was taken."""
        if queue in self._queues:
            del self._queues[queue]
            if not self._queues:
                self._until = None
            log.warning("%s takes messages for queue %r again", self._where, queue)

    @property
    def again_s(self) -> float | None:
        """Pause until a message is published again, in seconds; None: its sender is to be told."""
        return AGAIN_S if self._until is None or self._clock() < self._until else None

    def pause_s(self, queue: str) -> float | None:
        """Return the pause until a sender should try again, longer each time, in seconds."""
        if (refusing := self._queues.get(queue)) is None:
            return None
        return min(refusing.pauses.next_s(), max(YOUNG_S, self._clock() - refusing.since))
