"""Services: plain loops around `Transport.receive`.

A service says which queue it reads and what it does with one message; `zwrap.service.loop`
is the loop. `scripts/dispatcher` shows it in one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from zwrap.configuration.recipe_id import recipe_context
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.message import Message
from zwrap.recipe.envelope import Envelope
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import recipe_id_of


class Work(NamedTuple):
    """A message and the recipe step that it is, if it is one."""

    delivery: Delivery
    envelope: Envelope | None


class Service:
    """What one service does with the messages of one queue."""

    queue: str | None = None
    """The queue that it reads; None: it reads none, and works when it is idle."""
    prefetch: int = 1
    topics: ClassVar[tuple[str, ...]] = ()
    """What it listens to besides; see `hear`."""
    batch_size: ClassVar[int] = 1
    """So many messages that wait are handed over together, to `handle_all`."""
    unbounded: ClassVar[bool] = False
    """Whether work on one message may take any time, so that a liveness check must not mind."""
    plain_messages: ClassVar[bool] = False
    """Whether messages outside a recipe are taken, too."""
    delivery_limit: int = 5
    """A message that was handed out so often and never settled is a dead letter."""

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        self.configuration = configuration
        self.transport = transport

    @property
    def name(self) -> str:
        """Name in status messages and for `zocalo.shutdown -s`."""
        return type(self).__name__

    def poll_s(self) -> float:
        """So long nothing may come until it is idle."""
        return 1.0

    def idle(self) -> None:
        """Called about every `poll_s` seconds while no message waits."""

    def hear(self, topic: str, message: Message) -> None:
        """Called with what is broadcast on one of its `topics`."""

    def gave_up(self, delivery: Delivery, reason: str) -> None:
        """Called when a message became a dead letter."""

    def close(self) -> None:
        """Called once at the end."""

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Work on one message and settle it; a service that reads no queue needs no such method.

        `envelope` is None for a plain message. PermanentError makes it a dead letter,
        TemporaryError a retry; anything else is a fault of the service and counts an attempt.
        """
        raise NotImplementedError

    def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
        """Work on messages that waited together; of each what went wrong with it, if anything."""
        problems: list[Exception | None] = []
        for delivery, envelope in work:
            try:
                with recipe_context(recipe_id_of(delivery.message)):
                    self.handle(delivery, envelope)
            except Exception as error:
                problems.append(error)
            else:
                problems.append(None)
        return problems

    def open(self, delivery: Delivery) -> Envelope | None:
        """The envelope of a recipe message; MessageError for one that is not taken."""
        if delivery.message.is_recipe:
            return Envelope.from_body(delivery.message.body)
        if not self.plain_messages:
            raise MessageError(
                f"Service {self.name} takes recipe messages only (header workflows-recipe: true)."
            )
        return None
