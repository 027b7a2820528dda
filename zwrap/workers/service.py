"""The services that call a function of `zwrap.workers.functions` for the messages of its queue."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable
from pathlib import Path

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TransportError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.files import open_to_append
from zwrap.host.forks import ending_children
from zwrap.host.modes import PRIVATE_FILE, READ_FILE, make_private, make_readable
from zwrap.host.paths import in_state_directory
from zwrap.host.printable import well_formed
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import STOP_GRACE_S, Service, Work
from zwrap.service.faults import as_failure
from zwrap.service.outage import is_outage
from zwrap.service.settling import settle
from zwrap.transport.contract import Delivery, Transport
from zwrap.workers.functions import SkipMessage, Worker
from zwrap.workers.timelimit import GRACE_S, time_limit

log = logging.getLogger(__name__)


class FunctionService(Service):
    """Service that calls a worker's function for one message at a time."""

    plain_messages = True

    def __init__(self, configuration: Configuration, transport: Transport, worker: Worker) -> None:
        super().__init__(configuration, transport)
        self._worker = worker
        self.queue = worker.queue
        # If a message kills this process, the delivery of all messages that it holds counts.
        self.prefetch = worker.batch or 1
        self.delivery_limit = worker.attempts

    @property
    def name(self) -> str:
        """Name in status messages."""
        return f"worker {self._worker.queue}"

    def open(self, delivery: Delivery) -> Envelope | None:
        """Return None for a plain message; refuse a recipe's, whose recipe would not go on."""
        if delivery.message.is_recipe:
            raise MessageError(f"The {self.name} takes plain messages, and this is a recipe's.")
        return None

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Call the function for one message."""
        del envelope
        message = delivery.message.body
        self._call([message] if self._worker.batch else message, 1)
        delivery.ack()

    def _call(self, argument: object, count: int) -> None:
        """Call the function within the time limit of `count` messages."""
        limit_s = self._worker.time_limit_s
        try:
            with time_limit(limit_s * count if limit_s else None, self.name), ending_children():
                self._worker.function(argument)
        except SkipMessage:
            pass

    def stop_grace_s(self) -> float:
        """Return the time that the messages at hand may take by their limits, in seconds.

        Without limits it is the usual one.
        """
        limit_s = self._worker.time_limit_s
        if limit_s is None:
            return STOP_GRACE_S
        return limit_s * self.prefetch + GRACE_S + STOP_GRACE_S

    def gave_up(self, delivery: Delivery, reason: str) -> None:
        """Add a line to the queue's file of errors, with the reason of the dead letter."""
        settings = self.configuration.site.workers
        named = settings.errors if settings else None
        directory = Path(named) if named else in_state_directory("worker-errors")
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "queue": self.queue,
            "id": delivery.message.id,
            "attempt": delivery.delivery_count,
            "reason": well_formed(reason),
            "message": delivery.message.body,
        }
        try:
            text = encode(line)
        except (TypeError, ValueError, RecursionError):  # the body is none that JSON can hold
            text = encode({**line, "message": ascii(delivery.message.body)[:1000]})
        try:
            (make_readable if named else make_private)(directory)
            mode = READ_FILE if named else PRIVATE_FILE
            with open_to_append(directory / f"{self.queue}.errors", mode) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(text + b"\n")
        except OSError as error:  # the dead letter exists all the same
            log.error("The file of errors of %s cannot be written: %s", self.name, error)


class BatchService(FunctionService):
    """Service that calls a worker's function for a batch of messages, full or overdue."""

    def __init__(
        self,
        configuration: Configuration,
        transport: Transport,
        worker: Worker,
        clock: Clock = elapsed,
    ) -> None:
        super().__init__(configuration, transport, worker)
        self._clock = clock
        self._alone = FunctionService(configuration, transport, worker)
        self._held: list[Delivery] = []
        self._due = float("inf")

    def poll_s(self) -> float:
        """Return the time until the batch at hand is due, in seconds."""
        return min(1.0, max(0.0, self._due - self._clock()))

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Hold a message for the batch; one that was delivered before is handled alone."""
        if delivery.delivery_count > 1:
            self._alone.handle(delivery, envelope)
            return
        if not self._held:
            self._due = self._clock() + self._worker.batch_wait_s
        self._held.append(delivery)
        if len(self._held) >= (self._worker.batch or 1) or not self.poll_s():
            self._work()

    def idle(self) -> None:
        """Handle the batch if it is due."""
        if not self.poll_s():
            self._work()

    def close(self) -> None:
        """Handle the batch at hand."""
        self._work()

    def _work(self) -> None:
        """Handle the batch; if that fails, handle its messages one by one."""
        held, self._held, self._due = self._held, [], float("inf")
        if not held:
            return
        work = [Work(delivery, None) for delivery in held]
        try:
            self._call([delivery.message.body for delivery in held], len(held))
            with self.transport.unit(*held):
                pass
        except BaseException as error:
            failure = as_failure(error)
            if isinstance(failure, TransportError) or is_outage(failure):
                settle(self, [(each, failure) for each in work])
                return
            log.exception("A batch of %d for the %s failed; now one by one", len(held), self.name)
            settle(self, list(zip(work, self._alone.handle_all(work), strict=True)))
        else:
            settle(self, [(each, None) for each in work])


def service_for(worker: Worker) -> Callable[[Configuration, Transport], FunctionService]:
    """Return the function that makes the service of a worker."""
    kind = BatchService if worker.batch else FunctionService
    return lambda configuration, transport: kind(configuration, transport, worker)
