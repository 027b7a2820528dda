"""Connections from a site configuration: the only module that finds transports by name."""

from __future__ import annotations

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, PermanentError, UnknownNameError
from zwrap.plugins import registry
from zwrap.transport.contract import Transport
from zwrap.transport.options import TransportChoice

EMBEDDED = "SpoolTransport"
"""Name of the transport that is used if none is configured."""


MEANT = {"spool": EMBEDDED, "pika": "PikaTransport", "stomp": "StompTransport"}
"""Plugin whose section describes a spool or a broker, to the transport that it is for."""


def default_transport(configuration: Configuration) -> str:
    """Return the name of the configured transport, or of the embedded one.

    It is the one that plugin `transport` or the storage chooses, else that of the section in the
    group ``transport`` of an active environment, else that of the broker which is described.

    Raises:
        ConfigurationError: Sections describe several, and none chooses one of them.
    """
    if chosen := configuration.site.default_transport:
        return chosen
    for environment in reversed(configuration.active_environments):
        if meant := _of_group(configuration, environment):
            return meant
    return _of_sections(configuration)


def _of_group(configuration: Configuration, environment: str) -> str | None:
    """Return the transport of the group ``transport`` of an environment; None without a group."""
    named = map(configuration.resolved, configuration.transport_sections.get(environment, ()))
    kinds = {section.name: section.value["plugin"] for section in named}
    if not kinds:
        return None
    meant = {MEANT[kind] for kind in kinds.values() if kind in MEANT}
    if len(meant) == 1:
        return meant.pop()
    sections = ", ".join(f"{name!r} (plugin {kind})" for name, kind in kinds.items())
    raise ConfigurationError(
        f"Environment {environment!r} ({configuration.environment_origins[environment]}), group "
        f"'transport', names {sections}, which does not tell the transport. Name one section of "
        "plugin 'pika', 'stomp' or 'spool' there, or one with 'plugin: transport' and "
        f"'default: {' or '.join(sorted(meant)) or 'NAME'}'."
    )


def _of_sections(configuration: Configuration) -> str:
    """Return the transport of the only broker that is described, else the embedded one.

    Raises ConfigurationError if two brokers, or a broker and a spool, are described.
    """
    places = {kind: found for kind in MEANT if (found := configuration.site.places(kind))}
    brokers = [kind for kind in places if kind != "spool"]
    if not brokers:
        return EMBEDDED
    if len(places) == 1:
        return MEANT[brokers[0]]
    sections = "; ".join(f"{found[-1]} (plugin {kind})" for kind, found in places.items())
    choices = " or ".join(MEANT[kind] for kind in places)
    raise ConfigurationError(
        f"Several sections say where messages go, and none chooses: {sections}. Add a section "
        f"with 'plugin: transport' and 'default: {choices}' to the environment."
    )


def transport_class(name: str) -> type[Transport]:
    """Return the class of a transport.

    Raises:
        UnknownNameError: None of that name is installed.
        PermanentError: It is a transport of another program.
    """
    found: type[Transport] | None = registry.find(registry.TRANSPORTS, name)
    if found is None:
        raise UnknownNameError("transport", name, registry.names(registry.TRANSPORTS))
    if not hasattr(found, "from_configuration"):
        raise PermanentError(
            f"Transport {name!r} ({found!r}) is not one of zwrap: a subclass of "
            "zwrap.transport.contract.Transport is expected. One of python-workflows works in its "
            "own programs only."
        )
    return found


def chosen_class(
    configuration: Configuration, chosen: TransportChoice | str | None
) -> type[Transport]:
    """Return the class of the chosen transport, else of the configured one.

    Raises:
        UnknownNameError: No transport of that name is installed.
        ConfigurationError: The site file leaves a doubt.
    """
    return transport_class(str(chosen or "") or default_transport(configuration))


def connect(configuration: Configuration, chosen: TransportChoice | str | None = None) -> Transport:
    """Open a connection of the chosen transport, else of the configured one.

    Args:
        configuration: The site configuration.
        chosen: Name of a transport, or the choice of a command line; None, or one without a name:
            the configured one.

    Raises:
        UnknownNameError: No transport of that name is installed.
        ConfigurationError: A setting is wrong.
        TransportError: The broker, or the spool, cannot be reached at present.
    """
    kind = chosen_class(configuration, chosen)
    if isinstance(chosen, TransportChoice) and chosen.broker:
        return kind.from_configuration(configuration, chosen.broker)
    return kind.from_configuration(configuration)  # a foreign transport may have no options
