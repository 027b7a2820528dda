"""From a site configuration to a connection: the one place that knows transports by name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

from zwrap.configuration import Configuration
from zwrap.errors import UnknownNameError
from zwrap.transport import Transport

GROUP = "workflows.transport"
EMBEDDED = "SpoolTransport"
"""What is used when nothing is configured."""


def transport_names() -> list[str]:
    """Names of the installed transports."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})


def default_transport(configuration: Configuration) -> str:
    """The transport that the configuration names, or the embedded one."""
    storage = configuration.storage or {}
    name = configuration.transport or storage.get("zocalo.default_transport") or EMBEDDED
    return str(name)


def connect(configuration: Configuration, name: str | None = None) -> Transport:
    """Open a connection of the named transport, else of the configured one."""
    name = name or default_transport(configuration)
    for entry in importlib.metadata.entry_points(group=GROUP, name=name):
        build: Callable[[Configuration], Transport] = entry.load().from_configuration
        return build(configuration)
    raise UnknownNameError("transport", name, transport_names())
