"""The loop of every service: receive, handle and settle messages until it is stopped."""

from __future__ import annotations

import logging
import threading

from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import host_id
from zwrap.host.stopping import stop_on_signals
from zwrap.message import Message, Status
from zwrap.service.contract import Service
from zwrap.service.intake import Intake
from zwrap.service.liveness import Liveness
from zwrap.service.settling import handle_deliveries
from zwrap.service.settling import handle_delivery as handle_delivery  # for foreign loops
from zwrap.service.status import ServiceStatus
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

COMMAND_TOPIC = "command"

ONCE_WAIT_S = 0.5
"""Time without a message after which a run with ``--once`` ends, in seconds. A broker needs some
time to deliver messages that wait."""


class Loop:
    """The loop of one service, which runs until it is stopped.

    Args:
        service: The service.
        transport: Its connection.
        lifetime_s: Time after which the loop ends, in seconds; None: never.
        once: True if the loop ends when no message waits.
        tag: Text in status messages.
        liveness: Record of the turns of the loop, for a check from outside.
        clock: Clock for the lifetime and the utilization, in seconds.
    """

    def __init__(
        self,
        service: Service,
        transport: Transport,
        *,
        lifetime_s: float | None = None,
        once: bool = False,
        tag: str | None = None,
        liveness: Liveness | None = None,
        clock: Clock = elapsed,
    ) -> None:
        self._liveness = liveness or Liveness(service, clock)
        self._service = service
        self._transport = transport
        self._clock = clock
        self._ends_at = clock() + lifetime_s if lifetime_s else float("inf")
        self._once = once
        self._status = ServiceStatus(service, transport, tag, clock)
        self._intake = Intake(service, transport, self._hear)
        self._stop = threading.Event()

    def run(self) -> None:
        """Receive and handle messages until the end; return after a clean end.

        A stop signal lets the loop finish the messages at hand; the second one ends the process.
        Raises PermanentError, before it takes a message, if the service cannot handle any.
        """
        self._service.check_handler()
        self._intake.subscribe()
        for topic in (COMMAND_TOPIC, *self._service.topics):
            self._transport.subscribe_topic(topic)
        stop_on_signals(self._stop)
        log.info("%s reads queue %s", self._service.name, self._service.queue or "none")
        with self._status:
            try:
                while not self._stop.is_set() and self._clock() < self._ends_at:
                    self._liveness.turn()
                    delivery = self._transport.receive(self._wait_s())
                    if delivery is None:
                        self._status.set(Status.IDLE)
                        self._service.idle()
                        if self._once:
                            break
                    elif delivery.topic:
                        self._hear(delivery)
                    else:
                        for batch in self._intake.batches(delivery):
                            self._handle(batch)
            finally:
                self._status.set(Status.SHUTDOWN)
                self._service.close()
                self._transport.flush()
        log.info("%s ends", self._service.name)

    def stop(self) -> None:
        """Let the loop end after the messages at hand; may be called from any thread."""
        self._stop.set()

    def _wait_s(self) -> float:
        """Return the longest wait for a message, in seconds."""
        wait_s = self._service.poll_s()
        return min(ONCE_WAIT_S, wait_s) if self._once else wait_s

    def _hear(self, delivery: Delivery) -> None:
        """Obey a command, or pass a broadcast on to the service."""
        if delivery.source == COMMAND_TOPIC:
            self._command(delivery.message)
        else:
            self._service.hear(delivery.source, delivery.message)

    def _command(self, message: Message) -> None:
        """Stop after a command to shut down, if all its conditions hold for this instance."""
        body: object = message.body
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

    def _handle(self, batch: list[Delivery]) -> None:
        """Let the service handle a batch, as status and liveness show."""
        self._status.set(Status.PROCESSING)
        with self._liveness.at_work():
            handle_deliveries(self._service, batch, self._stop.wait)
        self._status.set(Status.IDLE)
