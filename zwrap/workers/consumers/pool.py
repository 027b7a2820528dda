"""Instances of a site's consumer class, each on its own thread; one that fails is replaced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from zwrap.errors import ConfigurationError, PermanentError, TemporaryError, TransportError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.host.forks import ending_children
from zwrap.service.contract import Service
from zwrap.service.deadletter import dead_letter_reason, put_aside
from zwrap.service.faults import Faults, as_failure
from zwrap.service.outage import is_outage
from zwrap.service.settling import (
    check_deliveries,
    settle_fault,
    uncounted,
)
from zwrap.transport.contract import Delivery
from zwrap.transport.rabbitmq.amqp import AMQPTransport
from zwrap.transport.rabbitmq.topology import QueueDeclaration
from zwrap.workers.consumers.proxy import AMQP, Message, again_later
from zwrap.workers.consumers.settings import ConsumerSettings

log = logging.getLogger("amqp-dispatcher")

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.1, 30.0
"""First and longest pause before a failed instance is replaced, in seconds."""

STEADY_S = 60.0
"""Lifetime after which an instance is replaced after the first pause again, in seconds."""


_ANY = (Exception, SystemExit, GeneratorExit, KeyboardInterrupt)
"""What code of a site may raise; it never ends the process."""


class Consumer(Protocol):
    """An instance of a site's consumer class."""

    def consume(self, amqp: AMQP, msg: Message) -> object:
        """Handle one message."""

    def shutdown(self, exception: BaseException | None = None) -> object:
        """Release what the instance holds; `exception`: its failure, if it failed."""


class Pool:
    """The instances of one entry of `consumers`, with their own connection."""

    def __init__(
        self,
        settings: ConsumerSettings,
        kind: Callable[[], Consumer],
        transport: AMQPTransport,
        stop: threading.Event,
        clock: Clock = elapsed,
    ) -> None:
        self.name = settings.consumer
        self._settings = settings
        self._kind = kind
        self._transport = transport
        self._stop = stop
        self._clock = clock
        self._faults = Faults(clock)
        """Faults of all instances."""
        self._threads: list[threading.Thread] = []

    def start(self, queue: QueueDeclaration | str) -> None:
        """Create the instances and begin to consume; ConfigurationError if a creation fails."""
        try:
            instances = [self._kind() for _ in range(self._settings.consumer_count)]
        except _ANY as error:
            raise ConfigurationError(
                f"Consumer {self.name} cannot be made: {type(error).__name__}: {error}"
            ) from error
        self._transport.consume(queue, self._settings.prefetch_count)
        for number, instance in enumerate(instances, 1):
            name = f"{self.name}-{number}"
            thread = threading.Thread(target=self._work, args=(instance,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        log.info("%d of %s read %s", len(instances), self.name, self._settings.queue)

    @property
    def alive(self) -> bool:
        """True while all threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Wait for the messages at hand, then give the others back."""
        for thread in self._threads:
            thread.join()
        self._transport.close()

    # -- on each thread --------------------------------------------------------------------------

    def _work(self, instance: Consumer) -> None:
        """Handle messages until told to stop; replace an instance that fails."""
        pauses, began = Backoff(BACKOFF_FIRST_S, BACKOFF_LAST_S), self._clock()
        while not self._stop.is_set():
            delivery = self._transport.receive(1.0)
            failure: Exception | None = self._handle(instance, delivery) if delivery else None
            if failure is None:
                continue
            self._shut_down(instance, failure)
            if self._clock() - began > STEADY_S:
                pauses.reset()
            self._stop.wait(self._faults.pause_s())
            instance = self._replacement(pauses)
            began = self._clock()
        self._shut_down(instance, None)

    def _handle(self, instance: Consumer, delivery: Delivery) -> Exception | None:
        """Let an instance handle one message, and settle it; return the instance's failure."""
        message = delivery.message.id
        try:
            check_deliveries(delivery, Service.delivery_limit)
        except PermanentError as error:
            self._give_up(delivery, str(error))
            self._faults.ended(message, self.name)
            return None
        try:
            came, properties = self._transport.origin(delivery)
            amqp = AMQP(self._transport, delivery)
            body = delivery.message.body
            assert isinstance(body, (str, bytes))
            with ending_children():
                instance.consume(amqp, Message(body, came, properties))
            if not delivery.settled:
                delivery.ack()
        except BaseException as error:
            failure = as_failure(error)
            self._settle(delivery, failure)
            return failure
        self._faults.went_well(message, self.name)
        return None

    def _settle(self, delivery: Delivery, failure: Exception) -> None:
        """Settle a message whose handler failed, unless the handler has settled it."""
        message, faults = delivery.message.id, self._faults
        if is_outage(failure):
            free = not faults.outage(message, failure, self.name)
        elif isinstance(failure, TemporaryError):  # such as a queue that is full
            faults.held_up(message, failure, self.name)
            free = True
        else:
            free = faults.unforeseen_by(message, failure, self.name)
        if delivery.settled:
            return
        if free:
            uncounted(faults, delivery)
        else:
            settle_fault(
                delivery,
                failure,
                Service.delivery_limit,
                again=again_later,
                give_up=lambda text: self._give_up(delivery, text),
            )

    def _give_up(self, delivery: Delivery, error: str) -> None:
        """Make a message a dead letter."""
        put_aside(delivery, dead_letter_reason(delivery, error, f"consumer {self.name}"))
        log.error("Message %s becomes a dead letter: %s", delivery.message.id,
                  error.partition("\nTraceback")[0])  # fmt: skip

    def _shut_down(self, instance: Consumer, failure: BaseException | None) -> None:
        """Shut down an instance, which may fail in any way."""
        try:
            with ending_children():
                instance.shutdown(failure)
        except _ANY:
            log.exception("%s failed while it was shut down", self.name)

    def _replacement(self, pauses: Backoff) -> Consumer:
        """Return a new instance; there is a pause before each try."""
        while True:
            pause_s = pauses.next_s()
            log.info("A new instance of %s in %.1f s", self.name, pause_s)
            self._stop.wait(pause_s)
            try:
                return self._kind()
            except _ANY:
                log.exception("%s cannot be made", self.name)


def run_until_stopped(pools: Sequence[Pool], stop: threading.Event) -> None:
    """Wait for `stop`; TransportError if a thread has ended before."""
    while not stop.wait(1.0):
        for pool in pools:
            if not pool.alive:
                raise TransportError(f"Consumer {pool.name} reads no more; see the log.")
