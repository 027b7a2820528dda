"""The contract of services: the queue that a service reads, and its work on each message.

`zwrap.service.loop` runs a service; `scripts/dispatcher` shows such a loop on one page.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from zwrap.configuration.key import site_key
from zwrap.configuration.recipe_id import recipe_context
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, PermanentError
from zwrap.host.forks import ending_children
from zwrap.message.content import Message
from zwrap.message.limits import Limits, is_deeper
from zwrap.plugins.former import Former, adopt
from zwrap.recipe.envelope import Envelope
from zwrap.service.faults import Faults, as_failure
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import recipe_id_of
from zwrap.transport.signing import Signer


class Work(NamedTuple):
    """A message, and its envelope if it is a recipe message."""

    delivery: Delivery
    envelope: Envelope | None


STOP_GRACE_S = 60.0
"""Default of the time after which a service that was asked to stop ends as it is, in seconds.
systemd kills a service after 90 s."""

FORMER_NAMES = {"together": "batch_size", "attempts": "delivery_limit", "patience_s": "poll_s"}
"""Former name to present name of the attributes with which a service describes itself."""


class Service:
    """A long-running part of zwrap.

    A service with a `queue` implements `handle`; one without works in `idle`, or in `hear`.
    """

    queue: str | None = None
    """Name of the queue that the service reads; None: it reads none."""
    prefetch: int = 1
    """Largest number of messages that the service holds unsettled."""
    exclusive: ClassVar[bool] = False
    """True if one instance reads the queue at a time, alone and in its order; others stand by. What
    all messages need is asked for by `available` before, and in an outage all messages that the
    service holds go back to their places in the queue."""
    topics: ClassVar[tuple[str, ...]] = ()
    """Topics whose messages are passed to `hear`."""
    batch_size: ClassVar[int] = 1
    """Largest number of waiting messages that are passed to `handle_all` as one batch."""
    unbounded: ClassVar[bool] = False
    """True if work on one message may take any time, so that silence does not mean a dead
    service."""
    plain_messages: ClassVar[bool] = False
    """True if the service accepts messages outside a recipe, too."""
    delivery_limit: int = 5
    """Number of deliveries after which a message that was not settled becomes a dead letter."""

    together = Former("batch_size")
    attempts = Former("delivery_limit")

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        adopt(cls, FORMER_NAMES)

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        self.configuration = configuration
        self.transport = transport
        self.limits = configuration.site.limits
        self.signer = transport.signer = Signer(site_key(configuration))
        transport.largest_body = self.limits.body_bytes
        transport.wait_for_room(0.0)  # messages to other queues go on

    @functools.cached_property
    def faults(self) -> Faults:
        """The faults that this service met."""
        return Faults()

    @property
    def name(self) -> str:
        """Name in status messages and for `zocalo.shutdown -s`."""
        return type(self).__name__

    @property
    def title(self) -> str:
        """Name for people in status messages."""
        return self.name

    @property
    def ended(self) -> bool:
        """True if the service wants to end; the loop ends after the messages at hand."""
        return False

    def begin(self) -> None:
        """Prepare for the first message; called once, before it. An exception ends the service."""

    def available(self) -> None:
        """Return if what every message needs is there; of an exclusive service only.

        It is called before the service reads its queue, and with back-off until it can, so it must
        not take longer than some seconds. `idle` is called only while the queue is read.

        Raises:
            OutageError: It is away at present.
            PermanentError: It will never be there; the service ends.
        """

    def poll_s(self) -> float:
        """Return the poll interval: the time without a message before `idle`, in seconds."""
        return 1.0

    def patience_s(self) -> float:
        """Return the default of `poll_s`, the present name of this method."""
        return Service.poll_s(self)

    def idle(self) -> None:
        """Do periodic work; called about every `poll_s` seconds while no message waits."""

    def hear(self, topic: str, message: Message) -> None:
        """Take note of a message that was broadcast on one of the `topics`."""

    def giving_up(self, delivery: Delivery, reason: str) -> None:
        """Take note of a message that is about to become a dead letter.

        After a crash the message comes again, and this is called once more. What all messages share
        and is away (OutageError) puts it off.
        """

    def gave_up(self, delivery: Delivery, reason: str) -> None:
        """Take note of a message that became a dead letter."""

    def stop_grace_s(self) -> float:
        """Return the longest time that the messages at hand may take after a stop, in seconds."""
        return STOP_GRACE_S

    def close(self) -> None:
        """Release what the service holds; called once, at the end."""

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Work on one message and settle it; a service that reads no queue needs no such method.

        Args:
            delivery: The message; `ack`, `retry`, `dead_letter` or a unit settles it.
            envelope: The envelope of a recipe message; None for a plain message.

        Raises:
            PermanentError: The message becomes a dead letter.
            OutageError: What all messages share is away; the service pauses, with back-off. An
                exclusive one gives back all that it holds.
            TemporaryError: The message comes again later; this delivery does not count.
            Exception: A fault of the service; the message comes again until `delivery_limit`.
        """
        del envelope
        raise MessageError(f"{self.name} takes no messages, so not {delivery.message.id} either.")

    def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
        """Work on a batch of messages; return the error of each, None for a settled message."""
        problems: list[Exception | None] = []
        for delivery, envelope in work:
            try:
                with recipe_context(recipe_id_of(delivery.message)), ending_children():
                    self.handle(delivery, envelope)
            except BaseException as error:
                problems.append(as_failure(error))
            else:
                problems.append(None)
        return problems

    def check_handler(self) -> None:
        """Raise PermanentError if the service has a queue and no method for its messages."""
        methods = (self.handle, self.handle_all)
        inherited = (Service.handle, Service.handle_all)
        if self.queue and tuple(getattr(each, "__func__", each) for each in methods) == inherited:
            kind = f"{type(self).__module__}.{type(self).__qualname__}"
            raise PermanentError(
                f"Service {self.name} ({kind}) cannot run: it reads queue {self.queue!r}, and "
                "implements neither 'handle' nor 'handle_all'."
            )

    def open(self, delivery: Delivery) -> Envelope | None:
        """Return the envelope of a recipe message, None for a plain message that is taken.

        Raises:
            MessageError: The service does not accept such a message.
        """
        envelope = opened(delivery.message, self.limits)
        if envelope or self.plain_messages:
            return envelope
        raise MessageError(
            f"Service {self.name} takes recipe messages only (header workflows-recipe: true)."
        )


def opened(message: Message, limits: Limits) -> Envelope | None:
    """Return the envelope of a recipe message, None for a plain message.

    Raises:
        MessageError: The message is nested too deep, or is no recipe message.
        RecipeError: Its recipe exceeds a limit, or leads to a queue or topic of zwrap's own.
    """
    if is_deeper(message.body, limits.depth):
        raise MessageError(
            f"The message is nested more than {limits.depth} deep (section limits, key "
            "'depth'); flatter values are expected."
        )
    if not message.is_recipe:
        return None
    envelope = Envelope.from_body(message.body, limits)
    envelope.recipe.check_destinations(limits)
    return envelope
