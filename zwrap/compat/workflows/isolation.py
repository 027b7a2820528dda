"""Redelivery of the messages of a failed batch one by one, so that a bad one fails alone."""

from __future__ import annotations

from collections.abc import Sequence

from zwrap.host.clock import Clock
from zwrap.transport.contract import Delivery

REMEMBERED = 10_000
"""Largest number of messages of failed batches that are remembered."""


class Isolation:
    """The messages of failed batches, and what waits because of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._suspects: dict[str, None] = {}
        """Ids of the messages, the oldest first."""
        self._since = clock()
        self.waiting: list[Delivery] = []
        """Messages that wait until one of a failed batch is settled, or until it comes."""

    def suspect(self, deliveries: Sequence[Delivery]) -> None:
        """Let each of several messages be alone when it comes again."""
        self._suspects |= dict.fromkeys(each.message.id for each in deliveries)
        while len(self._suspects) > REMEMBERED:
            del self._suspects[next(iter(self._suspects))]

    def is_due(self, delivery: Delivery, in_hand: Sequence[Delivery], patience_s: float) -> bool:
        """Tell whether a message may be passed on now, beside those in hand.

        A class that settles its messages only when more come gets them after `patience_s`.
        """
        first = not self.waiting or self.waiting[0] is delivery
        known = any(each.message.id in self._suspects for each in [delivery, *in_hand])
        alone = not in_hand or not known or self._clock() >= self._since + patience_s
        return first and alone

    def passed(self, delivery: Delivery) -> None:
        """Note that a message is passed on."""
        self._since = self._clock()
        self.waiting = [each for each in self.waiting if each is not delivery]

    def ended(self, delivery: Delivery) -> None:
        """Forget a message that was handled."""
        self._suspects.pop(delivery.message.id, None)
