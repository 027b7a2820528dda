"""Messages on their way to RabbitMQ: single ones, and groups that are confirmed as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zwrap.errors import ZwrapError
from zwrap.transport.pipelined import PendingWork
from zwrap.transport.rabbitmq.topology import Need

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Properties


class Publication:
    """One message on its way to the server, and what must exist before it is published."""

    __slots__ = ("body", "exchange", "identity", "mandatory", "needs", "properties", "routing_key")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Properties,
        identity: str,
        *,
        mandatory: bool,
        needs: Sequence[Need] = (),
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.properties = properties
        self.identity = identity
        self.mandatory = mandatory
        """True if the message must reach a queue."""
        self.needs = needs


class Messages(PendingWork):
    """Messages that are confirmed as one piece of work."""

    __slots__ = ("missing", "open", "publications", "published_at", "tries")

    def __init__(
        self,
        publications: list[Publication],
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[ZwrapError | None], None] = lambda _: None,
    ) -> None:
        super().__init__(valid=valid, after=after)
        self.publications = publications
        self.missing = self.needs
        self.open = 0
        """Number of messages that are published and not confirmed."""
        self.tries = 0
        """Number of channels that were closed while messages were not confirmed."""
        self.published_at = 0.0

    @property
    def needs(self) -> list[Need]:
        """Everything that must exist before the messages can be published."""
        return [need for publication in self.publications for need in publication.needs]
