"""Overview of a site: where its messages, its ledger and its jobs are, without secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from zwrap.attempt.ledger.place import default_file
from zwrap.configuration.site import Configuration
from zwrap.host.paths import default_spool
from zwrap.submission.clusters import Clusters
from zwrap.transport.connect import EMBEDDED, default_transport
from zwrap.transport.options import TransportChoice
from zwrap.transport.rabbitmq import settings as rabbitmq
from zwrap.transport.stomp import settings as stomp

Part = tuple[str, Callable[[], str]]
"""Name of a part, and the function that describes it, or raises ZwrapError for a fault of it."""


def parts(configuration: Configuration, chosen: TransportChoice) -> list[Part]:
    """Return the parts of a site, in the order in which they are shown."""
    return [
        ("transport", partial(place, configuration, chosen)),
        ("login", partial(_login, configuration, chosen)),
        ("queues", partial(_queues, configuration, chosen)),
        ("ledger", partial(_ledger, configuration)),
        ("clusters", partial(_clusters, configuration)),
    ]


def place(configuration: Configuration, chosen: TransportChoice) -> str:
    """Return the name of the transport, and its server or directory if that is known."""
    name = _name(configuration, chosen)
    found: Sequence[tuple[str, int]] = ()
    if name == "PikaTransport":
        found = rabbitmq.server_from(configuration, chosen.broker).addresses
    elif name == "StompTransport":
        found = stomp.server_from(configuration, chosen.broker).addresses
    elif name == EMBEDDED:
        return f"{name}, {_spool(configuration)}"
    servers = ", ".join(f"{host}:{port}" for host, port in found)
    return f"{name}, {servers}" if servers else name


def _login(configuration: Configuration, chosen: TransportChoice) -> str:
    """Return the user that logs in to the server."""
    name = _name(configuration, chosen)
    if name == "PikaTransport":
        return f"user {rabbitmq.server_from(configuration, chosen.broker).username!r}"
    if name == "StompTransport":
        return f"user {stomp.server_from(configuration, chosen.broker).username!r}"
    return "none, files belong to this user" if name == EMBEDDED else "not known here"


def _queues(configuration: Configuration, chosen: TransportChoice) -> str:
    """Return the place of the queues on the server."""
    name = _name(configuration, chosen)
    if name == "PikaTransport":
        return f"vhost {rabbitmq.server_from(configuration, chosen.broker).vhost!r}"
    if name == "StompTransport":
        prefix = stomp.server_from(configuration, chosen.broker).prefix
        return f"names begin with {prefix + '.'!r}" if prefix else "names without a prefix"
    return f"directories below {_spool(configuration)}" if name == EMBEDDED else "not known here"


def _ledger(configuration: Configuration) -> str:
    """Return the place of the ledger."""
    given = configuration.site.ledger
    return given.url if given else str(default_file())  # whoever prints it hides the password


def _clusters(configuration: Configuration) -> str:
    """Return the names of the clusters, and that of the default."""
    clusters = Clusters(configuration)
    return f"{', '.join(clusters.described())}; default: {clusters.default or 'none'}"


def _name(configuration: Configuration, chosen: TransportChoice) -> str:
    """Return the name of the transport; ConfigurationError if the site file leaves a doubt."""
    return chosen.name or default_transport(configuration)


def _spool(configuration: Configuration) -> str:
    """Return the directory of the spool."""
    settings = configuration.site.spool
    return settings.path if settings else str(default_spool())
