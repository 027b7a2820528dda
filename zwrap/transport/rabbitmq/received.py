"""A message that RabbitMQ delivered: its identity, its history and its copies.

A retry, and a dead letter with its reason, is a copy, because RabbitMQ cannot change a message.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Mapping
from copy import copy as duplicate
from typing import TYPE_CHECKING, Literal

import msgspec

from zwrap.errors import MessageError
from zwrap.host.printable import well_formed
from zwrap.message.content import ID_HEADER
from zwrap.message.identity import identify, new_id
from zwrap.message.jsontext import decode
from zwrap.transport import refused
from zwrap.transport.copies import (
    ATTEMPTS_HEADER,
    BY_BROKER,
    EXPIRES_HEADER,
    LIFETIME_HEADER,
    REASON_HEADER,
    STUB_HEADER,
)
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.delays import Delay
from zwrap.transport.rabbitmq.headers import MODE_HEADER, PERSISTENT, TRANSIENT, plain
from zwrap.transport.rabbitmq.publication import Publication
from zwrap.transport.rabbitmq.topology import Need
from zwrap.transport.refused import Refused
from zwrap.units import whole_number

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, Deliver, Properties, Table

Kind = Literal["queue", "topic", "dead"]
"""Kind of subscription: a work queue, a topic, or the dead letters of a queue."""

_OF_DELIVERY = (
    "x-death", "x-first-death", "x-delivery-count", EXPIRES_HEADER, LIFETIME_HEADER,
)  # fmt: skip
"""Beginnings of headers about earlier deliveries; a copy starts without them."""

HIDDEN = (ATTEMPTS_HEADER, EXPIRES_HEADER, LIFETIME_HEADER, MODE_HEADER)
"""Headers of zwrap's own that receivers do not see."""

REASON_LENGTH = 20_000
"""Largest number of characters of a reason. One frame, of 128 KiB, holds all headers."""

STUB_HEADERS, STUB_KEY, STUB_VALUE = 50, 60, 300
"""Largest number of headers of a stub, and of characters of their names and values."""


class Received(msgspec.Struct):
    """A delivered message, and the channel on which it must be settled."""

    consumer: Consumer
    channel: Channel
    method: Deliver
    properties: Properties
    body: bytes
    source: str
    """Queue or topic to which the consumer subscribed."""
    kind: Kind
    arrived: float
    """Time of arrival, by the monotonic clock."""
    is_named: bool = False
    """True if the sender gave an id; `identity` adds one to the headers."""

    def __post_init__(self) -> None:
        self.is_named = ID_HEADER in self.headers

    @property
    def expired(self) -> bool:
        """True if the message expired after its delivery; the server removes it before."""
        given = self.properties.expiration
        limit_ms = whole_number(str(given)) if given else None
        limit_s = float("inf") if limit_ms is None else limit_ms / 1000
        return time.monotonic() - self.arrived > limit_s

    @property
    def expires_ms(self) -> int | None:
        """Time at which the message expires, in milliseconds since the epoch; None: never.

        The time in the queue is known by the time of sending only, which has whole seconds. It is
        that of another sending if the message would have expired before it arrived.
        """
        given = whole_number(str(self.headers.get(EXPIRES_HEADER, "")))
        limit_ms = whole_number(str(self.properties.expiration or ""))
        if given is not None or limit_ms is None:
            return given
        waited_s = time.monotonic() - self.arrived
        stamp = self.properties.timestamp
        if isinstance(stamp, (int, float)):
            since_s = time.time() - stamp - 1
            if since_s - waited_s < limit_ms / 1000:
                waited_s = max(waited_s, since_s)
        return int((time.time() - waited_s) * 1000) + limit_ms

    @property
    def lifetime_ms(self) -> int | None:
        """Lifetime that the sender gave, of a dead letter before it died; None: no end."""
        given = self.headers.get(LIFETIME_HEADER) or self.properties.expiration
        if self.kind == "dead":  # a message that was delayed has a history, too
            given = given or self._death.get("original-expiration")
        return whole_number(str(given or ""))

    @property
    def left_s(self) -> float | None:
        """Time until the message expires, of a dead letter the sender's lifetime; None: no end."""
        if self.kind == "dead":
            return None if self.lifetime_ms is None else self.lifetime_ms / 1000
        expires_ms = self.expires_ms
        return None if expires_ms is None else max(0.001, expires_ms / 1000 - time.time())

    @property
    def headers(self) -> Table:
        """Headers of the message, decoded by pika."""
        return self.properties.headers or {}

    @property
    def key(self) -> tuple[Channel, str]:
        """Channel and id, which are equal for copies from the same channel."""
        return self.channel, self.identity()

    @property
    def alive(self) -> bool:
        """True if the message can still be settled."""
        if self.consumer.channel is not self.channel:
            return False
        return bool(self.channel.is_open and self.channel.connection.is_open)

    def acknowledge(self) -> None:
        """Tell the server that the message is settled; for the connection's thread."""
        self.consumer.unsettled -= 1
        self.channel.basic_ack(self.method.delivery_tag)

    @property
    def is_uncounted(self) -> bool:
        """True for another delivery of a classic queue, which does not count them."""
        return bool(self.method.redelivered) and "x-delivery-count" not in self.headers

    @property
    def delivery_count(self) -> int:
        """Number of deliveries: the number in a copy's header plus the quorum queue's count.

        An exclusive reader gets messages a second time at their place, and not as a copy.
        """
        copies = self.headers.get(ATTEMPTS_HEADER)
        counted = self.headers.get("x-delivery-count")
        again = self.consumer.exclusive and self.is_uncounted
        return (copies if isinstance(copies, int) else 1) + (
            counted if isinstance(counted, int) else int(again)
        )

    @property
    def reason(self) -> str:
        """Reason of a dead letter, given by zwrap or by the server."""
        if self.kind != "dead":
            return ""
        given = self.headers.get(REASON_HEADER)
        if isinstance(given, str):
            return given
        return f"{BY_BROKER}{self._death.get('reason')}." if self._death else ""

    @property
    def sent_at(self) -> float | None:
        """Time of sending, else of a dead letter's death, in seconds since the epoch."""
        stamp = self.properties.timestamp
        if isinstance(stamp, (int, float)):
            return float(stamp)
        moment = self._death.get("time")
        if isinstance(moment, dt.datetime):
            return moment.replace(tzinfo=dt.UTC).timestamp()
        return None

    @property
    def _death(self) -> Mapping[str, object]:
        """Latest entry in RabbitMQ's history of a dead letter; empty without one."""
        deaths = self.headers.get("x-death")
        if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
            return deaths[0]
        return {}

    def identity(self, body: object = None) -> str:
        """Return the id of the message, and add it to the headers, so that copies have the same.

        `body` is the decoded body, if it is known already.
        """
        own = self.headers.get(ID_HEADER)
        if isinstance(own, str) and own:
            return own
        if body is None:
            with contextlib.suppress(MessageError):
                body = decode(self.body)
        identity = identify(body, self.headers) if body is not None else new_id()
        self.properties.headers = {**self.headers, ID_HEADER: identity}
        return identity

    def plain_headers(self, hidden: tuple[str, ...]) -> dict[str, object]:
        """Return the headers that came as JSON values, without those in `hidden`."""
        left_out = hidden if self.is_named else (*hidden, ID_HEADER)
        return {key: plain(value) for key, value in self.headers.items() if key not in left_out}

    def copy(
        self,
        delivery_count: int,
        added: Table,
        *,
        place: str | None = None,
        delay: Delay | None = None,
        needs: tuple[Need, ...] = (),
    ) -> Publication:
        """Return a copy of the message, for its own queue or for queue `place`.

        `added` are further headers. The copy outlives a restart of the server, whatever the sender
        of the message wanted: a retry or a dead letter that is lost helps nobody.
        """
        identity = self.identity()
        properties = duplicate(self.properties)
        properties.headers = {
            **{
                key: value
                for key, value in self.headers.items()
                if not key.startswith(_OF_DELIVERY)
            },
            ID_HEADER: identity,
            ATTEMPTS_HEADER: delivery_count,
            **added,
        }
        if properties.delivery_mode != PERSISTENT:
            properties.headers[MODE_HEADER] = TRANSIENT
            properties.delivery_mode = PERSISTENT
        properties.expiration = delay.expiration if delay else None
        expires_ms = self.expires_ms if place is None else None
        if expires_ms is not None:
            left_ms = max(1, expires_ms - int(time.time() * 1000))
            properties.headers[EXPIRES_HEADER] = expires_ms
            properties.headers[LIFETIME_HEADER] = self.lifetime_ms or left_ms
            properties.expiration = properties.expiration or str(left_ms)
        properties.user_id = None  # the server accepts only the user of the connection, or none
        if delay:
            needs = (*needs, delay.need)
        return Publication(
            delay.exchange if delay else "", place or self.source, self.body, properties,
            identity, mandatory=True, needs=needs,
        )  # fmt: skip

    def dead_copy(self, reason: str, added: Table) -> Publication:
        """Return a copy for the dead letter queue, with the history that RabbitMQ itself writes."""
        place = topology.dead_letter_queue(self.source)
        needs = (topology.dead_letters_exist(self.source),)
        copy = self.copy(1, added, place=place, needs=needs)
        headers = copy.properties.headers or {}
        del headers[ATTEMPTS_HEADER]
        headers |= self._died(reason)
        return copy

    def stub(self, reason: str, place: str) -> Publication:
        """Return a short dead letter in place of one that the server does not take.

        It has the headers that fit, the beginning of the body, and the sentence that tells the
        `place` of the whole message.
        """
        copy = self.dead_copy(f"{reason}\n{place}", {})
        kept = [
            (well_formed(key, STUB_KEY), well_formed(str(plain(value)), STUB_VALUE))
            for key, value in self.headers.items()
            if not key.startswith(_OF_DELIVERY)
        ]
        copy.properties.headers = {
            **dict(kept[:STUB_HEADERS]),
            **self._died(f"{reason}\n{place}"),
            STUB_HEADER: place,
            ID_HEADER: self.identity(),
        }
        copy.body = refused.stub(self.body, place)
        return copy

    def whole(self) -> Refused:
        """Return the message as one that is to be kept in a file."""
        headers = {**self.plain_headers(HIDDEN), ID_HEADER: self.identity()}
        return Refused(self.source, False, headers, self.body)

    def _died(self, reason: str) -> Table:
        """Return the headers with the history and the reason of a death."""
        death: Table = {
            "count": 1,
            "reason": "rejected",
            "queue": self.source,
            "time": dt.datetime.now(dt.UTC),
            "exchange": "",
            "routing-keys": [self.source],
        }
        if self.lifetime_ms is not None:
            death["original-expiration"] = str(self.lifetime_ms)
        return {
            REASON_HEADER: well_formed(reason, REASON_LENGTH),
            "x-death": [death],
            "x-first-death-exchange": "",
            "x-first-death-queue": self.source,
            "x-first-death-reason": "rejected",
        }

    def back(self) -> Publication:
        """Return an unchanged copy of a dead letter, for its dead letter queue.

        If the dead letter were given back, its delivery would count, and RabbitMQ 4 drops messages
        that were given back 20 times.
        """
        identity = self.identity()
        properties = duplicate(self.properties)
        properties.user_id = None
        place = topology.dead_letter_queue(self.source)
        return Publication("", place, self.body, properties, identity, mandatory=True)


def whole(publication: Publication) -> Refused:
    """Return a publication as a message that is to be kept in a file."""
    headers = {key: plain(value) for key, value in (publication.properties.headers or {}).items()}
    topic = not publication.mandatory
    own = topic or publication.exchange.startswith(topology.DELAY)
    exchange = "" if own else publication.exchange
    return Refused(publication.place, topic, headers, publication.body, exchange)
