"""Queues and dead letters of an ActiveMQ server, asked over Jolokia (plugin `jmx`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.transport.contract import Delivery
from zwrap.transport.copies import ATTEMPTS_HEADER
from zwrap.transport.inspector import Inspector, Overdelivered
from zwrap.transport.stomp.jolokia import Jolokia, jolokia_from
from zwrap.transport.stomp.places import DEAD, Places

if TYPE_CHECKING:
    from zwrap.transport.stomp.transport import StompTransport

QUIET_S = 0.5
"""Time without a message after which no further message matches, in seconds."""


class StompInspector(Inspector, Overdelivered):
    """The queues of an ActiveMQ server, seen from one connection.

    All methods but `subscribe_dead_letters` raise ConfigurationError if the site has no plugin
    `jmx`.
    """

    def __init__(
        self, transport: StompTransport, places: Places, configuration: Configuration | None
    ) -> None:
        self._transport = transport
        self._places = places
        self._configuration = configuration

    @property
    def _jolokia(self) -> Jolokia:
        """Management of the server; raises ConfigurationError without plugin `jmx`."""
        return jolokia_from(self._configuration)

    def queues(self) -> dict[str, int]:
        """Return the number of waiting messages of all queues with the prefix, by name."""
        self._transport.flush()
        begin = self._places.name("")
        return {
            name.removeprefix(begin): size
            for name, size in sorted(self._jolokia.sizes().items())
            if name.startswith(begin) and not name.startswith(f"{DEAD}.")
        }

    def waiting(self, queue: str) -> int:
        """Return the number of waiting messages, and of those delayed by this connection."""
        self._transport.flush()
        sizes = self._jolokia.sizes(self._places.name(queue))
        return sum(sizes.values()) + self._transport.delayed(queue)

    def exists(self, queue: str, *, dead: bool = False) -> bool | None:
        """Return whether the server has a queue; None without plugin `jmx`."""
        if self._configuration is None or self._configuration.site.jmx is None:
            return None
        place = self._places.dead_name(queue) if dead else self._places.name(queue)
        return bool(self._jolokia.sizes(place))

    def consumers(self, queue: str) -> int:
        """Return the number of subscriptions; 0 if there is no such queue."""
        return self._jolokia.consumers(self._places.name(queue))

    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each queue that has any, by the queue's name."""
        self._transport.flush()
        begin = self._places.dead_name("")
        return _beginning(self._jolokia.sizes(f"{begin}*"), begin)

    def dead_letters_of(self, namespace: str) -> dict[str, int]:
        """Return the number of dead letters of each queue with a prefix, by the queue's name.

        Raises MessageError if no queue of the server begins with the prefix, unless that is the
        prefix of the connection.
        """
        places = Places(namespace)
        begins = (places.name(""), places.dead_name(""))
        if begins[0] == self._places.name(""):
            return self.dead_letters()
        sizes = self._jolokia.sizes()
        if not any(name.startswith(begins) for name in sizes):
            raise MessageError(
                f"No queue of the server begins with {begins[0]!r} or {begins[1]!r}. On ActiveMQ "
                f"-n takes the prefix of a site's queues; that of this connection is "
                f"{self._places.name('').removesuffix('.')!r}."
            )
        return _beginning(sizes, begins[1])

    def subscribe_dead_letters(self, queue: str, prefetch: int = 1) -> None:
        """Begin to receive the messages of the dead letter queue of `queue`."""
        self._transport.read(self._places.dead(queue), queue, "dead", prefetch)

    def overdelivered(self, limit: int) -> Iterator[Delivery]:
        """Receive each waiting message that was delivered more than `limit` times.

        The server itself counts deliveries and selects by that number. There is a subscription for
        each queue: measured with 5.17, a selector on a wildcard misses messages.
        """
        ours = ", ".join(f"'{number}'" for number in range(limit + 1, limit + 100))  # text only
        selector = f"JMSXDeliveryCount > {limit} OR {ATTEMPTS_HEADER} IN ({ours})"
        subscriptions = [
            self._transport.read(self._places.queue(queue), queue, "overdelivered", 1, selector)
            for queue, size in self.queues().items()
            if size
        ]
        try:
            while (delivery := self._transport.receive(QUIET_S)) is not None:
                yield delivery
        finally:
            for subscription in subscriptions:
                self._transport.end(subscription)


def _beginning(sizes: dict[str, int], begin: str) -> dict[str, int]:
    """Return the sizes, above 0, of the queues with a prefix, by their names without it."""
    return {
        name.removeprefix(begin): size
        for name, size in sorted(sizes.items())
        if size and name.startswith(begin)
    }
