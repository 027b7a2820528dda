"""From a site configuration to a connection: the one place that knows transports by name."""

from __future__ import annotations

from zwrap import plugins
from zwrap.configuration.site import Configuration
from zwrap.errors import UnknownNameError
from zwrap.transport.contract import Transport

EMBEDDED = "SpoolTransport"
"""Name of the transport that is used when nothing is configured."""


def default_transport(configuration: Configuration) -> str:
    """Return the name of the configured transport, or of the embedded one."""
    storage = configuration.storage or {}
    name = configuration.transport or storage.get("zocalo.default_transport") or EMBEDDED
    return str(name)


def transport_class(name: str) -> type[Transport]:
    """Return the transport of that name; UnknownNameError if none is installed under it."""
    found: type[Transport] | None = plugins.find(plugins.TRANSPORTS, name)
    if found is None:
        raise UnknownNameError("transport", name, plugins.names(plugins.TRANSPORTS))
    return found


def connect(configuration: Configuration, name: str | None = None) -> Transport:
    """Open a connection of the named transport, else of the configured one.

    Raises ConfigurationError if a setting is wrong, TransportError if the other side cannot be
    reached at present.
    """
    return transport_class(name or default_transport(configuration)).from_configuration(
        configuration
    )
