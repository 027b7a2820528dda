"""The loop of every service: receive, handle, settle; and what becomes of a failure."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from zwrap.configuration.recipe_id import recipe_context
from zwrap.errors import PermanentError, QueueFullError, TemporaryError, TransportError
from zwrap.host.processes import host_id
from zwrap.message import Message
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service, Work
from zwrap.service.liveness import Liveness
from zwrap.service.status import IDLE, PROCESSING, SHUTDOWN, ServiceStatus
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import diagnosis, recipe_id_of

log = logging.getLogger(__name__)

COMMAND_TOPIC = "command"
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 60.0

GARBAGE = 50_000
"""So many new objects let Python look for garbage (gc.set_threshold); usually 700."""

ONCE_WAIT_S = 0.5
"""With ``--once``: when nothing came for so long there is nothing. A broker needs a moment."""


class Loop:
    """Runs one service until it is told to stop."""

    def __init__(
        self,
        service: Service,
        transport: Transport,
        *,
        lifetime_s: float | None = None,
        once: bool = False,
        tag: str | None = None,
        liveness: Liveness | None = None,
    ) -> None:
        self._liveness = liveness or Liveness(service)
        self._service = service
        self._transport = transport
        self._ends_at = time.monotonic() + lifetime_s if lifetime_s else float("inf")
        self._once = once
        self._status = ServiceStatus(service, transport, tag)
        self._stop = threading.Event()
        # A service that takes messages together begins with one: see `_lots`.
        self._prefetch = 1 if service.batch_size > 1 else service.prefetch

    def run(self) -> None:
        """Receive and handle until the end; returns after a clean end."""
        # Messages are trees of thousands of objects that die without a cycle: looking for cycles as
        # often as Python usually does costs a fifth of all work.
        gc.freeze()
        gc.set_threshold(GARBAGE)
        if self._service.queue:
            self._transport.subscribe(self._service.queue, self._prefetch)
        for topic in (COMMAND_TOPIC, *self._service.topics):
            self._transport.subscribe_topic(topic)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._signalled)
        log.info("%s reads queue %s", self._service.name, self._service.queue or "none")
        with self._status:
            try:
                while not self._stop.is_set() and time.monotonic() < self._ends_at:
                    self._liveness.turn()
                    delivery = self._transport.receive(self._wait_s())
                    if delivery is None:
                        self._status.set(IDLE)
                        self._service.idle()
                        if self._once:
                            break
                    elif delivery.topic:
                        self._hear(delivery)
                    else:
                        for lot in self._lots(delivery):
                            self._handle(lot)
            finally:
                self._status.set(SHUTDOWN)
                self._service.close()
                self._transport.flush()
        log.info("%s ends", self._service.name)

    def stop(self) -> None:
        """Let it end after the message at hand; from any thread."""
        self._stop.set()

    def _wait_s(self) -> float:
        wait_s = self._service.poll_s()
        return min(ONCE_WAIT_S, wait_s) if self._once else wait_s

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """Finish the message at hand and stop; at the second signal stop at once."""
        del frame
        if self._stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._stop.set()

    def _hear(self, delivery: Delivery) -> None:
        if delivery.source == COMMAND_TOPIC:
            self._command(delivery.message)
        else:
            self._service.hear(delivery.source, delivery.message)

    def _command(self, message: Message) -> None:
        """Obey a shutdown that means this instance; every given condition must hold."""
        body = message.body
        if not isinstance(body, dict) or body.get("command") != "shutdown":
            return
        conditions = [
            body["host"] == host_id() if "host" in body else None,
            body["service"] == self._service.name if "service" in body else None,
        ]
        given = [condition for condition in conditions if condition is not None]
        if given and all(given):
            log.info("Shutdown was asked for: %s", body)
            self._stop.set()

    def _lots(self, delivery: Delivery) -> Iterator[list[Delivery]]:
        """This message and those that wait with it, in lots.

        One that was handed out before may have killed a service: it comes alone, after the others.
        """
        fresh: list[Delivery] = []
        suspects: list[Delivery] = []
        known: Delivery | None = delivery
        while known is not None:
            (fresh if known.delivery_count == 1 else suspects).append(known)
            if len(fresh) + len(suspects) >= min(self._service.batch_size, self._prefetch):
                break
            known = self._next()
        if fresh:
            yield fresh
        yield from ([suspect] for suspect in suspects)

    def _next(self) -> Delivery | None:
        """A further message that waits; commands are obeyed on the way."""
        wait_s = self._transport.batch_wait_s
        while (delivery := self._transport.receive(wait_s)) and delivery.topic:
            self._hear(delivery)
        return delivery

    def _handle(self, deliveries: list[Delivery]) -> None:
        self._status.set(PROCESSING)
        with self._liveness.at_work():
            handle_deliveries(self._service, deliveries, self._wait)
        self._status.set(IDLE)
        if deliveries[0].delivery_count == 1 and self._prefetch < self._service.prefetch:
            self._prefetch = self._service.prefetch
            self._transport.subscribe(self._service.queue or "", self._prefetch)

    def _wait(self, seconds: float) -> None:
        """A temporary failure is often one of the whole site: pause before the next message."""
        self._stop.wait(seconds)


def handle_delivery(
    service: Service, delivery: Delivery, pause: Callable[[float], Any] = time.sleep
) -> None:
    """Let a service handle one message, and settle it whatever happens."""
    handle_deliveries(service, [delivery], pause)


def handle_deliveries(
    service: Service, deliveries: Sequence[Delivery], pause: Callable[[float], Any] = time.sleep
) -> None:
    """Let a service handle messages together, and settle each whatever happens.

    TransportError is raised again once the messages have been given back: the service is of no use
    without its transport.
    """
    opened = [_open(service, delivery) for delivery in deliveries]
    work = [each for each in opened if each]
    problems = service.handle_all(work) if work else []
    pause_s = 0.0
    lost: TransportError | None = None
    for (delivery, envelope), problem in zip(work, problems, strict=True):
        with recipe_context(recipe_id_of(delivery.message)):
            pause_s = max(pause_s, _settle(service, delivery, envelope, problem))
        if isinstance(problem, TransportError) and not isinstance(problem, QueueFullError):
            lost = problem
    if lost:
        raise lost
    if pause_s:
        pause(pause_s)


def _open(service: Service, delivery: Delivery) -> Work | None:
    """The message with its envelope; None if it had to be settled instead."""
    with recipe_context(recipe_id_of(delivery.message)):
        try:
            if delivery.delivery_count > service.delivery_limit:
                raise PermanentError(diagnosis(delivery))
            return Work(delivery, service.open(delivery))
        except Exception as error:
            _settle(service, delivery, None, error)
            return None


def _settle(
    service: Service, delivery: Delivery, envelope: Envelope | None, problem: Exception | None
) -> float:
    """Settle a message with which something went wrong; seconds to pause before the next."""
    if problem is None:
        return 0.0
    if isinstance(problem, PermanentError):
        _give_up(service, delivery, envelope, str(problem))
    elif isinstance(problem, TemporaryError):
        delay_s = problem.retry_after_s or RETRY_FIRST_S
        log.warning("Message %s is tried again: %s", delivery.message.id, problem)
        delivery.retry(delay_s, counted=False)
        return 0.0 if problem.retry_after_s is not None else delay_s
    else:
        log.error("Message %s: the service failed", delivery.message.id, exc_info=problem)
        if delivery.delivery_count >= service.delivery_limit:
            text = "".join(traceback.format_exception(problem))
            _give_up(service, delivery, envelope, text)
        else:
            delivery.retry(min(RETRY_FIRST_S * 2 ** (delivery.delivery_count - 1), RETRY_LAST_S))
    return 0.0


def _give_up(service: Service, delivery: Delivery, envelope: Envelope | None, error: str) -> None:
    """Make a message a dead letter, and tell the `error` nodes of its recipe."""
    route = ""
    if envelope is not None:
        steps = " -> ".join(str(step) for step in [*envelope.path, envelope.pointer])
        route = f"\nrecipe {envelope.recipe_id}, route {steps}"
    reason = (
        f"{error}\n"
        f"message {delivery.message.id}, queue {delivery.source}, "
        f"attempt {delivery.delivery_count}, service {service.name} {host_id()}{route}"
    )
    log.error("Message %s is a dead letter: %s", delivery.message.id, error)
    facts = {"error": error, "service": service.name}
    try:
        with service.transport.unit(delivery, dead_letter=reason) as unit:
            if envelope is not None:
                unit.send(*envelope.send_error({**facts, "step": envelope.pointer}))
    except PermanentError as second:  # the way to the error nodes is no good either
        reason = f"{reason}\nIts error nodes could not be told: {second}"
        delivery.dead_letter(reason)
    service.gave_up(delivery, reason)
