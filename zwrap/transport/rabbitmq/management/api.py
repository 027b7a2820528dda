"""RabbitMQ's management HTTP API: names and signatures of ``zocalo.util.rabbitmq``.

Names in paths are quoted, so that the vhost ``/`` works everywhere.
Source: rawcdn.githack.com/rabbitmq/rabbitmq-server/v3.10.x/deps/rabbitmq_management/priv/www/api
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import urllib.request
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from zwrap.configuration.settings import RabbitMQAPISettings
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.transport.rabbitmq.management.models import (
    BindingInfo,
    BindingSpec,
    ConnectionInfo,
    DestinationType,
    ExchangeInfo,
    ExchangeSpec,
    NodeInfo,
    PermissionSpec,
    PolicySpec,
    QueueInfo,
    QueueSpec,
    Spec,
    UserSpec,
    VHostSpec,
)

__all__ = [
    "BindingInfo",
    "BindingSpec",
    "ConnectionInfo",
    "DestinationType",
    "ExchangeInfo",
    "ExchangeSpec",
    "NodeInfo",
    "PermissionSpec",
    "PolicySpec",
    "QueueInfo",
    "QueueSpec",
    "RabbitMQAPI",
    "UserSpec",
    "VHostSpec",
    "hash_password",
    "http_api_request",
]

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
T = TypeVar("T")


def http_api_request(zc: Configuration, api_path: str) -> urllib.request.Request:
    """A request to the API, with the credentials of plugin `rabbitmqapi`.

    `api_path` is put behind its `base_url`, such as ``/queues``. Open it with
    `urllib.request.urlopen`.
    """
    settings = _settings(zc)
    credentials = f"{settings.username}:{settings.password}".encode()
    url = settings.base_url.split(",")[0].strip()
    return urllib.request.Request(  # noqa: S310  (the scheme is the site's own)
        f"{url}{api_path}",
        headers={"Authorization": f"Basic {base64.b64encode(credentials).decode()}"},
    )


def _settings(zc: Configuration) -> RabbitMQAPISettings:
    settings = zc.site.rabbitmqapi
    if settings is None:
        raise ConfigurationError(
            "There are no RabbitMQ API credentials configured in your environment: a section with "
            "'plugin: rabbitmqapi' must be active."
        )
    return settings


def hash_password(passwd: str, salt: str | None = None) -> str:
    """A password as RabbitMQ keeps it: base64 of a salt of four bytes and the SHA-256 of both.

    `salt` is an earlier hash, whose salt is used again. (www.rabbitmq.com/passwords.html)
    """
    first = base64.b64decode(salt)[:4] if salt else secrets.token_bytes(4)
    digest = hashlib.sha256(first + passwd.encode("utf-8")).digest()
    return base64.b64encode(first + digest).decode()


class RabbitMQAPI:
    """A connection to the API. `url` ends in ``/api``."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(auth=(user, password), timeout=TIMEOUT_S)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __del__(self) -> None:
        if hasattr(self, "_client"):
            self.close()

    @classmethod
    def from_zocalo_configuration(cls, zc: Configuration) -> RabbitMQAPI:
        """The first of the configured servers that answers."""
        settings = _settings(zc)
        urls = [url.strip() for url in settings.base_url.split(",")]
        for url in urls:
            instance = cls(url, settings.username, settings.password)
            try:
                instance.get("health/checks/alarms")
            except TransportError as error:
                log.warning("%s", error)
            else:
                return instance
        raise TransportError(f"No RabbitMQ API answers at {', '.join(urls)}.")

    @property
    def health_checks(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Answers of the health checks that hold, and of those that do not."""
        good: dict[str, Any] = {}
        bad: dict[str, Any] = {}
        for check in (
            "alarms",
            "local-alarms",
            "certificate-expiration/1/months",
            "protocol-listener/amqp",
            "virtual-hosts",
            "node-is-mirror-sync-critical",
            "node-is-quorum-critical",
        ):
            response = self.get(f"health/checks/{check}")
            answers = good if response.status_code == 200 else bad
            answers[f"health/checks/{check}"] = response.json()
        return good, bad

    # -- requests --------------------------------------------------------------------------------

    def get(
        self, endpoint: str, params: dict[str, Any] | None = None, timeout: float | None = None
    ) -> httpx.Response:
        """GET an endpoint below ``/api/``."""
        return self._request("GET", endpoint, params=params, timeout=timeout)

    def put(
        self,
        endpoint: str,
        params: dict[str, Any] | None = None,
        json: Any = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """PUT a JSON body."""
        return self._request("PUT", endpoint, params=params, json=json, timeout=timeout)

    def post(
        self,
        endpoint: str,
        data: dict[str, Any] | None = None,
        json: Any = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """POST a JSON body, or a form."""
        return self._request("POST", endpoint, data=data, json=json, timeout=timeout)

    def delete(
        self, endpoint: str, params: dict[str, Any] | None = None, timeout: float | None = None
    ) -> httpx.Response:
        """DELETE an endpoint."""
        return self._request("DELETE", endpoint, params=params, timeout=timeout)

    def _request(
        self, method: str, endpoint: str, *, timeout: float | None, **how: Any
    ) -> httpx.Response:
        url = f"{self._url}/{endpoint}"
        given = {key: value for key, value in how.items() if value is not None}
        try:
            return self._client.request(
                method, url, timeout=TIMEOUT_S if timeout is None else timeout, **given
            )
        except httpx.HTTPError as error:
            raise TransportError(f"The RabbitMQ API at {url} cannot be used: {error}.") from None

    def _read(self, kind: type[T], *parts: str | None) -> T:
        response = self.get(_path(*parts))
        _check(response)
        try:
            return msgspec.convert(response.json(), kind, strict=False)
        except (ValueError, msgspec.ValidationError) as error:
            raise MessageError(f"{response.url} answered something unexpected: {error}.") from None

    def _write(self, method: str, spec: Spec, *parts: str, leave_out: tuple[str, ...]) -> None:
        body = {k: v for k, v in msgspec.to_builtins(spec).items() if k not in leave_out}
        send = self.put if method == "PUT" else self.post
        _check(send(_path(*parts), json=body))

    # -- what there is ---------------------------------------------------------------------------

    def queues(
        self, vhost: str | None = None, name: str | None = None
    ) -> list[QueueInfo] | QueueInfo:
        """All queues, those of a vhost, or one."""
        if _one(vhost, name):
            return self._read(QueueInfo, "queues", vhost, name)
        return self._read(list[QueueInfo], "queues", vhost)

    def queue_declare(self, queue: QueueSpec) -> None:
        """Make a queue."""
        self._write("PUT", queue, "queues", queue.vhost, queue.name, leave_out=("name", "vhost"))

    def queue_delete(
        self, vhost: str, name: str, if_unused: bool = False, if_empty: bool = False
    ) -> None:
        """Delete a queue."""
        conditions = {"if-unused": if_unused, "if-empty": if_empty}
        _check(self.delete(_path("queues", vhost, name), params=_true(conditions)))

    def exchanges(
        self, vhost: str | None = None, name: str | None = None
    ) -> list[ExchangeInfo] | ExchangeInfo:
        """All exchanges, those of a vhost, or one."""
        if _one(vhost, name):
            return self._read(ExchangeInfo, "exchanges", vhost, name)
        return self._read(list[ExchangeInfo], "exchanges", vhost)

    def exchange_declare(self, exchange: ExchangeSpec) -> None:
        """Make an exchange."""
        parts = ("exchanges", exchange.vhost, exchange.name)
        self._write("PUT", exchange, *parts, leave_out=("name", "vhost"))

    def exchange_delete(self, vhost: str, name: str, if_unused: bool = False) -> None:
        """Delete an exchange."""
        conditions = _true({"if-unused": if_unused})
        _check(self.delete(_path("exchanges", vhost, name), params=conditions))

    def bindings(
        self,
        vhost: str | None = None,
        source: str | None = None,
        destination: str | None = None,
        destination_type: str | None = None,
    ) -> list[BindingInfo]:
        """All bindings, those of a vhost, or those between two ends."""
        ends = (source, destination, destination_type)
        if None in ends and any(end is not None for end in ends):
            raise ValueError("Give all of source, destination and destination_type, or none.")
        between = ("e", source, destination_type, destination) if destination_type else ()
        parts = ["bindings", vhost, *between]
        response = self.get(_path(*parts))
        _check(response)
        short = {"queue": "q", "exchange": "e"}
        entries = [
            {**entry, "destination_type": short.get(entry["destination_type"])}
            for entry in response.json()
        ]
        return msgspec.convert(entries, list[BindingInfo])

    def binding_declare(self, binding: BindingSpec) -> None:
        """Make a binding."""
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
        """Delete one binding between two ends, or all of them."""
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
            _check(self.delete(_path(*parts)))

    def policies(self, vhost: str | None = None) -> list[PolicySpec]:
        """All policies, or those of a vhost."""
        return self._read(list[PolicySpec], "policies", vhost)

    def policy(self, vhost: str, name: str) -> PolicySpec:
        """One policy."""
        return self._read(PolicySpec, "policies", vhost, name)

    def set_policy(self, policy: PolicySpec) -> None:
        """Make or change a policy."""
        parts = ("policies", policy.vhost, policy.name)
        self._write("PUT", policy, *parts, leave_out=("name", "vhost"))

    def clear_policy(self, vhost: str, name: str) -> None:
        """Delete a policy."""
        _check(self.delete(_path("policies", vhost, name)))

    def users(self) -> list[UserSpec]:
        """All users."""
        return [_user(entry) for entry in self._read(list[dict[str, Any]], "users")]

    def user(self, name: str) -> UserSpec:
        """One user."""
        return _user(self._read(dict[str, Any], "users", name))

    def user_put(self, user: UserSpec) -> None:
        """Make or change a user."""
        body = {**msgspec.to_builtins(user), "tags": ",".join(user.tags)}
        body.pop("name")
        _check(self.put(_path("users", user.name), json=body))

    def user_delete(self, name: str) -> None:
        """Delete a user."""
        _check(self.delete(_path("users", name)))

    def permissions(
        self, vhost: str | None = None, user: str | None = None
    ) -> list[PermissionSpec] | PermissionSpec:
        """All permissions, or those of a user in a vhost."""
        if (vhost is None) != (user is None):
            raise ValueError("Give both vhost and user, or neither.")
        if vhost is not None:
            return self._read(PermissionSpec, "permissions", vhost, user)
        return self._read(list[PermissionSpec], "permissions")

    def set_permissions(self, permission: PermissionSpec) -> None:
        """Grant permissions."""
        parts = ("permissions", permission.vhost, permission.user)
        self._write("PUT", permission, *parts, leave_out=("vhost", "user"))

    def clear_permissions(self, vhost: str, user: str) -> None:
        """Take all permissions of a user in a vhost."""
        _check(self.delete(_path("permissions", vhost, user)))

    def vhosts(self) -> list[VHostSpec]:
        """All virtual hosts."""
        return self._read(list[VHostSpec], "vhosts")

    def vhost(self, name: str) -> VHostSpec:
        """One virtual host."""
        return self._read(VHostSpec, "vhosts", name)

    def add_vhost(self, vhost: VHostSpec) -> None:
        """Make a virtual host."""
        body = {**msgspec.to_builtins(vhost), "tags": ",".join(vhost.tags)}
        body.pop("name")
        _check(self.put(_path("vhosts", vhost.name), json=body))

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host, with everything in it."""
        _check(self.delete(_path("vhosts", name)))

    def connections(self, name: str | None = None) -> list[ConnectionInfo] | ConnectionInfo:
        """All connections, or one."""
        if name is not None:
            return self._read(ConnectionInfo, "connections", name)
        return self._read(list[ConnectionInfo], "connections")

    def nodes(self, name: str | None = None) -> list[NodeInfo] | NodeInfo:
        """All nodes, or one."""
        if name is not None:
            return self._read(NodeInfo, "nodes", name)
        return self._read(list[NodeInfo], "nodes")


def _path(*parts: str | None) -> str:
    """Path of an endpoint, each part quoted."""
    return "/".join(quote(part, safe="") for part in parts if part is not None)


def _one(vhost: str | None, name: str | None) -> bool:
    if name is not None and vhost is None:
        raise ValueError("A name means something within a vhost only; give that, too.")
    return name is not None


def _true(conditions: dict[str, bool]) -> dict[str, str]:
    return {name: "true" for name, holds in conditions.items() if holds}


def _user(entry: dict[str, Any]) -> UserSpec:
    """A user; older servers send the tags as one text."""
    tags = entry.get("tags") or []
    listed = [tag for tag in tags.split(",") if tag] if isinstance(tags, str) else tags
    return msgspec.convert({**entry, "tags": listed}, UserSpec)


def _check(response: httpx.Response) -> None:
    """Raise MessageError that says what the server said."""
    if response.is_success:
        return
    try:
        answer = response.json()
        reason = answer.get("reason") or answer.get("error") or response.reason_phrase
    except (ValueError, AttributeError):
        reason = response.reason_phrase
    raise MessageError(
        f"The RabbitMQ API refused {response.request.method} {response.url.path}: "
        f"{response.status_code} {reason}."
    )
