"""Values of RabbitMQ's management API, with the names of ``zocalo.util.rabbitmq``.

Fields that a server does not send are None; fields that are not named here are ignored.
"""

from __future__ import annotations

import enum

import msgspec


class Spec(msgspec.Struct, kw_only=True):
    """A value that is sent to, and read from, the server."""


class VHostSpec(Spec, kw_only=True):
    """A virtual host."""

    name: str
    description: str = ""
    tags: list[str] = []
    tracing: bool = False


class PermissionSpec(Spec, kw_only=True):
    """Permissions of a user in a vhost: regular expressions for names of resources."""

    vhost: str
    user: str
    configure: str
    write: str
    read: str


class UserSpec(Spec, kw_only=True):
    """A user; the password is stored as a hash (`hash_password`)."""

    name: str
    password_hash: str
    hashing_algorithm: str = "rabbit_password_hashing_sha256"
    tags: list[str] = []


class DestinationType(enum.Enum):
    """The kind of destination of a binding."""

    QUEUE = "q"
    EXCHANGE = "e"


class BindingSpec(Spec, kw_only=True):
    """A binding of a queue or an exchange to an exchange."""

    source: str
    destination: str
    destination_type: DestinationType
    vhost: str
    routing_key: str = ""
    arguments: dict[str, object] | None = {}


class BindingInfo(BindingSpec, kw_only=True):
    """A binding that exists."""

    properties_key: str = ""


class ExchangeSpec(Spec, kw_only=True):
    """An exchange."""

    name: str
    type: str
    vhost: str
    durable: bool | None = False
    auto_delete: bool | None = False
    internal: bool | None = False
    arguments: dict[str, object] | None = {}


class ExchangeInfo(ExchangeSpec, kw_only=True):
    """An exchange that exists."""

    policy: str | None = None
    message_stats: dict[str, object] | None = None
    incoming: object = None
    outgoing: object = None


class PolicySpec(Spec, kw_only=True, rename={"apply_to": "apply-to"}):
    """A policy: settings for all queues or exchanges whose name matches a pattern."""

    vhost: str
    name: str
    pattern: str
    definition: dict[str, object]
    priority: int = 0
    apply_to: str = "all"


class QueueSpec(Spec, kw_only=True):
    """A queue."""

    name: str
    vhost: str
    durable: bool | None = False
    auto_delete: bool | None = False
    arguments: dict[str, object] | None = {}


class QueueInfo(QueueSpec, kw_only=True):
    """A queue that exists; ``messages*`` are numbers, ``message_bytes*`` and `memory` bytes."""

    policy: str | None = None
    effective_policy_definition: dict[str, object] | None = None
    exclusive: bool | None = None
    messages: int | None = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    messages_persistent: int | None = None
    message_bytes: int | None = None
    message_bytes_ready: int | None = None
    message_bytes_unacknowledged: int | None = None
    head_message_timestamp: object = None
    consumers: int | None = None
    consumer_utilisation: object = None
    memory: int | None = None
    state: str | None = None
    message_stats: dict[str, object] | None = None
    consumer_details: object = None


class ConnectionInfo(Spec, kw_only=True):
    """A client's connection."""

    name: str
    host: str | None = None
    port: int | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    ssl: bool | None = None
    state: str | None = None
    channels: int | None = None
    protocol: str | None = None
    auth_mechanism: str | None = None
    user: str | None = None
    vhost: str | None = None
    timeout: int | None = None
    frame_max: int | None = None
    channel_max: int | None = None
    connected_at: int | None = None
    """Time of connection, in milliseconds since the epoch."""


class NodeInfo(Spec, kw_only=True):
    """A node of the cluster; sizes in bytes."""

    name: str
    running: bool | None = None
    type: str | None = None
    uptime: int | None = None
    disk_free: int | None = None
    disk_free_alarm: bool | None = None
    disk_free_limit: int | None = None
    fd_total: int | None = None
    fd_used: int | None = None
    mem_used: int | None = None
    mem_alarm: bool | None = None
    mem_limit: int | None = None
    proc_total: int | None = None
    proc_used: int | None = None
    processors: int | None = None
    run_queue: float | None = None
    sockets_total: int | None = None
    sockets_used: int | None = None
    enabled_plugins: list[str] | None = None
    log_files: list[str] | None = None
