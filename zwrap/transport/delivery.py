"""A received message, the ways to settle it, and what is needed to pass it on unchanged."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from zwrap.host.printable import printable_reason
from zwrap.message.content import Message
from zwrap.plugins.former import Former

if TYPE_CHECKING:
    from zwrap.transport.contract import Transport


class Verb(enum.Enum):
    """The three ways to settle a delivery."""

    ACK = "ack"
    RETRY = "retry"
    DEAD_LETTER = "dead letter"


class Settlement(msgspec.Struct, frozen=True):
    """The way in which a delivery is settled."""

    verb: Verb
    reason: str = ""
    """Reason of a dead letter."""
    delay_s: float = 0.0
    """Time until a message that is given back may be delivered again, in seconds."""
    counted: bool = True
    """False if this delivery of a message that is given back does not count."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "reason", printable_reason(self.reason))


ACK = Settlement(Verb.ACK)


class Delivery:
    """One received message, which must be settled exactly once if it came from a queue.

    Settling it again raises SettledError.
    """

    def __init__(
        self,
        transport: Transport,
        message: Message,
        source: str,
        *,
        delivery_count: int,
        topic: bool,
        reason: str = "",
        sent_at: float | None = None,
        size: int = 0,
    ) -> None:
        self.message = message
        self.source = source
        """Name of the queue or topic from which the message came."""
        self.delivery_count = delivery_count
        """Number of deliveries of this message so far, this one included."""
        self.topic = topic
        """True for a broadcast, which needs no settlement."""
        self.reason = reason
        """Reason of a dead letter."""
        self.sent_at = sent_at
        """Time of sending, in seconds since the epoch; None where the transport does not know."""
        self.size = size
        """Size of the body, in bytes; 0: it is not known, as of a broadcast."""
        self.settled = topic
        self._transport = transport

    attempt = Former("delivery_count")

    @property
    def original(self) -> Original:
        """The message as it came, before it is settled, so that it can be passed on unchanged."""
        return self._transport.original(self)

    def ack(self) -> None:
        """Acknowledge the message, which was handled and is removed from its queue."""
        self._transport.commit([], [self], ACK)

    def retry(self, delay_s: float = 0.0, *, counted: bool = True) -> None:
        """Give the message back, to be delivered again.

        Args:
            delay_s: Time until the next delivery at the earliest, in seconds.
            counted: False if this delivery does not count, because the message was not at fault.
        """
        self._transport.commit([], [self], Settlement(Verb.RETRY, delay_s=delay_s, counted=counted))

    def dead_letter(self, reason: str) -> None:
        """Make the message a dead letter, with the reason, for a person to look at."""
        self._transport.commit([], [self], Settlement(Verb.DEAD_LETTER, reason))


class Original(msgspec.Struct, frozen=True):
    """What a message that is passed on has beside its headers, as its transport delivered it."""

    body: object
    """The body: its text (`msgspec.Raw`) where the transport has it, else the decoded value."""
    properties: Mapping[str, object] = {}
    """Properties of the transport's own by name, such as ``priority`` and ``reply_to``; under
    ``headers`` those whose value JSON cannot hold, as they came."""
    expires_s: float | None = None
    """Time until the message expires, in seconds, of a dead letter the lifetime that its sender
    gave; None: it does not expire."""
