"""Connections from a site configuration: the only module that finds transports by name."""

from __future__ import annotations

from zwrap import plugins
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, PermanentError, UnknownNameError
from zwrap.transport.contract import Transport
from zwrap.transport.options import TransportChoice

EMBEDDED = "SpoolTransport"
"""Name of the transport that is used if none is configured."""


def default_transport(configuration: Configuration) -> str:
    """Return the name of the configured transport, or of the embedded one.

    Raises:
        ConfigurationError: The group ``transport`` of the active environments chooses none.
    """
    if chosen := configuration.site.default_transport:
        return chosen
    for environment in configuration.active_environments:
        named = map(configuration.resolved, configuration.transport_sections.get(environment, ()))
        kinds = {section.name: section.value["plugin"] for section in named}
        if kinds and "spool" not in kinds.values():
            raise ConfigurationError(
                f"Environment {environment!r} ({configuration.environment_origins[environment]}), "
                f"group 'transport', names {_listed(kinds)}, which chooses no transport, so that "
                f"messages would go to the spool. Name a section with 'plugin: transport' and "
                f"'default: {_meant(kinds)}' there, and the others under 'plugins'."
            )
    return EMBEDDED


def _listed(kinds: dict[str, str]) -> str:
    """Return names of sections with their plugins."""
    return ", ".join(f"{name!r} (plugin {kind})" for name, kind in kinds.items())


def _meant(kinds: dict[str, str]) -> str:
    """Return the transport that sections are probably meant for."""
    known = {"pika": "PikaTransport", "stomp": "StompTransport"}
    return next((known[kind] for kind in kinds.values() if kind in known), "NAME")


def transport_class(name: str) -> type[Transport]:
    """Return the class of a transport.

    Raises:
        UnknownNameError: None of that name is installed.
        PermanentError: It is a transport of another program.
    """
    found: type[Transport] | None = plugins.find(plugins.TRANSPORTS, name)
    if found is None:
        raise UnknownNameError("transport", name, plugins.names(plugins.TRANSPORTS))
    if not hasattr(found, "from_configuration"):
        raise PermanentError(
            f"Transport {name!r} ({found!r}) is not one of zwrap: a subclass of "
            "zwrap.transport.contract.Transport is expected. One of python-workflows works in its "
            "own programs only."
        )
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
