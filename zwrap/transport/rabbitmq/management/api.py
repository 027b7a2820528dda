"""RabbitMQ's management HTTP API: names and signatures of ``zocalo.util.rabbitmq``.

Source: rawcdn.githack.com/rabbitmq/rabbitmq-server/v3.10.x/deps/rabbitmq_management/priv/www/api
"""

from __future__ import annotations

from zwrap.transport.rabbitmq.management.http import (
    Client,
    hash_password,
    http_api_request,
    path,
)
from zwrap.transport.rabbitmq.management.kinds import (
    ConnectionState,
    DestinationType,
    ExchangeType,
    HashingAlgorithm,
    NodeType,
    PolicyApplyTo,
    QueueState,
)
from zwrap.transport.rabbitmq.management.models import (
    BindingInfo,
    BindingSpec,
    ConnectionInfo,
    ExchangeInfo,
    ExchangeSpec,
    MessageStats,
    NodeInfo,
    PermissionSpec,
    PolicySpec,
    QueueInfo,
    QueueSpec,
    UserSpec,
    VHostSpec,
)

__all__ = [
    "BindingInfo",
    "BindingSpec",
    "ConnectionInfo",
    "ConnectionState",
    "DestinationType",
    "ExchangeInfo",
    "ExchangeSpec",
    "ExchangeType",
    "HashingAlgorithm",
    "MessageStats",
    "NodeInfo",
    "NodeType",
    "PermissionSpec",
    "PolicyApplyTo",
    "PolicySpec",
    "QueueInfo",
    "QueueSpec",
    "QueueState",
    "RabbitMQAPI",
    "UserSpec",
    "VHostSpec",
    "hash_password",
    "http_api_request",
]


class RabbitMQAPI(Client):
    """A connection to the API, with methods for each kind of object of the server.

    Methods raise MessageError, with the server's reason, if the server refuses, and TransportError
    if it cannot be reached.
    """

    @property
    def health_checks(self) -> tuple[dict[str, object], dict[str, object]]:
        """Answers of the health checks that succeed, and of those that fail, by endpoint."""
        good: dict[str, object] = {}
        bad: dict[str, object] = {}
        for name in (
            "alarms",
            "local-alarms",
            "certificate-expiration/1/months",
            f"port-listener/{self.amqp_port}",
            "protocol-listener/amqp",
            "virtual-hosts",
            "node-is-mirror-sync-critical",
            "node-is-quorum-critical",
        ):
            response = self.get(f"health/checks/{name}")
            answers = good if response.status_code == 200 else bad
            answers[f"health/checks/{name}"] = response.json()
        return good, bad

    def queues(
        self, vhost: str | None = None, name: str | None = None
    ) -> list[QueueInfo] | QueueInfo:
        """Return all queues, those of a vhost, or one queue."""
        if _one(vhost, name):
            return self._read(QueueInfo, "queues", vhost, name)
        return self._read_all(QueueInfo, "queues", vhost)

    def queue_declare(self, queue: QueueSpec) -> None:
        """Create a queue."""
        self._write("PUT", queue, "queues", queue.vhost, queue.name, leave_out=("name", "vhost"))

    def queue_delete(
        self, vhost: str, name: str, if_unused: bool = False, if_empty: bool = False
    ) -> None:
        """Delete a queue, with conditions only if it has no consumers or no messages."""
        conditions = {"if-unused": if_unused, "if-empty": if_empty}
        self._check(self.delete(path("queues", vhost, name), params=_true(conditions)))

    def exchanges(
        self, vhost: str | None = None, name: str | None = None
    ) -> list[ExchangeInfo] | ExchangeInfo:
        """Return all exchanges, those of a vhost, or one exchange."""
        if _one(vhost, name):
            return self._read(ExchangeInfo, "exchanges", vhost, name, end=True)
        return self._read_all(ExchangeInfo, "exchanges", vhost, end=True)

    def exchange_declare(self, exchange: ExchangeSpec) -> None:
        """Create an exchange."""
        parts = ("exchanges", exchange.vhost, exchange.name)
        self._write("PUT", exchange, *parts, leave_out=("name", "vhost"), end=True)

    def exchange_delete(self, vhost: str, name: str, if_unused: bool = False) -> None:
        """Delete an exchange, with `if_unused` only if it has no bindings."""
        conditions = _true({"if-unused": if_unused})
        self._check(self.delete(path("exchanges", vhost, name), params=conditions))

    def bindings(
        self,
        vhost: str | None = None,
        source: str | None = None,
        destination: str | None = None,
        destination_type: str | None = None,
    ) -> list[BindingInfo]:
        """Return all bindings, those of a vhost, or those between a source and a destination.

        Raises ValueError if only some of source, destination and its type are given.
        """
        ends = (source, destination, destination_type)
        if None in ends and any(end is not None for end in ends):
            raise ValueError("Give all of source, destination and destination_type, or none.")
        between = ("e", source, destination_type, destination) if destination_type else ()
        return self._read_all(BindingInfo, "bindings", vhost, *between)

    def binding_declare(self, binding: BindingSpec) -> None:
        """Create a binding."""
        kind = binding.destination_type.value
        parts = ("bindings", binding.vhost, "e", binding.source, kind, binding.destination)
        left_out = ("vhost", "source", "destination", "destination_type", "properties_key")
        self._write("POST", binding, *parts, leave_out=left_out)

    def bindings_delete(
        self,
        vhost: str,
        source: str,
        destination: str,
        destination_type: str,
        properties_key: str | None = None,
    ) -> None:
        """Delete the binding with a properties key, or all between source and destination."""
        keys = (
            [properties_key]
            if properties_key is not None
            else [
                binding.properties_key
                for binding in self.bindings(vhost, source, destination, destination_type)
            ]
        )
        for key in keys:
            parts = ("bindings", vhost, "e", source, destination_type, destination, key)
            self._check(self.delete(path(*parts)))

    def policies(self, vhost: str | None = None) -> list[PolicySpec]:
        """Return all policies, or those of a vhost."""
        return self._read_all(PolicySpec, "policies", vhost, end=True)

    def policy(self, vhost: str, name: str) -> PolicySpec:
        """Return one policy."""
        return self._read(PolicySpec, "policies", vhost, name, end=True)

    def set_policy(self, policy: PolicySpec) -> None:
        """Create or change a policy."""
        parts = ("policies", policy.vhost, policy.name)
        self._write("PUT", policy, *parts, leave_out=("name", "vhost"), end=True)

    def clear_policy(self, vhost: str, name: str) -> None:
        """Delete a policy."""
        self._check(self.delete(path("policies", vhost, name, end=True)))

    def users(self) -> list[UserSpec]:
        """Return all users."""
        answer = self._answer("users")
        users = [_listed(each) for each in answer] if isinstance(answer, list) else answer
        return self._values(UserSpec, users, ("users",))

    def user(self, name: str) -> UserSpec:
        """Return one user."""
        answer = _listed(self._answer("users", name, end=True))
        [user] = self._values(UserSpec, [answer], ("users", name))
        return user

    def user_put(self, user: UserSpec) -> None:
        """Create or change a user."""
        body = {**user.content(("name",)), "tags": ",".join(user.tags)}
        self._check(self.put(path("users", user.name, end=True), json=body))

    def user_delete(self, name: str) -> None:
        """Delete a user."""
        self._check(self.delete(path("users", name, end=True)))

    def permissions(
        self, vhost: str | None = None, user: str | None = None
    ) -> list[PermissionSpec] | PermissionSpec:
        """Return all permissions, or those of a user in a vhost; ValueError if one is missing."""
        if (vhost is None) != (user is None):
            raise ValueError("Give both vhost and user, or neither.")
        if vhost is not None:
            return self._read(PermissionSpec, "permissions", vhost, user, end=True)
        return self._read_all(PermissionSpec, "permissions")

    def set_permissions(self, permission: PermissionSpec) -> None:
        """Grant permissions to a user in a vhost."""
        parts = ("permissions", permission.vhost, permission.user)
        self._write("PUT", permission, *parts, leave_out=("vhost", "user"), end=True)

    def clear_permissions(self, vhost: str, user: str) -> None:
        """Revoke all permissions of a user in a vhost."""
        self._check(self.delete(path("permissions", vhost, user, end=True)))

    def vhosts(self) -> list[VHostSpec]:
        """Return all virtual hosts."""
        return self._read_all(VHostSpec, "vhosts")

    def vhost(self, name: str) -> VHostSpec:
        """Return one virtual host."""
        return self._read(VHostSpec, "vhosts", name, end=True)

    def add_vhost(self, vhost: VHostSpec) -> None:
        """Create a virtual host."""
        body = {**vhost.content(("name",)), "tags": ",".join(vhost.tags)}
        self._check(self.put(path("vhosts", vhost.name, end=True), json=body))

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host and everything in it."""
        self._check(self.delete(path("vhosts", name, end=True)))

    def connections(self, name: str | None = None) -> list[ConnectionInfo] | ConnectionInfo:
        """Return all connections, or one connection."""
        if name is not None:
            return self._read(ConnectionInfo, "connections", name, end=True)
        return self._read_all(ConnectionInfo, "connections")

    def nodes(self, name: str | None = None) -> list[NodeInfo] | NodeInfo:
        """Return all nodes, or one node."""
        if name is not None:
            return self._read(NodeInfo, "nodes", name)
        return self._read_all(NodeInfo, "nodes")


def _one(vhost: str | None, name: str | None) -> bool:
    """Return True if one object of a vhost is asked for; ValueError for a name without vhost."""
    if name is not None and vhost is None:
        raise ValueError("A name is unique only within a vhost; give the vhost, too.")
    return name is not None


def _true(conditions: dict[str, bool]) -> dict[str, str]:
    """Return the query parameters for the conditions that are set."""
    return {name: "true" for name, holds in conditions.items() if holds}


def _listed(user: object) -> object:
    """Return the answer on a user; older servers send the tags as one text."""
    if isinstance(user, dict) and isinstance(tags := user.get("tags") or "", str):
        return {**user, "tags": [tag for tag in tags.split(",") if tag]}
    return user
