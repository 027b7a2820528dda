"""Connections from a site configuration: the only module that finds transports by name."""

from __future__ import annotations

from zwrap import plugins
from zwrap.configuration.site import Configuration
from zwrap.errors import UnknownNameError
from zwrap.transport.contract import Transport
from zwrap.transport.options import TransportChoice

EMBEDDED = "SpoolTransport"
"""Name of the transport that is used if none is configured."""


def default_transport(configuration: Configuration) -> str:
    """Return the name of the configured transport, or of the embedded one."""
    return configuration.site.default_transport or EMBEDDED


def transport_class(name: str) -> type[Transport]:
    """Return the class of a transport; UnknownNameError if none of that name is installed."""
    found: type[Transport] | None = plugins.find(plugins.TRANSPORTS, name)
    if found is None:
        raise UnknownNameError("transport", name, plugins.names(plugins.TRANSPORTS))
    return found


def connect(configuration: Configuration, chosen: TransportChoice | str | None = None) -> Transport:
    """Open a connection of the chosen transport, else of the configured one.

    Args:
        configuration: The site configuration.
        chosen: Name of a transport, or the choice of a command line; None: the configured one.

    Raises:
        UnknownNameError: No transport of that name is installed.
        ConfigurationError: A setting is wrong.
        TransportError: The broker, or the spool, cannot be reached at present.
    """
    kind = transport_class(str(chosen or default_transport(configuration)))
    if isinstance(chosen, TransportChoice) and chosen.broker:
        return kind.from_configuration(configuration, chosen.broker)
    return kind.from_configuration(configuration)  # a foreign transport may have no options
