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
import pika

from zwrap.errors import MessageError
from zwrap.host.faults import is_shared
from zwrap.host.printable import well_formed
from zwrap.message import ID_HEADER, Outgoing, decode, identify, new_id
from zwrap.transport import refused
from zwrap.transport.copies import (
    ATTEMPTS_HEADER,
    BY_BROKER,
    EXPIRES_HEADER,
    REASON_HEADER,
    STUB_HEADER,
)
from zwrap.transport.failures import EncodingError
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.delays import Delay
from zwrap.transport.rabbitmq.faults import unwritable
from zwrap.transport.rabbitmq.publication import Publication
from zwrap.transport.rabbitmq.topology import Need
from zwrap.transport.refused import Refused
from zwrap.units import whole_number

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, Deliver, Properties, Table

Kind = Literal["queue", "topic", "dead"]
"""Kind of subscription: a work queue, a topic, or the dead letters of a queue."""

_OF_DELIVERY = ("x-death", "x-first-death", "x-delivery-count", EXPIRES_HEADER)
"""Beginnings of headers about earlier deliveries; a copy starts without them."""

REASON_LENGTH = 20_000
"""Largest number of characters of a reason. One frame, of 128 KiB, holds all headers."""

HEADERS_BYTES = 120_000
"""Largest size of all headers of a message, in bytes."""

SMALL_BYTES, SOME = 20_000, 200
"""Size of headers, in bytes, up to which it is only estimated, and the estimate for one that is not
a text, or for a name."""

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

        The time in the queue is known by the time of sending only, which has whole seconds.
        """
        given = whole_number(str(self.headers.get(EXPIRES_HEADER, "")))
        limit_ms = whole_number(str(self.properties.expiration or ""))
        if given is not None or limit_ms is None:
            return given
        waited_s = time.monotonic() - self.arrived
        stamp = self.properties.timestamp
        if isinstance(stamp, (int, float)):
            waited_s = max(waited_s, time.time() - stamp - 1)
        return int((time.time() - waited_s) * 1000) + limit_ms

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

    @property
    def delivery_count(self) -> int:
        """Number of deliveries: the number in a copy's header plus the quorum queue's count."""
        copies = self.headers.get(ATTEMPTS_HEADER)
        counted = self.headers.get("x-delivery-count")
        return (copies if isinstance(copies, int) else 1) + (
            counted if isinstance(counted, int) else 0
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
        """Return the headers as JSON values, without those in `hidden`."""
        return {key: plain(value) for key, value in self.headers.items() if key not in hidden}

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

        `added` are further headers.
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
        properties.delivery_mode = 2
        properties.expiration = delay.expiration if delay else None
        expires_ms = self.expires_ms if place is None else None
        if expires_ms is not None:
            properties.headers[EXPIRES_HEADER] = expires_ms
            left_ms = max(1, expires_ms - int(time.time() * 1000))
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
        self.identity()
        return Refused(
            self.source, False, self.plain_headers((ATTEMPTS_HEADER, EXPIRES_HEADER)), self.body
        )

    def _died(self, reason: str) -> Table:
        """Return the headers with the history and the reason of a death."""
        death = {
            "count": 1,
            "reason": "rejected",
            "queue": self.source,
            "time": dt.datetime.now(dt.UTC),
            "exchange": "",
            "routing-keys": [self.source],
        }
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


def written(message: Outgoing) -> Table:
    """Return the headers of a message; EncodingError if AMQP cannot hold them."""
    place = message.destination
    try:
        table = {well_formed(key): as_table(value) for key, value in message.headers.items()}
        properties = pika.BasicProperties(headers=table)
        # All of it in most messages is short, which need not be encoded twice to be measured.
        size = sum(len(value) if isinstance(value, str) else SOME for value in table.values())
        if size + SOME * len(table) > SMALL_BYTES:
            size = sum(map(len, properties.encode()))
    except Exception as error:
        if is_shared(error):
            raise
        raise unwritable(error) from None
    if size > HEADERS_BYTES:
        raise EncodingError(
            f"A message to {place!r} has headers of {size} bytes; AMQP can hold {HEADERS_BYTES}."
        )
    return table


def as_table(value: object) -> object:
    """Return a header in a form that pika can write; pika has no floating point numbers.

    Raises RecursionError if it is too deep.
    """
    if isinstance(value, dict):
        return {well_formed(str(key)): as_table(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_table(entry) for entry in value]
    if isinstance(value, str):
        return well_formed(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return well_formed(str(value))


def plain(value: object) -> object:
    """Return a header as a JSON value; AMQP has times, decimals and byte strings, too."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC).timestamp()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
