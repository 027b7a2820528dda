"""The options of a command line that describe a broker and its user."""

from __future__ import annotations

import msgspec


class BrokerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a broker that take precedence over those of the site configuration."""

    host: str | None = None
    """Host, or several hosts, separated by commas."""
    port: str | None = None
    """Port, or one port for each host, separated by commas."""
    username: str | None = None
    password: str | None = None
    vhost: str | None = None
    """Virtual host (RabbitMQ)."""
    prefix: str | None = None
    """Beginning of the names of queues and topics (ActiveMQ)."""
    conf: str | None = None
    """Path of an INI file of python-workflows with further settings; the options here take
    precedence over it."""

    def values(self) -> dict[str, str]:
        """Return the settings that were given, by name, without `conf`."""
        names = ("host", "port", "username", "password", "vhost", "prefix")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class TransportChoice(msgspec.Struct, frozen=True):
    """The choice of a transport on a command line."""

    name: str
    """Name of the transport in its entry point group; empty: the configured one, about which the
    site file leaves a doubt, so that whoever connects is told."""
    broker: BrokerOptions | None = None
    """Settings of its broker that take precedence over the site configuration."""

    def __str__(self) -> str:
        return self.name
