"""The consumer of a queue of RabbitMQ, which outlasts connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from zwrap.errors import ZwrapError
from zwrap.host.backoff import Backoff

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, OnAnswer


AGAIN_FIRST_S, AGAIN_LAST_S = 1.0, 30.0
"""First and longest pause before a consumer that the server ended is started again, in seconds."""


class Consumer:
    """The consumer of a queue, which is started again on each new connection."""

    def __init__(
        self,
        start: Callable[[Channel, OnAnswer], None],
        prefetch: int,
        name: str,
        taken: Callable[[BaseException], ZwrapError | None] | None = None,
    ) -> None:
        self.start = start
        """Function that begins to consume on a fresh channel, and calls back after the server's
        agreement."""
        self.prefetch = prefetch
        """Largest number of messages that are delivered and not settled; 0: no limit."""
        self.name = name
        self.unsettled = 0
        """Number of messages that the present channel delivered and that are not settled."""
        self.taken = taken
        """Function that returns an error if what closed the channel says that the queue cannot be
        had alone; None: many read it."""
        self.on_taken: Callable[[ZwrapError], None] = lambda _: None
        """Function that is called with that error if the consumer is over because of it."""
        self.channel: Channel | None = None
        self.starting = False
        self.pauses = Backoff(AGAIN_FIRST_S, AGAIN_LAST_S)
        """Pauses before it is started again, while its queue is not there."""
        self.ready = threading.Event()
        self.failure: ZwrapError | None = None

    @property
    def exclusive(self) -> bool:
        """True if no other connection reads the queue meanwhile."""
        return self.taken is not None

    def reset(self) -> None:
        """Clear the outcome of the last start."""
        self.ready.clear()
        self.failure = None
