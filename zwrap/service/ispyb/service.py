"""Service ISPyB: writes what recipes found into the facility's database, each message once.

One instance reads the queue, in its order. A message is one transaction, which holds its rows, its
id and what was returned; only then the reply is sent and the message acknowledged. A message that
comes again finds its id, and the same reply is sent on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import sqlalchemy as sa

from zwrap.configuration.settings import ISPyBSettings
from zwrap.configuration.site import Configuration
from zwrap.errors import (
    MessageError,
    OutageError,
    PermanentError,
    TemporaryError,
    ZwrapError,
)
from zwrap.host.clock import Clock, elapsed
from zwrap.message.identity import new_id
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.service.ispyb import once
from zwrap.service.ispyb.contract import Call
from zwrap.service.ispyb.database import Database, HinderedError, check_installed
from zwrap.service.ispyb.givingway import GivingWay
from zwrap.service.ispyb.message import Answer, Request, Step, identity, later, read
from zwrap.transport.contract import Delivery, Transport

log = logging.getLogger(__name__)

DELIVERIES = 20
"""Number of deliveries of a message that was delivered before, and did not come through, after
which it is a dead letter: it may be what ends the service."""

FORGET_S = 600.0
"""Interval at which ids of old messages are forgotten, in seconds."""

REMEMBERED = 10_000
"""Largest number of messages that wait for something, and are remembered."""


class ISPyB(Service):
    """Service that writes into ISPyB (queue `ispyb_connector`), as python-dlstbx's does."""

    queue = "ispyb_connector"
    prefetch = 1
    """One, so that only a message that was in hand is ever delivered again. More were no faster."""
    exclusive: ClassVar[bool] = True
    plain_messages: ClassVar[bool] = True
    delivery_limit = 1_000_000
    """Far above what outages and brokers count; the service counts by itself (`DELIVERIES`)."""

    def __init__(
        self,
        configuration: Configuration,
        transport: Transport,
        database: Database | None = None,
        clock: Clock = elapsed,
    ) -> None:
        super().__init__(configuration, transport)
        check_installed("Service ISPyB")
        self._database = database or Database.of(configuration)
        self._once = once.Once(self._database)
        self._clock = clock
        self._checked = False
        self._giving_way = GivingWay()
        self._forgotten_at = float("-inf")
        self._first_s: OrderedDict[str, float] = OrderedDict()
        """Id of a message that did not come through, and did not end the service, to the time at
        which it was given to it first, in seconds since 1970."""

    def available(self) -> None:
        """Return if the database takes what is to be written; at first its table is checked.

        Raises:
            OutageError: The database is away.
            ConfigurationError: The table of written messages is missing, or of no use.
        """
        if not self._checked:
            self._once.check()
            self._checked = True
        self._once.available()

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Write one message, and send its reply."""
        name, is_own = identity(delivery, self.signer)
        again = delivery.delivery_count > 1
        mark = None if is_own or again else new_id()
        if again and name not in self._first_s:
            self._count(name, delivery)
        request = read(delivery.message, envelope, self.limits)
        if mark:
            self._once.forget_equal(name)
        try:
            answer = self._written(request, once.Key(name, mark), self._seen(name))
        except HinderedError as error:
            raise self._noted(name, self._hindered(name, error)) from None
        except TemporaryError as error:
            raise self._noted(name, later(error, request)) from None
        except PermanentError as error:
            raise self._noted(name, error) from None
        self._first_s.pop(name, None)
        self._giving_way.went_well(name)
        log.debug("Message %s is written: %s", name, _named(request.steps))
        with self.transport.unit(delivery) as unit:
            if envelope is not None:
                envelope.environment |= answer.environment
                for output, payload in answer.sent:
                    unit.send(*envelope.send(output, payload, default=output == "output"))
                reply = {"result": answer.result}
                unit.send(*envelope.send("output", reply, default=True))

    def _count(self, name: str, delivery: Delivery) -> None:
        """Count a redelivery; MessageError if the message has been delivered too often."""
        if (count := self._once.count(name)) <= DELIVERIES:
            return
        self._once.forget_count(name)  # somebody may send the dead letter again
        raise MessageError(
            f"The message was delivered again {count} times, and each time the service ended "
            f"while it worked on it, or failed; it is delivery {delivery.delivery_count} by the "
            "broker. The log of the service says why."
        )

    def _seen(self, name: str) -> float:
        """Return the time at which a message was first given to this process."""
        return self._first_s.get(name) or time.time()

    def _noted(self, name: str, error: ZwrapError) -> ZwrapError:
        """Note that a message did not come through, for which it does not count; return the error.

        One that does not come again is forgotten.
        """
        if isinstance(error, PermanentError):
            self._first_s.pop(name, None)
            self._giving_way.forget(name)
            return error
        self._first_s.setdefault(name, time.time())
        while len(self._first_s) > REMEMBERED:
            self._first_s.popitem(last=False)
        return error

    def _hindered(self, name: str, error: HinderedError) -> MessageError | TemporaryError:
        """Return what follows for a message that was hindered: whether it waits alone, or all."""
        try:
            self._once.available()
        except OutageError:
            return error  # the database is away
        return self._giving_way.hindered(name, error)

    def _written(self, request: Request, key: once.Key, first_s: float) -> Answer:
        """Write what a message asks for, unless it is written; return what follows from it."""

        def work(connection: sa.Connection) -> Answer:
            stored = once.begin(connection, key)
            if stored is not None:
                log.info("Message %s was written before; its reply is sent again", key.id)
                return msgspec.convert(stored, Answer)
            answer = self._carried_out(request, connection, first_s)
            once.finish(connection, key, msgspec.to_builtins(answer))
            return answer

        return self._database.transact(work)

    def _carried_out(self, request: Request, connection: sa.Connection, first_s: float) -> Answer:
        """Carry out the commands of a message in a transaction; return what follows."""
        environment = dict(request.environment)
        added: dict[str, object] = {}
        sent: list[tuple[str, object]] = []
        result: object = None
        for number, step in enumerate(request.steps, 1):
            call = Call(
                step.command.name,
                step.sources,
                environment,
                connection,
                allowed=self.configuration.site.allowed,
                reinjected=request.reinjected,
                first_s=first_s,
            )
            result = _value(step, call)
            is_last = number == len(request.steps)
            for name in (*step.stores, *(request.stores if is_last else ())):
                environment[name] = added[name] = result
            sent += [(each.output, each.payload) for each in call.sent]
        return Answer(result, added, sent)

    def idle(self) -> None:
        """Forget ids of old messages, a slice at a time; that it fails hinders no message."""
        if self._clock() - self._forgotten_at < FORGET_S:
            return
        settings = self.configuration.site.ispyb or ISPyBSettings(plugin="ispyb")
        try:
            is_last = self._once.forget(settings.remembered_days) < once.SLICE
        except OutageError as error:
            log.info("Old messages cannot be forgotten now: %s", error)
            is_last = True
        if is_last:
            self._forgotten_at = self._clock()

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()


def _named(steps: Sequence[Step]) -> str:
    """Return the names of the commands of a message, each with the number of times it is there."""
    counts = Counter(each.command.name for each in steps)
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _value(step: Step, call: Call) -> object:
    """Return the value of a command; what is wrong with it says which of several it is."""
    try:
        return step.command.function(call)
    except MessageError as error:
        if not step.place:
            raise
        raise MessageError(f"{step.place.capitalize()}: {error}") from None
    except sa.exc.DBAPIError as error:
        place = f" ({step.place})" if step.place else ""
        error.add_note(f"Command {call.command!r}{place}")
        raise
