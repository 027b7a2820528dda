"""The options of a command line that say where a broker is and who connects."""

from __future__ import annotations

import msgspec


class BrokerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a broker that go before those of the site configuration."""

    host: str | None = None
    """Host, or several with commas."""
    port: str | None = None
    """Port, or one for each host, with commas."""
    username: str | None = None
    password: str | None = None
    vhost: str | None = None
    """Virtual host (RabbitMQ)."""
    prefix: str | None = None
    """Beginning of the names of queues and topics (ActiveMQ)."""
    conf: str | None = None
    """Path of an INI file of python-workflows with more of them; the other options go before it."""

    def values(self) -> dict[str, str]:
        """Return what was given, by name, without the file."""
        names = ("host", "port", "username", "password", "vhost", "prefix")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class TransportChoice(msgspec.Struct, frozen=True):
    """A transport as a command line chooses it."""

    name: str
    """Name under which it is installed."""
    broker: BrokerOptions | None = None
    """Settings of its broker that go before the site configuration."""

    def __str__(self) -> str:
        return self.name
