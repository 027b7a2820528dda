"""Instances of a consumer at work, each on a thread of its own; one that fails is replaced."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import Any

from zwrap.errors import ConfigurationError, TransportError
from zwrap.service.contract import Service
from zwrap.transport.contract import Delivery
from zwrap.transport.diagnosis import diagnosis
from zwrap.transport.rabbitmq.amqp import AMQPTransport
from zwrap.transport.rabbitmq.topology import QueueDeclaration
from zwrap.workers.consumers.proxy import AMQP, Message, again_later
from zwrap.workers.consumers.settings import ConsumerSettings

log = logging.getLogger("amqp-dispatcher")

ATTEMPTS = Service.delivery_limit
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.1, 30.0
STEADY_S = 60.0
"""An instance that lasted so long is replaced without a pause."""


class Pool:
    """The instances of one entry of `consumers`, on a connection of their own."""

    def __init__(
        self, settings: ConsumerSettings, kind: Any, transport: AMQPTransport, stop: threading.Event
    ) -> None:
        self.name = settings.consumer
        self._settings = settings
        self._kind = kind
        self._transport = transport
        self._stop = stop
        self._threads: list[threading.Thread] = []

    def start(self, queue: QueueDeclaration | str) -> None:
        """Make the instances and begin to read; ConfigurationError if one cannot be made."""
        try:
            instances = [self._kind() for _ in range(self._settings.consumer_count)]
        except (Exception, SystemExit) as error:
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
        """Whether all threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Wait for the work at hand, then give back what nobody began."""
        for thread in self._threads:
            thread.join()
        self._transport.close()

    # -- on each thread --------------------------------------------------------------------------

    def _work(self, instance: Any) -> None:
        pause_s, began = BACKOFF_FIRST_S, time.monotonic()
        while not self._stop.is_set():
            delivery = self._transport.receive(1.0)
            if delivery is None:
                continue
            failure = self._handle(instance, delivery)
            if failure is None:
                continue
            self._shut_down(instance, failure)
            if time.monotonic() - began > STEADY_S:
                pause_s = BACKOFF_FIRST_S
            instance, pause_s = self._replacement(pause_s)
            began = time.monotonic()
        self._shut_down(instance, None)

    def _handle(self, instance: Any, delivery: Delivery) -> BaseException | None:
        """Let the consumer have one message and see that it is answered; its failure, if any."""
        if delivery.delivery_count > ATTEMPTS:  # whoever got it died
            delivery.dead_letter(f"{diagnosis(delivery)}\nconsumer {self.name}")
            return None
        came, properties = self._transport.origin(delivery)
        amqp = AMQP(self._transport, delivery)
        try:
            instance.consume(amqp, Message(delivery.message.body, came, properties))
        except (Exception, SystemExit) as error:
            log.exception("Message %s: %s failed", delivery.message.id, self.name)
            if not delivery.settled:
                self._failed(delivery)
            return error
        if not delivery.settled:
            delivery.ack()
        return None

    def _failed(self, delivery: Delivery) -> None:
        if delivery.delivery_count < ATTEMPTS:
            again_later(delivery)
        else:
            delivery.dead_letter(
                f"{traceback.format_exc()}\nmessage {delivery.message.id}, "
                f"queue {delivery.source}, attempt {delivery.delivery_count}, consumer {self.name}"
            )

    def _shut_down(self, instance: Any, failure: BaseException | None) -> None:
        try:
            instance.shutdown(failure)
        except (Exception, SystemExit):
            log.exception("%s failed while it was shut down", self.name)

    def _replacement(self, pause_s: float) -> tuple[Any, float]:
        """A new instance, and the pause before the next one."""
        while True:
            log.info("A new instance of %s in %.1f s", self.name, pause_s)
            self._stop.wait(pause_s)
            pause_s = min(pause_s * 2, BACKOFF_LAST_S)
            try:
                return self._kind(), pause_s
            except (Exception, SystemExit):
                log.exception("%s cannot be made", self.name)


def watch(pools: list[Pool], stop: threading.Event) -> None:
    """Wait until the end; TransportError if a thread is gone without having been asked to."""
    while not stop.wait(1.0):
        for pool in pools:
            if not pool.alive:
                raise TransportError(f"Consumer {pool.name} reads no more; see the log.")
