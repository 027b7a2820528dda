"""Service Schlockmeister: turn messages of any queue that come too often into dead letters."""

from __future__ import annotations

import logging

from zwrap.configuration.recipe_id import recipe_context
from zwrap.configuration.site import Configuration
from zwrap.errors import TransportError, ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.service.contract import Service
from zwrap.service.deadletter import put_aside
from zwrap.transport.contract import Transport
from zwrap.transport.diagnosis import diagnosis, recipe_id_of
from zwrap.transport.inspector import Inspector, Overdelivered

log = logging.getLogger(__name__)

LIMIT = 5
"""Number of deliveries that are allowed; python-zocalo's Schlockmeister has the same."""

INTERVAL_S = 15.0
"""Poll interval of the queues, in seconds."""


class Schlockmeister(Service):
    """Service that removes messages that were delivered too often, every `INTERVAL_S` seconds.

    Services of zwrap do that by themselves with the messages that they get. This one is for
    messages that kill their receivers, and for foreign consumers. It has no queue of its own.
    """

    def __init__(
        self, configuration: Configuration, transport: Transport, clock: Clock = elapsed
    ) -> None:
        super().__init__(configuration, transport)
        self._clock = clock
        self._looked_at = float("-inf")
        self._told: list[str] = []
        self._left_alone = False

    def idle(self) -> None:
        """Check all queues, and the settings of the broker, if `INTERVAL_S` is over."""
        now = self._clock()
        if now - self._looked_at < INTERVAL_S:
            return
        self._looked_at = now
        inspector = self.transport.inspector()
        if isinstance(inspector, Overdelivered):
            quarantine(inspector, LIMIT)
        elif not self._left_alone:
            self._left_alone = True
            log.info("There is nothing to take out of the queues here. %s", inspector.bounded_by)
        self._audit(inspector)

    def _audit(self, inspector: Inspector) -> None:
        """Log warnings about the settings of the broker, each when it is new."""
        try:
            found = inspector.audit()
        except ZwrapError as error:
            found = [f"It is not known which messages the broker puts aside: {error}"]
        for sentence in found:
            if sentence not in self._told:
                log.warning("%s", sentence)
        self._told = found


def quarantine(inspector: Overdelivered, limit: int) -> int:
    """Make each message that was delivered more than `limit` times a dead letter.

    Returns the number of messages.
    """
    count = 0
    for delivery in inspector.overdelivered(limit):
        message = delivery.message
        with recipe_context(recipe_id_of(message)):
            reason = diagnosis(delivery)
            try:
                put_aside(
                    delivery,
                    f"{reason}\nmessage {message.id}, queue {delivery.source}, "
                    f"attempt {delivery.delivery_count}, found by Schlockmeister",
                )
            except TransportError:
                raise
            except Exception:
                log.exception("Message %s of %s cannot be put aside", message.id, delivery.source)
                continue
            log.error("Message %s of %s is put aside. %s", message.id, delivery.source, reason)
        count += 1
    return count
