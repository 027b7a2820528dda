"""Address and credentials of RabbitMQ, from plugin `pika`, RABBITMQ_URL and the command line."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pika

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.processes import host_name
from zwrap.transport.options import BrokerOptions
from zwrap.transport.settings import addresses, from_file, tls_context

log = logging.getLogger(__name__)

PORT, TLS_PORT = 5672, 5671


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and credentials of one RabbitMQ cluster."""

    addresses: tuple[tuple[str, int], ...] = (("localhost", PORT),)
    username: str = "guest"
    password: str = "guest"  # noqa: S105  (RabbitMQ's own default)
    vhost: str = "/"
    heartbeat_s: int | None = None
    """Interval of heart-beats, in seconds; None: the server's suggestion (60 s)."""
    tls: bool = False
    ca_file: str | None = None
    declare: str | None = None
    """Type of queues that are created if they are missing; None: a missing queue is an error."""

    def parameters(self, host: str, port: int) -> pika.ConnectionParameters:
        """Return pika's parameters for a connection to one of the addresses."""
        tls = pika.SSLOptions(tls_context(self.ca_file), host) if self.tls else None
        return pika.ConnectionParameters(
            host=host,
            port=port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.username, self.password),
            heartbeat=self.heartbeat_s,
            socket_timeout=5,
            stack_timeout=10,
            ssl_options=tls,
            client_properties={
                "product": "zwrap",
                "connection_name": f"{Path(sys.argv[0]).name} {host_name()}-{os.getpid()}",
            },
        )


def server_from(configuration: Configuration, options: BrokerOptions | None = None) -> Server:
    """Return the configured server.

    Options of the command line take precedence over RABBITMQ_URL, and that over plugin `pika`.
    """
    given = configuration.site.pika
    values: dict[str, object] = msgspec.structs.asdict(given) if given else {}
    values = {key: value for key, value in values.items() if value is not None}
    if url := os.environ.get("RABBITMQ_URL"):
        values.update(from_url(url))
    if beat := os.environ.get("RABBITMQ_HEARTBEAT"):
        if not beat.isdecimal():
            raise ConfigurationError(
                f"RABBITMQ_HEARTBEAT is {beat!r}; a number of seconds is expected, 0 for none."
            )
        values["heartbeat_s"] = int(beat)
    options = options or BrokerOptions()
    if options.conf:
        values.update(from_file(Path(options.conf), ("rabbit", "rabbitmq")))
    values.update(options.values())
    return server(values)


def server(values: Mapping[str, object]) -> Server:
    """Return typed settings; ConfigurationError names the wrong one."""
    rest = dict(values)
    tls = bool(rest.get("tls"))
    found = addresses(
        "RabbitMQ", rest.pop("host", "localhost"), rest.pop("port", TLS_PORT if tls else PORT)
    )
    known = set(Server.__struct_fields__) - {"addresses"}
    try:
        chosen = {key: value for key, value in rest.items() if key in known}
        return msgspec.convert({**chosen, "addresses": found}, Server, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The settings of RabbitMQ are not usable: {error}.") from None


_EXPECTED = (
    "amqp://user:password@host:port/vhost is expected, or several hosts, separated by commas. In "
    "user, password and vhost characters such as / # ? @ : % have to be percent-encoded (%2F for "
    "/)."
)


def _host_and_port(given: str) -> tuple[str, str]:
    """Return host and port of one address in a URL; the port is empty if there is none.

    Raises ConfigurationError if the port is not a number.
    """
    match = re.fullmatch(r"(\[[^]]*\]|[^:\[\]]*)(?::(\d*))?", given)
    if match is None:
        raise ConfigurationError(
            f"RABBITMQ_URL is not a valid URL: its port is not a number. {_EXPECTED}"
        )
    return match[1].strip("[]"), match[2] or ""


def from_url(url: str) -> dict[str, object]:
    """Return the settings in a URL: ``amqp[s]://user:password@host:port/vhost?heartbeat=30``.

    There may be several hosts, each with its own port: ``host1:port1,host2:port2``. Source:
    www.rabbitmq.com/uri-spec.html. Messages about faults never show the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(f"RABBITMQ_URL is not a valid URL. {_EXPECTED}") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # the first part of a password
        raise ConfigurationError(
            f"RABBITMQ_URL is not a valid URL: percent-encode the password. {_EXPECTED}"
        )
    tls = parts.scheme == "amqps"
    pairs = [_host_and_port(each) for each in parts.netloc.rpartition("@")[2].split(",")]
    if parts.scheme not in ("amqp", "amqps") or not all(host for host, _ in pairs):
        raise ConfigurationError(f"RABBITMQ_URL is not usable. {_EXPECTED}")
    values: dict[str, object] = {"host": ",".join(host for host, _ in pairs), "tls": tls}
    if any(port for _, port in pairs):
        values["port"] = ",".join(port or str(TLS_PORT if tls else PORT) for _, port in pairs)
    if parts.username:
        values["username"] = unquote(parts.username)
    if parts.password:
        values["password"] = unquote(parts.password)
    if len(parts.path) > 1:
        values["vhost"] = unquote(parts.path[1:])
    given = parse_qs(parts.query).get("heartbeat", [])
    if len(given) == 1 and given[0].isdecimal():
        values["heartbeat_s"] = int(given[0])
    elif given and given != ["none"]:
        log.warning(
            "RABBITMQ_URL has heartbeat=%s; one number of seconds is expected, so the interval "
            "that the server suggests is used.", ",".join(given),
        )  # fmt: skip
    return values
