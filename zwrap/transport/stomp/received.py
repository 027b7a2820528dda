"""A message that ActiveMQ delivered: its identity, its history and its copies.

A retry, and a dead letter with its reason, is a copy, because ActiveMQ cannot change a message.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Literal

import msgspec
from stomp.utils import Frame

from zwrap.host.printable import well_formed
from zwrap.message.content import ID_HEADER
from zwrap.message.identity import identify
from zwrap.transport import refused
from zwrap.transport.copies import (
    ATTEMPTS_HEADER,
    BY_BROKER,
    EXPIRES_HEADER,
    LIFETIME_HEADER,
    REASON_HEADER,
    STUB_HEADER,
)
from zwrap.transport.stomp.frames import fitting, frame, unescaped
from zwrap.transport.stomp.link import Link
from zwrap.units import whole_number

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


_PROPERTIES = ("priority", "persistent", "content-type")
"""Headers of the server that are the sender's wish; a copy has the same."""

TEXT = "text"
"""Property of a message without ``content-length``, which JMS receives as a text."""

HIDDEN = (ATTEMPTS_HEADER, EXPIRES_HEADER, LIFETIME_HEADER)
"""Headers of zwrap's own that receivers do not see."""

STUB_HEADERS, STUB_KEY, STUB_VALUE = 50, 60, 300
"""Largest number of headers of a stub, and of characters of their names and values."""


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
    in_order: bool = False
    """True if the message was delivered to an exclusive reader, and is to keep its place."""

    @property
    def own_headers(self) -> dict[str, str]:
        """Headers that the sender gave."""
        return {key: value for key, value in self.headers.items() if key not in _SERVERS_OWN}

    @property
    def properties(self) -> dict[str, object]:
        """Properties of the message, with which it is passed on and tried again."""
        kept: dict[str, object] = {"persistent": "false"}
        kept |= {name: self.headers[name] for name in _PROPERTIES if name in self.headers}
        return kept if "content-length" in self.headers else {**kept, TEXT: True}

    @property
    def expires_ms(self) -> int | None:
        """Time at which the message expires, in milliseconds since the epoch; None: never."""
        given = self.headers.get(EXPIRES_HEADER) or self.headers.get("expires", "")
        return whole_number(given) or None

    @property
    def lifetime_ms(self) -> int | None:
        """Lifetime that the sender gave, of a dead letter before it died; None: no end."""
        if given := whole_number(self.headers.get(LIFETIME_HEADER, "")):
            return given
        end, sent = self.expires_ms, whole_number(self.headers.get("timestamp", ""))
        if REASON_HEADER not in self.headers:  # the copies of earlier releases have another time
            end = whole_number(self.headers.get("originalExpiration", "")) or end
        return end - sent if end and sent and end > sent else None

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
        """Number of deliveries, by the header of copies; one that keeps its place has no other."""
        copies = whole_number(self.headers.get(ATTEMPTS_HEADER, "")) or 1
        return copies + (self.in_order and self.redelivered)

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
        milliseconds = whole_number(stamp)
        return None if milliseconds is None else milliseconds / 1000

    def copy(self, place: str, delivery_count: int | None = None) -> Frame:
        """Return a copy of the message, for destination `place`.

        `delivery_count` None: the copy has no count.
        """
        headers = self.own_headers
        for name in HIDDEN:
            headers.pop(name, None)
        headers |= {"destination": place, ID_HEADER: self.identity}
        headers |= written(self.properties, self.body)
        if self.lifetime_ms is not None:
            headers[LIFETIME_HEADER] = str(self.lifetime_ms)
        if delivery_count is not None:
            headers[ATTEMPTS_HEADER] = str(delivery_count)
            if self.expires_ms is not None:
                expires = str(self.expires_ms)
                headers |= {"expires": expires, EXPIRES_HEADER: expires}
        return frame("SEND", headers, self.body)

    def dead_copy(self, place: str, reason: str, original: str) -> Frame:
        """Return a copy for the dead letter queue `place`, with the history of its death."""
        told = {
            "persistent": "true",
            REASON_HEADER: fitting(reason),
            "original-destination": original,
            "originalExpiration": self.headers.get("expires", "0"),
        }
        copy = self.copy(place)
        copy.headers |= frame("", told).headers
        return copy

    def stub(self, dead: Frame, place: str) -> Frame:
        """Return the short form of a dead letter `dead` that the server does not take whole.

        It has the headers that fit, the beginning of the body, and the sentence that tells the
        `place` of the whole message.
        """
        kept = {
            well_formed(key, STUB_KEY): well_formed(value, STUB_VALUE)
            for key, value in list(self.own_headers.items())[:STUB_HEADERS]
        }
        body = refused.stub(self.body, place)
        told = {
            name: unescaped(dead.headers[name])
            for name in ("destination", "persistent", ID_HEADER, *_HISTORY)
            if name in dead.headers
        }
        own = {**kept, **told, STUB_HEADER: place, "content-length": str(len(body))}
        return frame("SEND", own, body)

    def back(self, place: str) -> Frame:
        """Return a copy of a dead letter, for its dead letter queue, with its history."""
        kept = {name: self.headers[name] for name in _HISTORY if name in self.headers}
        copy = self.copy(place)
        copy.headers |= frame("", kept).headers
        return copy


def written(properties: Mapping[str, object], body: bytes) -> dict[str, str]:
    """Return the headers of a frame for the properties of a message that is passed on."""
    headers = {name: str(properties[name]) for name in _PROPERTIES if name in properties}
    if TEXT not in properties:
        headers["content-length"] = str(len(body))
    return headers
