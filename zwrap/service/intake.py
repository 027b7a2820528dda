"""Intake of messages from the queue of a service, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zwrap.host.clock import Clock, elapsed
from zwrap.service.contract import Service
from zwrap.service.reading import Reading
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.failures import ReadElsewhereError

BATCH_BYTES = 32 << 20
"""Size of the bodies of a batch from which on no message is added to it, in bytes. Decoded they
need a multiple of it."""


class Intake:
    """The queue of a service, read in batches.

    If a message kills its service, all messages that the service holds are delivered once more, and
    count. So that few others are affected, a service that handles batches holds only one message
    until it has handled one that was never delivered before; and a message that was delivered
    before is handled alone, after the others. An exclusive service has no batches.
    """

    def __init__(
        self,
        service: Service,
        transport: Transport,
        on_broadcast: Callable[[Delivery], None],
        clock: Clock = elapsed,
    ) -> None:
        self._service = service
        self._transport = transport
        self._on_broadcast = on_broadcast
        self._prefetch = 1 if service.batch_size > 1 else service.prefetch
        self.alone = Reading(service, transport, clock) if service.exclusive else None
        """The reading of a queue that the service has alone; None: others read it, too."""

    def begin(self) -> None:
        """Begin to read the queue, if there is one.

        Raises:
            PermanentError: The service can never read it.
        """
        if self.alone:
            self.alone.check()
            self.alone.look()
        else:
            self._subscribe()

    def _subscribe(self) -> None:
        """Read the queue with the present prefetch."""
        if self._service.queue:
            self._transport.subscribe(self._service.queue, self._prefetch)

    def receive(self, timeout_s: float) -> Delivery | None:
        """Return the next message, or None after a number of seconds."""
        try:
            return self._transport.receive(timeout_s)
        except ReadElsewhereError as error:  # it took over while the connection was lost
            if self.alone is None:
                raise
            self.alone.stand_by(error)
            return None

    def batches(self, first: Delivery) -> Iterator[list[Delivery]]:
        """Yield a message, and those that wait behind it, in batches to handle one by one."""
        waiting = self._gathered(first)
        if fresh := [each for each in waiting if each.delivery_count == 1]:
            yield fresh
            if self._prefetch < self._service.prefetch:  # the service survived the first one
                self._prefetch = self._service.prefetch
                self._subscribe()
        yield from ([each] for each in waiting if each.delivery_count != 1)

    def _gathered(self, first: Delivery) -> list[Delivery]:
        """Return a message and those that wait behind it; pass broadcasts on immediately."""
        gathered, size = [first], first.size
        most = min(self._service.batch_size, self._prefetch)
        while len(gathered) < most and size < BATCH_BYTES:
            further = self._transport.receive(self._transport.batch_wait_s)
            if further is None:
                break
            if further.topic:
                self._on_broadcast(further)
            else:
                gathered.append(further)
                size += further.size
        return gathered
