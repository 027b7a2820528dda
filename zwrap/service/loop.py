"""The loop of every service: receive, handle and settle messages until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from zwrap.errors import OutageError, TransportError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import host_id
from zwrap.host.seldom import Seldom
from zwrap.host.stopping import stop_on_signals
from zwrap.message.content import Message, Status
from zwrap.service.commands import COMMAND_TOPIC, Commands
from zwrap.service.contract import Service
from zwrap.service.deadline import ending_late_stops
from zwrap.service.faults import PERIODIC, RECEIVING, as_failure, told
from zwrap.service.intake import Intake
from zwrap.service.liveness import Liveness
from zwrap.service.outage import holds_up_one_queue, is_outage
from zwrap.service.settling import (
    handle_deliveries,
    handle_delivery as handle_delivery,  # for foreign loops
)
from zwrap.service.status import ServiceStatus
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.failures import ReadElsewhereError

log = logging.getLogger(__name__)

HEARING, ENDING = "hearing of a broadcast", "end"
"""Names of work that is not that of a message."""

PAUSE_STEP_S = 5.0
"""Interval between signs of life during a pause, in seconds."""

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
        renewed: Function that is called after SIGHUP, between two turns; the loop ends if it
            returns True. None: SIGHUP is a stop signal.
        stop: Event that ends the loop, which loops that follow each other share; None: its own.
        hangup: Event that SIGHUP sets, likewise.
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
        renewed: Callable[[], bool] | None = None,
        stop: threading.Event | None = None,
        hangup: threading.Event | None = None,
        clock: Clock = elapsed,
    ) -> None:
        self._renewed = renewed
        self._hangup = hangup or threading.Event()
        self._followed = threading.Event()
        self._liveness = liveness or Liveness(service, clock)
        self._service = service
        self._transport = transport
        self._clock = clock
        self._ends_at = clock() + lifetime_s if lifetime_s else float("inf")
        self._once = once
        self._intake = Intake(service, transport, self._hear, clock)
        alone = self._intake.alone
        remark = (lambda: alone.remark) if alone else str
        self._status = ServiceStatus(service, transport, tag, clock, remark)
        if alone:
            alone.changed = self._status.tell
        self._commands = Commands(service.configuration)
        self._warnings = Seldom(clock)
        self._stop = stop or threading.Event()

    def run(self) -> None:
        """Receive and handle messages until the end; return after a clean end.

        A stop signal lets the loop finish the messages at hand; the second one ends the process.
        Raises PermanentError, before it takes a message, if the service cannot handle any, and
        OutageError if a run with ``--once`` ends without messages that it gave back in an outage.
        """
        self._service.check_handler()
        # Before it is told that the service reads or stands by: who hears that may end it.
        stop_on_signals(self._stop, self._hangup if self._renewed else None)
        self._intake.begin()
        for topic in (COMMAND_TOPIC, *self._service.topics):
            self._transport.subscribe_topic(topic)
        if not self._intake.alone or self._intake.alone.reads:
            queue = f"queue {self._service.queue}" if self._service.queue else "no queue"
            log.info("%s reads %s of %s", self._service.name, queue, self._transport.where)
        name, grace = self._service.name, self._service.stop_grace_s
        with (
            ending_late_stops(self._stop, name, grace),
            ending_late_stops(self._followed, name, grace),
            self._status,
        ):
            try:
                self._service.begin()
                while not self._is_over():
                    if not self._turn():
                        self._check_outages()
                        break
                    self._renew()
            finally:
                self._status.set(Status.SHUTDOWN)
                with self._contained(ENDING):
                    self._service.close()
                self._transport.flush()
        log.info("%s ends", self._service.name)

    def _renew(self) -> None:
        """Let the loop end after SIGHUP, if another one is ready to follow it."""
        if self._renewed and self._hangup.is_set():
            self._hangup.clear()
            if self._renewed():
                self._followed.set()

    def _is_over(self) -> bool:
        """Tell whether the loop, or the service, was asked to end, or its lifetime is over.

        A loop that another one follows is not asked to stop: the next stop signal is the first one.
        """
        asked = self._stop.is_set() or self._followed.is_set()
        return asked or self._service.ended or self._clock() >= self._ends_at

    def _turn(self) -> bool:
        """Handle what comes next, or be idle; return False after the last message of a run."""
        self._liveness.turn()
        going_on, reads = True, self._reads()
        delivery: Delivery | None = None
        if self._once and not reads:
            return False
        with self._contained(RECEIVING):
            delivery = self._intake.receive(self._wait_s())
        if delivery is None and not reads:
            self._status.set(Status.IDLE)
        elif delivery is None:
            with self._contained(PERIODIC):
                self._status.set(Status.IDLE)
                self._service.idle()
                self._service.faults.periodic_work_went_well(self._service.name)
                if self._intake.alone:
                    self._intake.alone.went_well()
                going_on = not self._once
        if delivery is not None and delivery.topic:
            self._hear(delivery)
        elif delivery is not None:
            for batch in self._intake.batches(delivery):
                self._handle(batch)
        self._pause(self._service.faults.pause_s())
        return going_on

    def _reads(self) -> bool:
        """Return True if the queue is read; an exclusive service begins to, if it can.

        Raises OutageError for a run with ``--once`` if something is away.
        """
        alone = self._intake.alone
        if alone is None:
            return True
        alone.look()
        if self._once and alone.obstacle:
            if not isinstance(alone.obstacle, ReadElsewhereError):
                raise alone.obstacle
            log.info("%s ends: what waits is handled by another instance", self._service.name)
        return alone.reads

    @contextlib.contextmanager
    def _contained(self, what: str) -> Iterator[None]:
        """Log what the work inside the context raises, and go on.

        Raises TransportError, without which there are no messages. A run with ``--once`` has no
        later turn in which the work could be done, so that any failure but one to hear ends it;
        an outage does so as OutageError.
        """
        try:
            yield
        except BaseException as error:
            failure = as_failure(error)
            gone = isinstance(failure, TransportError) and not holds_up_one_queue(failure)
            if self._once and is_outage(failure) and not isinstance(failure, (ZwrapError, OSError)):
                raise OutageError(f"{what} of {self._service.name}: {told(failure)}") from failure
            if gone or (self._once and what != HEARING):
                raise
            self._service.faults.beside_messages(what, failure, self._service.name)

    def _check_outages(self) -> None:
        """Raise OutageError if messages were given back because of what they all share."""
        if reason := self._service.faults.hold_up():
            raise OutageError(
                f"{self._service.name} gave messages back, to be tried later: {reason}"
            )

    def _pause(self, pause_s: float) -> None:
        """Wait, with signs of life, unless the loop is stopped meanwhile.

        A run with ``--once`` does not wait, so that it ends before messages come again. Raises
        OutageError if one did, and none went well in between.
        """
        if self._once:
            if self._service.faults.in_vain:
                self._check_outages()
            return
        while pause_s > 0 and not self._stop.wait(min(pause_s, PAUSE_STEP_S)):
            self._liveness.turn()
            pause_s -= PAUSE_STEP_S

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
            with self._contained(HEARING):
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
        if not given or not all(given):
            return
        refusal = self._commands.refusal(message)
        if not refusal:
            log.info("Shutdown was asked for: %s", body)
            self._stop.set()
        elif self._warnings.due(refusal):
            log.warning("A command to shut down is not obeyed: %s", refusal)

    def _handle(self, batch: list[Delivery]) -> None:
        """Let the service handle a batch, as status and liveness show.

        Raises TransportError if messages could not even be given back.
        """
        self._status.set(Status.PROCESSING)
        pauses: list[float] = []
        alone = self._intake.alone
        try:
            with self._liveness.at_work():
                handle_deliveries(self._service, batch, pauses.append)
            if alone:
                alone.went_well()
        except OutageError as error:
            if alone and not self._once:
                alone.withdraw(error)
            elif self._once or not all(delivery.settled for delivery in batch):
                raise  # the end of this process gives back what it holds
            else:
                pauses.append(self._service.faults.pause_s())
        self._status.set(Status.IDLE)
        self._pause(sum(pauses))
