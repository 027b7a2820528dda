"""The queue of an exclusive service: it is read, or waited for, or left while something is away.

Other services read their queue from beginning to end. The loop turns in each of these states, so
that commands, signals, status messages and the check of liveness work as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from zwrap.errors import OutageError, PermanentError, TemporaryError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.service.contract import Service
from zwrap.service.faults import told
from zwrap.service.outage import is_outage
from zwrap.transport.contract import Transport
from zwrap.transport.failures import ReadElsewhereError

log = logging.getLogger(__name__)

ELSEWHERE_FIRST_S, ELSEWHERE_LAST_S = 0.5, 2.0
"""First and longest interval at which a service asks whether the other instance has ended, in
seconds."""

FOREIGN_S = 15.0
"""Time after which a reader that does not read alone is one of another program, in seconds; a
connection that has died may look so for a moment."""

AWAY_FIRST_S, AWAY_LAST_S = 1.0, 30.0
"""First and longest interval at which it asks whether what is away has come back, in seconds."""


class Reading:
    """The reading of a queue that one instance of a service has alone.

    Args:
        service: The service.
        transport: Its connection.
        clock: Clock for pauses, in seconds.
    """

    def __init__(self, service: Service, transport: Transport, clock: Clock = elapsed) -> None:
        self._service = service
        self._queue = str(service.queue)
        self._transport = transport
        self._clock = clock
        self.reads = False
        """True while the service reads its queue."""
        self.obstacle: TemporaryError | None = None
        """Reason why it does not: another instance, or what is away; None: it reads, or begins."""
        self.changed: Callable[[], object] = lambda: None
        """Function that is called after each change."""
        self._due = self._since = clock()
        self._foreign_since: float | None = None
        """Time since which a reader was there that is no instance of the service; infinity: which
        was told."""
        self._told = False
        """True while something is away, as was told at `_since`."""
        self._elsewhere = Backoff(ELSEWHERE_FIRST_S, ELSEWHERE_LAST_S, jitter=True)
        self._away = Backoff(AWAY_FIRST_S, AWAY_LAST_S, jitter=True)

    def check(self) -> None:
        """Raise PermanentError if the transport cannot give a queue to one reader."""
        if not self._transport.gives_alone:
            raise PermanentError(
                f"Service {self._service.name} reads queue {self._queue!r} alone and in order, "
                f"which transport {type(self._transport).__name__} cannot do; RabbitMQ, ActiveMQ "
                "and the spool can."
            )

    @property
    def remark(self) -> str:
        """What the service waits for, for people; empty while it reads."""
        if self.obstacle is None:
            return ""
        if isinstance(self.obstacle, ReadElsewhereError):
            return f"standing by: another instance reads queue {self._queue!r}"
        return f"waiting: {self.obstacle}"

    def look(self) -> None:
        """Begin to read the queue, if that is due and possible now.

        Raises:
            PermanentError: It will never be possible.
            TransportError: The transport is away when the service begins.
        """
        if self.reads or self._clock() < self._due:
            return
        begins = self.obstacle is None
        try:
            self._service.available()
        except Exception as error:
            if isinstance(error, PermanentError) or (begins and not is_outage(error)):
                raise
            self._wait(error)
            return
        try:
            self._transport.subscribe(self._queue, self._service.prefetch, exclusive=True)
        except ReadElsewhereError as error:
            self.stand_by(error)
        except TemporaryError as error:
            if begins:
                raise
            self._wait(error)
        else:
            self._read()

    def stand_by(self, error: ReadElsewhereError) -> None:
        """Wait until another instance has ended, which is told once.

        So is a reader that is none of this service's, when it has been there for `FOREIGN_S`.
        """
        if not isinstance(self.obstacle, ReadElsewhereError):
            log.warning(
                "%s stands by: another instance reads queue %r. It takes over when that one ends.",
                self._service.name, self._queue,
            )  # fmt: skip
        if not error.foreign:
            self._foreign_since = None
        elif self._foreign_since is None:
            self._foreign_since = self._clock()
        elif self._clock() - self._foreign_since >= FOREIGN_S:
            self._foreign_since = float("inf")
            log.warning(
                "%s: queue %r has a reader that is no instance of this service, such as another "
                "program's connector. Stop that one: two that share a queue break its order.",
                self._service.name, self._queue,
            )  # fmt: skip
        self._hindered(error, self._elsewhere.next_s())

    def withdraw(self, error: Exception) -> None:
        """Give back what the service holds, and wait until what is away has come back."""
        self.reads = False
        try:
            self._transport.unsubscribe(self._queue)
        except TemporaryError as second:
            log.warning("%s cannot give back what it holds: %s", self._service.name, second)
        self._wait(error)

    def _wait(self, error: Exception) -> None:
        """Wait until something has come back, which is told once."""
        if not self._told:
            self._told, self._since = True, self._clock()
            log.warning(
                "%s does not read queue %r until this is over: %s",
                self._service.name, self._queue, told(error),
            )  # fmt: skip
        outage = error if isinstance(error, TemporaryError) else OutageError(told(error))
        self._hindered(outage, self._away.next_s())

    def _hindered(self, error: TemporaryError, pause_s: float) -> None:
        """Note why the queue is not read, and when to look again."""
        new = type(self.obstacle) is not type(error)
        self.reads, self.obstacle = False, error
        self._due = self._clock() + pause_s
        if new:
            self.changed()

    def _read(self) -> None:
        """Note that the queue is read."""
        if isinstance(self.obstacle, ReadElsewhereError):
            log.warning("%s takes over queue %r", self._service.name, self._queue)
        self.reads, self.obstacle, self._foreign_since = True, None, None
        self._elsewhere.reset()
        self.changed()

    def went_well(self) -> None:
        """Note that a message was handled, or that none waits: what was away has come back."""
        self._away.reset()
        if self._told:
            self._told = False
            log.warning(
                "%s goes on: it reads queue %r again, after %.0f s",
                self._service.name, self._queue, self._clock() - self._since,
            )  # fmt: skip
