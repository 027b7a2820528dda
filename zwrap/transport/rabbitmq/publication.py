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

    @property
    def place(self) -> str:
        """Name of the queue for which the message is, else of the exchange."""
        return self.routing_key or self.exchange


class Messages(PendingWork):
    """Messages that are confirmed as one piece of work."""

    __slots__ = (
        "kept", "left", "missing", "open", "published_at", "refused", "suspect", "tries",
    )  # fmt: skip

    def __init__(
        self,
        publications: Sequence[Publication],
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[ZwrapError | None], None] = lambda _: None,
    ) -> None:
        super().__init__(valid=valid, after=after)
        self.left = dict.fromkeys(publications)
        """Messages that are not confirmed."""
        self.missing = self.needs
        self.open = 0
        """Number of messages that are published and neither confirmed nor refused."""
        self.refused: Publication | None = None
        """Message to which the failure applies; None: it applies to all, or there is none."""
        self.kept = ""
        """Sentence about the file that keeps the refused message, if there is one."""
        self.suspect = False
        """True if one of the messages may be why the server closed the channel; each is then
        published while no other is unconfirmed, so that the next time it is known."""
        self.tries = 0
        """Number of channels that were closed while messages were not confirmed."""
        self.published_at = 0.0

    @property
    def needs(self) -> list[Need]:
        """Everything that must exist before the messages can be published."""
        return [need for publication in self.left for need in publication.needs]

    def fail(self, failure: ZwrapError, refused: Publication | None = None) -> None:
        """Note a failure, of one of the messages if it is known which; the first one counts."""
        if self.failure is None:
            self.failure, self.refused = failure, refused
