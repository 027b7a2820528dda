"""Enumerations of RabbitMQ's management API, with the names of ``zocalo.util.rabbitmq``."""

from __future__ import annotations

import enum


class HashingAlgorithm(enum.StrEnum):
    """The ways to hash a password."""

    rabbit_password_hashing_sha256 = "rabbit_password_hashing_sha256"  # noqa: S105 - a name
    rabbit_password_hashing_sha512 = "rabbit_password_hashing_sha512"  # noqa: S105
    rabbit_password_hashing_md5 = "rabbit_password_hashing_md5"  # noqa: S105


class DestinationType(enum.Enum):
    """The kind of destination of a binding."""

    QUEUE = "q"
    EXCHANGE = "e"


class ExchangeType(enum.StrEnum):
    """The types of exchange of RabbitMQ, and of its plug-in for delayed messages."""

    direct = "direct"
    topic = "topic"
    headers = "headers"
    fanout = "fanout"
    x_delayed_message = "x-delayed-message"


class PolicyApplyTo(enum.StrEnum):
    """The kinds of object to which a policy applies."""

    queues = "queues"
    exchanges = "exchanges"
    all = "all"


class QueueState(enum.StrEnum):
    """The states of a queue."""

    running = "running"
    syncing = "syncing"
    message_count = "message_count"


class ConnectionState(enum.StrEnum):
    """The states of a connection."""

    starting = "starting"
    tuning = "tuning"
    opening = "opening"
    running = "running"
    flow = "flow"
    blocking = "blocking"
    blocked = "blocked"
    closing = "closing"
    closed = "closed"


class NodeType(enum.StrEnum):
    """The types of a node."""

    disc = "disc"
    ram = "ram"
