"""Values of RabbitMQ's management API, with the names of ``zocalo.util.rabbitmq``.

Fields that a server does not send are None; fields that are not named here are ignored. Source of
names and meanings: www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from zwrap.transport.rabbitmq.management.kinds import (
    ConnectionState,
    DestinationType,
    NodeType,
    QueueState,
)
from zwrap.transport.rabbitmq.management.spec import Reader, Spec, SpecError, member_of


def _moment(value: object) -> object:
    """Return a time, in milliseconds or seconds since the epoch, as such; other values unchanged.

    RabbitMQ gives milliseconds for connections and seconds for messages.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    seconds = value / 1000 if abs(value) > 20_000_000_000 else value
    return datetime.fromtimestamp(seconds, UTC)


def _paths(value: object) -> object:
    """Return a list of paths; other values unchanged."""
    return [Path(str(each)) for each in value] if isinstance(value, list) else value


def _path(value: object) -> object:
    """Return a text as a path; other values unchanged."""
    return Path(value) if isinstance(value, str) else value


def _statistics(value: object) -> object:
    """Return the statistics of messages; other values unchanged."""
    return MessageStats(**value) if isinstance(value, dict) else value


def _tags(value: object) -> object:
    """Return tags; SpecError for one text, of which each character would be a tag."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return list(value)
    raise SpecError(f"Tags are {value!r}; a list of texts is expected.")


_DESTINATIONS = {
    "queue": DestinationType.QUEUE,
    "exchange": DestinationType.EXCHANGE,
    **{each.value: each for each in DestinationType},
}
"""The names of kinds of destination: those of the server's answers and those of its paths."""


def _destination(value: object) -> object:
    """Return the kind of a destination."""
    if isinstance(value, DestinationType):
        return value
    if isinstance(value, str) and value in _DESTINATIONS:
        return _DESTINATIONS[value]
    raise SpecError(f"Destination type {value!r} of a binding is unknown; 'q' or 'e' is expected.")


class MessageStats(Spec):
    """Numbers of messages, counted since the start of the node."""

    publish: int | None = None
    publish_in: int | None = None
    publish_out: int | None = None
    confirm: int | None = None
    deliver: int | None = None
    deliver_no_ack: int | None = None
    get: int | None = None
    get_no_ack: int | None = None
    deliver_get: int | None = None
    redeliver: int | None = None
    drop_unroutable: int | None = None
    return_unroutable: int | None = None


class VHostSpec(Spec):
    """A virtual host."""

    name: str
    description: str = ""
    tags: list[str] = []  # noqa: RUF012 - each value gets its own
    tracing: bool = False


class PermissionSpec(Spec):
    """Permissions of a user in a vhost: regular expressions for names of resources."""

    vhost: str
    user: str
    configure: str
    write: str
    read: str


class UserSpec(Spec):
    """A user; the password is stored as a hash (`hash_password`)."""

    readers: ClassVar[dict[str, Reader]] = {"tags": _tags}
    name: str
    password_hash: str
    hashing_algorithm: str = "rabbit_password_hashing_sha256"
    tags: list[str] = []  # noqa: RUF012 - each value gets its own


class BindingSpec(Spec):
    """A binding of a queue or an exchange to an exchange."""

    readers: ClassVar[dict[str, Reader]] = {"destination_type": _destination}
    source: str
    destination: str
    destination_type: DestinationType
    vhost: str
    routing_key: str = ""
    arguments: dict[str, Any] | None = {}  # noqa: RUF012 - each value gets its own


class BindingInfo(BindingSpec):
    """A binding that exists."""

    properties_key: str = ""


class ExchangeSpec(Spec):
    """An exchange."""

    name: str
    type: str
    vhost: str
    durable: bool | None = False
    auto_delete: bool | None = False
    internal: bool | None = False
    arguments: dict[str, Any] | None = {}  # noqa: RUF012 - each value gets its own


class ExchangeInfo(ExchangeSpec):
    """An exchange that exists."""

    readers: ClassVar[dict[str, Reader]] = {"message_stats": _statistics}
    policy: str | None = None
    message_stats: MessageStats | None = None
    incoming: Any = None
    outgoing: Any = None


class PolicySpec(Spec):
    """A policy: settings for all queues or exchanges whose name matches a pattern."""

    wire_names: ClassVar[dict[str, str]] = {"apply_to": "apply-to"}
    vhost: str
    name: str
    pattern: str
    definition: dict[str, Any]
    priority: int = 0
    apply_to: str = "all"


class QueueSpec(Spec):
    """A queue."""

    name: str
    vhost: str
    durable: bool | None = False
    auto_delete: bool | None = False
    arguments: dict[str, Any] | None = {}  # noqa: RUF012 - each value gets its own


class QueueInfo(QueueSpec):
    """A queue that exists; ``messages*`` are numbers, ``message_bytes*`` and `memory` bytes."""

    readers: ClassVar[dict[str, Reader]] = {
        "head_message_timestamp": _moment,
        "message_stats": _statistics,
        "state": member_of(QueueState),
    }
    policy: str | None = None
    effective_policy_definition: dict[str, Any] | None = None
    pid: Any = None
    owner_pid: Any = None
    exclusive: bool | None = None
    exclusive_consumer_pid: Any = None
    exclusive_consumer_tag: str | None = None
    messages: int | None = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    messages_ram: int | None = None
    messages_ready_ram: int | None = None
    messages_unacknowledged_ram: int | None = None
    messages_persistent: int | None = None
    message_bytes: int | None = None
    message_bytes_ready: int | None = None
    message_bytes_unacknowledged: int | None = None
    message_bytes_ram: int | None = None
    message_bytes_persistent: int | None = None
    head_message_timestamp: datetime | None = None
    disk_reads: int | None = None
    disk_writes: int | None = None
    consumers: int | None = None
    consumer_utilisation: Any = None
    memory: int | None = None
    state: Any = None
    """`QueueState`; the text of the server for another state."""
    message_stats: MessageStats | None = None
    incoming: Any = None
    deliveries: Any = None
    consumer_details: Any = None


class ConnectionInfo(Spec):
    """A client's connection."""

    readers: ClassVar[dict[str, Reader]] = {
        "connected_at": _moment,
        "state": member_of(ConnectionState),
    }
    name: str
    pid: Any = None
    host: str | None = None
    port: int | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    ssl: bool | None = None
    ssl_protocol: str | None = None
    ssl_key_exchange: str | None = None
    ssl_cipher: str | None = None
    ssl_hash: str | None = None
    peer_cert_subject: str | None = None
    peer_cert_issuer: str | None = None
    peer_cert_validity: str | None = None
    state: Any = None
    """`ConnectionState`; the text of the server for another state."""
    channels: int | None = None
    protocol: str | None = None
    auth_mechanism: str | None = None
    user: str | None = None
    vhost: str | None = None
    timeout: int | None = None
    """Interval of heartbeats, in seconds."""
    frame_max: int | None = None
    channel_max: int | None = None
    connected_at: datetime | None = None


class NodeInfo(Spec):
    """A node of the cluster; sizes in bytes, `uptime` and ``io_*_avg_time`` in milliseconds."""

    readers: ClassVar[dict[str, Reader]] = {
        "config_files": _paths,
        "db_dir": _path,
        "log_files": _paths,
        "type": member_of(NodeType),
    }
    name: str
    running: bool | None = None
    type: Any = None
    """`NodeType`; the text of the server for another type."""
    uptime: int | None = None
    os_pid: Any = None
    config_files: list[Path] | None = None
    db_dir: Path | None = None
    log_files: list[Path] | None = None
    enabled_plugins: list[str] | None = None
    disk_free: Any = None
    """Free space; a text while the server does not know it."""
    disk_free_alarm: bool | None = None
    disk_free_limit: int | None = None
    fd_total: Any = None
    fd_used: Any = None
    """File descriptors in use; a text where the server cannot count them."""
    io_read_avg_time: float | None = None
    io_read_bytes: int | None = None
    io_read_count: int | None = None
    io_reopen_count: int | None = None
    io_seek_avg_time: float | None = None
    io_seek_count: int | None = None
    io_sync_avg_time: float | None = None
    io_sync_count: int | None = None
    io_write_avg_time: float | None = None
    io_write_bytes: int | None = None
    io_write_count: int | None = None
    mem_used: int | None = None
    mem_alarm: bool | None = None
    mem_limit: int | None = None
    mnesia_disk_tx_count: int | None = None
    mnesia_ram_tx_count: int | None = None
    msg_store_read_count: int | None = None
    msg_store_write_count: int | None = None
    net_ticktime: int | None = None
    proc_total: int | None = None
    proc_used: int | None = None
    processors: int | None = None
    queue_index_journal_write_count: int | None = None
    queue_index_read_count: int | None = None
    queue_index_write_count: int | None = None
    run_queue: float | None = None
    sockets_total: int | None = None
    sockets_used: int | None = None
