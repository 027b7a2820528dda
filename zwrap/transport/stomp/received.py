"""A message that ActiveMQ delivered: its identity, its history and its copies.

A retry, and a dead letter with its reason, is a copy, because ActiveMQ cannot change a message.
"""

from __future__ import annotations

import contextlib
import time
from typing import Literal

import msgspec
from stomp.utils import Frame

from zwrap.message import ID_HEADER, identify
from zwrap.transport.copies import ATTEMPTS_HEADER, BY_BROKER, REASON_HEADER
from zwrap.transport.stomp.frames import frame
from zwrap.transport.stomp.link import Link

Kind = Literal["queue", "topic", "dead", "overdelivered"]
"""Kind of subscription: a work queue, a topic, dead letters, or messages delivered too often."""

_SERVERS_OWN = frozenset(
    {
        "content-length", "destination", "expires", "message-id", "subscription", "timestamp",
        "redelivered", "priority", "persistent", "ack", "receipt", "transaction", "content-type",
        "original-destination", "originalExpiration", "dlqDeliveryFailureCause", "scheduledJobId",
        "AMQ_SCHEDULED_DELAY", "transformation-error",
    }
)  # fmt: skip
"""Headers that the server, or STOMP itself, adds to those of the sender."""

_HISTORY = ("original-destination", "originalExpiration", "dlqDeliveryFailureCause", REASON_HEADER)
"""Headers that tell how a message became a dead letter."""


class Received(msgspec.Struct):
    """A delivered message, and the link on which it must be settled."""

    link: Link
    headers: dict[str, str]
    body: bytes
    source: str
    """Queue or topic of the subscription."""
    kind: Kind
    arrived: float
    """Time of arrival, by the monotonic clock."""

    @property
    def own_headers(self) -> dict[str, str]:
        """Headers that the sender gave."""
        return {key: value for key, value in self.headers.items() if key not in _SERVERS_OWN}

    @property
    def expired(self) -> bool:
        """True if the message expired after its delivery; the server removes it before."""
        with contextlib.suppress(KeyError, ValueError):
            expires, stamp = int(self.headers["expires"]), int(self.headers["timestamp"])
            return bool(expires) and time.monotonic() - self.arrived > (expires - stamp) / 1000
        return False

    @property
    def redelivered(self) -> bool:
        """True if the message was delivered before."""
        return self.headers.get("redelivered") == "true"

    @property
    def delivery_count(self) -> int:
        """Number of deliveries, by the header of copies."""
        given = self.headers.get(ATTEMPTS_HEADER, "")
        return int(given) if given.isdecimal() else 1

    @property
    def identity(self) -> str:
        """Id of the message."""
        return identify(None, self.own_headers, self.headers.get("message-id"))

    @property
    def reason(self) -> str:
        """Reason of a dead letter, given by zwrap or by the server."""
        if self.kind != "dead":
            return ""
        cause = self.headers.get("dlqDeliveryFailureCause")
        return self.headers.get(REASON_HEADER) or (f"{BY_BROKER}{cause}" if cause else "")

    @property
    def sent_at(self) -> float | None:
        """Time of sending, in seconds since the epoch."""
        stamp = self.headers.get("timestamp", "")
        return int(stamp) / 1000 if stamp.isdecimal() else None

    def copy(self, place: str, attempts: int | None = None) -> Frame:
        """Return a copy of the message, for destination `place`.

        `attempts` is the delivery count of the copy; None: the copy has no count.
        """
        headers = self.own_headers
        headers.pop(ATTEMPTS_HEADER, None)
        headers |= {"destination": place, "persistent": "true", ID_HEADER: self.identity}
        if attempts is not None:
            headers[ATTEMPTS_HEADER] = str(attempts)
        headers["content-length"] = str(len(self.body))
        return frame("SEND", headers, self.body)

    def dead_copy(self, place: str, reason: str, original: str) -> Frame:
        """Return a copy for the dead letter queue `place`, with the history of its death."""
        told = {
            REASON_HEADER: reason,
            "original-destination": original,
            "originalExpiration": self.headers.get("expires", "0"),
        }
        copy = self.copy(place)
        copy.headers |= frame("", told).headers
        return copy

    def back(self, place: str) -> Frame:
        """Return a copy of a dead letter, for its dead letter queue, with its history."""
        kept = {name: self.headers[name] for name in _HISTORY if name in self.headers}
        copy = self.copy(place)
        copy.headers |= frame("", kept).headers
        return copy
