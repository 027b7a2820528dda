"""Transports that a program constructs itself; site file and command line say how they connect."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from zwrap.compat.workflows.transport.common_transport import MessageCallback
from zwrap.compat.workflows.transport.contract_transport import ContractTransport
from zwrap.compat.workflows.transport.site import site
from zwrap.configuration.recipe_id import recipe_context
from zwrap.errors import PermanentError, TransportError
from zwrap.host.backoff import pause_after
from zwrap.host.forks import ending_children
from zwrap.host.processes import host_id
from zwrap.message.limits import DEFAULTS
from zwrap.service.contract import opened
from zwrap.service.deadletter import dead_letter_reason, put_aside
from zwrap.service.faults import as_failure, told
from zwrap.service.settling import (
    RETRY_FIRST_S,
    RETRY_LAST_S,
    check_deliveries,
    settle_fault,
)
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import recipe_id_of
from zwrap.transport.options import BrokerOptions, TransportChoice

log = logging.getLogger(__name__)

POLL_S = 0.5
"""Longest time after which an end of the connection is noticed, in seconds."""

DELIVERY_LIMIT = 5
"""Number of deliveries after which a message that was not settled becomes a dead letter."""


class SiteTransport(ContractTransport):
    """A transport that opens its own connection, and calls callbacks on a thread of its own.

    `config` (values of a command line) and `defaults` (values of a program) go before the site
    configuration; keys are those of `options`.
    """

    name: ClassVar[str]
    """Name of the transport in zwrap."""
    options: ClassVar[dict[str, str]] = {}
    """Option of the command line to its field in `BrokerOptions`."""
    defaults: ClassVar[dict[str, Any]] = {}
    config: ClassVar[dict[str, Any]] = {}

    def __init__(self, middleware: list[Any] | None = None) -> None:
        super().__init__(None, _reject, middleware=middleware)
        self._receiver: threading.Thread | None = None
        self._beginning = threading.Lock()
        self._stop = threading.Event()
        self._limits = DEFAULTS

    @classmethod
    def add_command_line_options(cls, parser: Any) -> None:
        """Declare `options` on a parser of argparse or optparse; what is given is in `config`."""
        for option in cls.options:
            about = {"metavar": option.rpartition("-")[2].upper(), "help": f"option of {cls.name}"}
            if "add_argument" in dir(parser):
                parser.add_argument(option, action=_keeping(cls, option), **about)
            else:
                parser.add_option(
                    option, action="callback", type="string", nargs=1, callback=cls._keep, **about
                )

    @classmethod
    def _keep(cls, option: object, name: str, value: str, parser: object) -> None:
        """Keep a value of a command line that optparse reads."""
        del option, parser
        cls.config[name] = value

    def connect(self) -> bool:
        """Open the connection, if there is none; return True.

        Raises Disconnected if the other side cannot be reached, and ConfigurationError.
        """
        if self.connection is None:
            given = {**self.defaults, **self.config}
            fields = {self.options[key]: str(given[key]) for key in given if key in self.options}
            choice = TransportChoice(self.name, BrokerOptions(**fields) if fields else None)
            self._limits = site().site.limits
            self.open_names = self._limits.open_names
            try:
                self.connection = connect(site(), choice)
            except TransportError as error:
                raise self._disconnected(str(error)) from error
            self.connection.largest_body = self._limits.body_bytes
        self._ended = False
        return True

    def disconnect(self) -> None:
        """Let the callback at work end, give back what is in hand, and close the connection."""
        self._stop.set()
        receiver, self._receiver = self._receiver, None
        if receiver and receiver is not threading.current_thread():
            receiver.join()
        super().disconnect()
        connection, self.connection = self.connection, None
        if connection:
            connection.close()

    def _subscribe(
        self, sub_id: int, channel: str, callback: MessageCallback, **options: Any
    ) -> None:
        super()._subscribe(sub_id, channel, callback, **options)
        self._begin()

    def _subscribe_broadcast(
        self, sub_id: int, channel: str, callback: MessageCallback, **options: Any
    ) -> None:
        super()._subscribe_broadcast(sub_id, channel, callback, **options)
        self._begin()

    def _begin(self) -> None:
        """Start the thread of the callbacks, if it does not run yet."""
        with self._beginning:
            if self._receiver is None and self.connection is not None:
                self._stop.clear()
                self._receiver = threading.Thread(
                    target=self._receive, args=(self.connection,), name="callbacks", daemon=True
                )
                self._receiver.start()

    def _receive(self, connection: Transport) -> None:
        """Call callbacks until `disconnect`; what is wrong with one message stays with it."""
        failures = 0
        while not self._stop.is_set():
            try:
                delivery = connection.receive(POLL_S)
            except TransportError as error:
                failures += 1
                log.warning("Messages cannot be received now: %s", error)
                self._stop.wait(pause_after(failures, RETRY_FIRST_S, RETRY_LAST_S))
                continue
            except Exception:
                log.critical("No more messages are received: the connection failed", exc_info=True)
                self._ended = True
                return
            failures = 0
            if delivery is not None:
                self._handle(delivery)

    def _handle(self, delivery: Delivery) -> None:
        """Pass a message to its callbacks, and settle it if they fail."""
        with recipe_context(recipe_id_of(delivery.message)):
            try:
                with ending_children():
                    if delivery.topic:
                        self.hear(delivery.source, delivery.message)
                    else:
                        check_deliveries(delivery, DELIVERY_LIMIT)
                        opened(delivery.message, self._limits)
                        self.deliver(delivery)
            except BaseException as error:
                failure = as_failure(error)
                log.error("Message %s: the callback failed", delivery.message.id, exc_info=failure)
                if not delivery.settled:
                    _settled(delivery, failure)


def _settled(delivery: Delivery, failure: Exception) -> None:
    """Settle a message that failed; a transport that is away gives it back by itself."""
    try:
        _settle(delivery, failure)
    except TransportError as error:
        log.warning("Message %s cannot be settled now: %s", delivery.message.id, error)


def _reject(deliveries: Sequence[Delivery], reason: Exception) -> None:
    """Settle messages that were rejected."""
    for delivery in deliveries:
        _settle(delivery, reason)


def _settle(delivery: Delivery, reason: Exception) -> None:
    """Give a message back, later after each failure; past the limit it is a dead letter."""

    def give_up(text: str) -> None:
        put_aside(delivery, dead_letter_reason(delivery, text, f"program {host_id()}"))

    if isinstance(reason, PermanentError):
        give_up(told(reason))
        return
    settle_fault(
        delivery,
        reason,
        DELIVERY_LIMIT,
        again=lambda each: each.retry(
            pause_after(each.delivery_count, RETRY_FIRST_S, RETRY_LAST_S)
        ),
        give_up=give_up,
    )


def _keeping(kind: type[SiteTransport], option: str) -> type[argparse.Action]:
    """Return the action of argparse that keeps a value in `kind.config`."""

    class Keep(argparse.Action):
        def __call__(
            self, parser: object, namespace: object, values: object, option_string: object = None
        ) -> None:
            del parser, option_string
            kind.config[option] = values
            setattr(namespace, self.dest, values)

    return Keep
