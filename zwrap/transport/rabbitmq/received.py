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
from zwrap.message import ID_HEADER, decode, identify, new_id
from zwrap.transport.copies import ATTEMPTS_HEADER, BY_BROKER, REASON_HEADER
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.connection import Consumer
from zwrap.transport.rabbitmq.publication import Publication
from zwrap.transport.rabbitmq.topology import Need

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, Deliver, Properties, Table

Kind = Literal["queue", "topic", "dead"]
"""Kind of subscription: a work queue, a topic, or the dead letters of a queue."""

_OF_DELIVERY = ("x-death", "x-first-death", "x-delivery-count")
"""Beginnings of headers that RabbitMQ itself writes; a copy starts without them."""


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
        limit_s = int(given) / 1000 if given and str(given).isdecimal() else float("inf")
        return time.monotonic() - self.arrived > limit_s

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
        self, attempts: int, added: Table, place: str | None = None, needs: tuple[Need, ...] = ()
    ) -> Publication:
        """Return a copy of the message, for its own queue or for queue `place`.

        `attempts` is the delivery count of the copy, `added` are further headers.
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
            ATTEMPTS_HEADER: attempts,
            **added,
        }
        properties.delivery_mode = 2
        properties.expiration = None
        properties.user_id = None  # the server accepts only the user of the connection, or none
        return Publication(
            "", place or self.source, self.body, properties, identity, mandatory=True, needs=needs
        )

    def dead_copy(self, reason: str, added: Table) -> Publication:
        """Return a copy for the dead letter queue, with the history that RabbitMQ itself writes."""
        place = topology.dead_letter_queue(self.source)
        copy = self.copy(1, added, place, (topology.dead_letters_exist(self.source),))
        headers = copy.properties.headers or {}
        del headers[ATTEMPTS_HEADER]
        death = {
            "count": 1,
            "reason": "rejected",
            "queue": self.source,
            "time": dt.datetime.now(dt.UTC),
            "exchange": "",
            "routing-keys": [self.source],
        }
        headers |= {
            REASON_HEADER: reason,
            "x-death": [death],
            "x-first-death-exchange": "",
            "x-first-death-queue": self.source,
            "x-first-death-reason": "rejected",
        }
        return copy

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


def as_table(value: object) -> object:
    """Return a header in a form that pika can write; pika has no floating point numbers."""
    if isinstance(value, dict):
        return {str(key): as_table(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_table(entry) for entry in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value)


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
