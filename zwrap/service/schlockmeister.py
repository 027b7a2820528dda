"""Takes messages that were handed out too often out of all queues, with a diagnosis."""

from __future__ import annotations

import logging
import time

from zwrap.configuration.recipe_id import recipe_context
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, ZwrapError
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import diagnosis, recipe_id_of

log = logging.getLogger(__name__)

LIMIT = 5
"""Hand-outs that are allowed, as python-zocalo's Schlockmeister does."""

INTERVAL_S = 15.0


class Schlockmeister(Service):
    """Looks at all queues every `INTERVAL_S` seconds, for those whose consumers do not count.

    Services of zwrap put aside by themselves what they get too often. This one is for messages that
    kill whoever reads them, and for consumers of others.
    """

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._looked_at = float("-inf")
        self._told: list[str] = []

    def idle(self) -> None:
        """Look, if it is time to."""
        if time.monotonic() - self._looked_at >= INTERVAL_S:
            self._looked_at = time.monotonic()
            quarantine(self.transport, LIMIT)
            self._audit()

    def _audit(self) -> None:
        """Say, when it changes, what the broker will not put aside."""
        try:
            found = self.transport.audit()
        except ZwrapError as error:
            found = [f"It is not known what the broker puts aside: {error}"]
        for sentence in found:
            if sentence not in self._told:
                log.warning("%s", sentence)
        self._told = found

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Refuse: there is no queue of its own."""
        del envelope
        raise MessageError(f"{self.name} takes no message, not even {delivery.message.id}.")


def quarantine(transport: Transport, limit: int) -> int:
    """Make everything that was handed out more than `limit` times a dead letter; how many."""
    count = 0
    for delivery in transport.overdelivered(limit):
        with recipe_context(recipe_id_of(delivery.message)):
            reason = diagnosis(delivery)
            log.error(
                "Message %s of %s is put aside. %s", delivery.message.id, delivery.source, reason
            )
            delivery.dead_letter(
                f"{reason}\nmessage {delivery.message.id}, queue {delivery.source}, "
                f"attempt {delivery.delivery_count}, found by Schlockmeister"
            )
        count += 1
    return count
