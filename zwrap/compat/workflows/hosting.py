"""Services written for python-workflows, run as services of zwrap.

The class may derive from `zwrap.compat.workflows.services.common_service.CommonService`, or, where
python-workflows is installed, from its own one: only methods that both have are used.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from zwrap.compat.workflows.basics import Disconnected
from zwrap.compat.workflows.isolation import Isolation
from zwrap.compat.workflows.lending import lend
from zwrap.compat.workflows.transport.contract_transport import ContractTransport
from zwrap.configuration.recipe_id import all_handlers
from zwrap.configuration.site import Configuration
from zwrap.errors import TransportError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.message.content import Message
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service, Work
from zwrap.service.faults import as_failure, told
from zwrap.service.outage import is_outage
from zwrap.service.settling import handle_delivery, settle
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

BASE = "services.common_service"
"""Module of the base class, in python-workflows and here."""

ORIGINAL = f"workflows.{BASE}"
HOMES = (ORIGINAL, f"zwrap.compat.workflows.{BASE}")
"""Modules of the base class whose subclasses are run."""

IDLE_TOLD_FIRST_S, IDLE_TOLD_LAST_S = 10.0, 600.0
"""First and longest time between two reports of a failing idle callback, in seconds."""

POLL_S = 1.0
"""Longest time after which an end that the service asks for is noticed, in seconds."""


def is_common_service(kind: object) -> bool:
    """Return True for a class that derives from `CommonService` of either home."""
    return isinstance(kind, type) and bool(_homes(kind))


def _homes(kind: type) -> list[str]:
    """Return the modules of the base classes of a service, as far as they are in `HOMES`."""
    named = [each.__module__ for each in kind.__mro__ if each.__qualname__ == "CommonService"]
    return [module for module in named if module in HOMES]


def hosted(kind: type) -> Callable[[Configuration, Transport], HostedService]:
    """Return the function that makes a service of zwrap of a class."""
    return functools.partial(HostedService, kind=kind)


class HostedService(Service):
    """A service of zwrap that does its work with an object of such a class."""

    plain_messages = True

    def __init__(
        self,
        configuration: Configuration,
        transport: Transport,
        kind: type,
        clock: Clock = elapsed,
    ) -> None:
        super().__init__(configuration, transport)
        self._name = kind.__name__
        self._clock = clock
        self._since = clock()
        self._termination = False
        self._idle_told_at = clock()
        self._idle_failures = Backoff(IDLE_TOLD_FIRST_S, IDLE_TOLD_LAST_S)
        self._at_work: Delivery | None = None
        self._rejected: Exception | None = None
        """Reason of the rejection of the message at work."""
        self._lock = threading.Lock()
        """Lock of the two before."""
        self._isolation = Isolation(clock)
        self._kind = kind
        if ORIGINAL in _homes(kind):
            lend(configuration)
        self._make(())

    def _make(self, subscribed: Iterable[str]) -> None:
        """Make an object of the class; `subscribed`: queues that are read already."""
        self._bridge = ContractTransport(
            self.transport,
            self._reject,
            self._went_well,
            _disconnected(self._kind),
            shared=self._isolation.suspect,
            subscribed=subscribed,
        )
        self._bridge.open_names = self.limits.open_names
        environment = {"config": self.configuration, "live": _is_live(self.configuration)}
        self._hosted: Any = self._kind(environment=environment)
        self._hosted.transport = self._bridge
        self._hosted.connect(frontend=self)
        self._fields = LogFields(self._hosted)

    @property
    def name(self) -> str:
        """Name of the class."""
        return self._name

    @property
    def title(self) -> str:
        """Name that the class gives itself."""
        return str(self._hosted.get_name())

    @property
    def ended(self) -> bool:
        """True after the class called `_shutdown` or `_request_termination`."""
        return self._termination or bool(getattr(self._hosted, "_CommonService__shutdown", False))

    def begin(self) -> None:
        """Let the class subscribe; its own loop is not used, so callbacks are called directly.

        Its logger tells as much as under python-zocalo's `zocalo.service`: level DEBUG and above,
        of which a handler takes what its own level says.
        """
        for handler in all_handlers():
            handler.addFilter(self._fields)
        verbosity = min(self._hosted.log_verbosity, logging.DEBUG)
        if self._hosted.log.getEffectiveLevel() > verbosity:
            self._hosted.log.setLevel(verbosity)
        self._hosted.start_transport()
        self._bridge.subscription_callback_set_intercept(None)
        self._hosted.initializing()
        self._since = self._clock()

    def send(self, what: dict[str, object]) -> None:
        """Hear what the class tells its frontend: that it wants to end, beside what is known."""
        if what.get("band") == "request_termination":
            self._termination = True

    def poll_s(self) -> float:
        """Return the time until the idle callback is due, in seconds."""
        if self._isolation.waiting and self._is_due(self._isolation.waiting[0]):
            return 0.0
        return max(0.0, min(POLL_S, self._due() - self._clock()))

    def _due(self) -> float:
        """Return the time at which the idle callback is due; infinity without one."""
        idle_s: float | None = getattr(self._hosted, "_idle_time", None)
        return self._since + idle_s if idle_s else float("inf")

    def idle(self) -> None:
        """Handle a message that waited to be alone; call the idle callback if it is due."""
        waiting = self._isolation.waiting
        if waiting and self._is_due(waiting[0]):
            handle_delivery(self, waiting[0])
        if self._clock() < self._due():
            return
        try:
            if callback := getattr(self._hosted, "_idle_callback", None):
                with self._renewing(), self._bridge.undoing():
                    callback()
        except Exception as error:
            self._tell_idle(error)
            raise
        else:
            self._idle_failures.reset()
        finally:
            self._since = self._clock()

    def _tell_idle(self, error: Exception) -> None:
        """Log that the idle callback failed with messages in hand, more and more seldom."""
        number = len(self._bridge.in_hand())
        if number and self._clock() >= self._idle_told_at:
            self._idle_told_at = self._clock() + self._idle_failures.next_s()
            log.error(
                "The idle callback of %s failed while %d messages are in hand, which may wait "
                "for it: %s", self.name, number, told(error),
            )  # fmt: skip

    def hear(self, topic: str, message: Message) -> None:
        """Pass a broadcast to the callbacks of its topic."""
        try:
            with self._renewing():
                self._bridge.hear(topic, message)
        finally:
            self._since = self._clock()

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Pass a message to its callback; it stays in hand until the class settles it.

        One of a batch that failed waits until none is in hand, and the next until it is settled.
        """
        del envelope
        if not self._is_due(delivery):
            self._isolation.waiting.append(delivery)
            return
        self._isolation.passed(delivery)
        with self._lock:
            self._at_work, self._rejected = delivery, None
        try:
            with self._renewing():
                self._bridge.deliver(delivery)
        finally:
            with self._lock:
                rejected, self._at_work = self._rejected, None
            self._since = self._clock()
            if delivery.settled:
                self._isolation.ended(delivery)
        if rejected:
            raise rejected

    def _is_due(self, delivery: Delivery) -> bool:
        """Tell whether a message may be passed to the class now."""
        idle_s: float = getattr(self._hosted, "_idle_time", None) or 0.0
        return self._isolation.is_due(delivery, self._bridge.in_hand(), 2 * idle_s + POLL_S)

    @contextlib.contextmanager
    def _renewing(self) -> Iterator[None]:
        """Make a new object of the class after a failure that concerned several messages.

        The old one may still wait for those that were given back, as if it had them in hand.
        Under python-workflows every exception ends the service.
        """
        before = self._bridge.undone
        try:
            yield
        except BaseException as error:
            if self._bridge.undone > before and not is_outage(as_failure(error)):
                self._renew()
            raise

    def _renew(self) -> None:
        """Go on with a new object of the class; end the service if there is none."""
        log.warning("%s goes on with a new object of its class after a failed batch", self.name)
        try:
            self._end()
        except Exception:
            log.exception("The former object of %s did not end well", self.name)
        try:
            self._make(self._bridge.subscribed)
            self.begin()
        except Exception:
            log.critical("%s ends: no new object can be made", self.name, exc_info=True)
            self._termination = True

    def close(self) -> None:
        """Let the class release what it holds, and give back what it has in hand."""
        try:
            self._end()
        finally:
            for delivery in self._isolation.waiting:
                with contextlib.suppress(TransportError):  # the end of the connection does it
                    delivery.retry(counted=False)

    def _end(self) -> None:
        """End the object of the class."""
        try:
            self._hosted.in_shutdown()
        finally:
            self._hosted.stop_transport()
            self._bridge.disconnect()
            for handler in all_handlers():
                handler.removeFilter(self._fields)

    def _reject(self, deliveries: Sequence[Delivery], reason: Exception) -> None:
        """Settle rejected messages; that at work is settled when its callback has returned."""
        others = []
        for delivery in deliveries:
            with self._lock:
                if delivery is self._at_work:
                    self._rejected = reason
                    continue
            others.append(delivery)
        settle(self, [(self._work(each), reason) for each in others])

    def _went_well(self, delivery: Delivery) -> None:
        """Take note of a message that was acknowledged later."""
        self._isolation.ended(delivery)
        settle(self, [(Work(delivery, None), None)])

    def _work(self, delivery: Delivery) -> Work:
        """Return a message that was opened before, with its envelope."""
        return Work(delivery, self.open(delivery))


class LogFields(logging.Filter):
    """Filter that gives records of the log the fields of a service's `extend_log`."""

    def __init__(self, service: object) -> None:
        super().__init__()
        self._service = service

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields to a record; return True, so that it passes."""
        fields = getattr(self._service, "_CommonService__log_extensions", [])
        for field, value in reversed(fields):
            if not hasattr(record, field):
                setattr(record, field, value)
        return True


def _is_live(configuration: Configuration) -> bool:
    """Return what python-zocalo's `zocalo.service` tells services under key ``live``."""
    return bool({"live", "default"}.intersection(configuration.active_environments))


def _disconnected(kind: type) -> Callable[[str], Exception]:
    """Return the type of the error for a lost connection that the code of a class catches."""
    if ORIGINAL not in _homes(kind):
        return Disconnected
    original: type[Exception] = sys.modules["workflows"].Disconnected
    return type("Disconnected", (original, TransportError), {})
