"""The transports by name, and their options on a command line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from zwrap.compat.workflows.transport.common_transport import CommonTransport
from zwrap.compat.workflows.transport.offline_transport import OfflineTransport
from zwrap.compat.workflows.transport.pika_transport import PikaTransport
from zwrap.compat.workflows.transport.site import site
from zwrap.compat.workflows.transport.site_transport import SiteTransport
from zwrap.compat.workflows.transport.spool_transport import SpoolTransport
from zwrap.compat.workflows.transport.stomp_transport import StompTransport
from zwrap.transport import connect

if TYPE_CHECKING:
    default_transport: str


def __getattr__(name: str) -> object:
    """Return the name of the site's transport as `default_transport`."""
    if name == "default_transport":
        return connect.default_transport(site())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_known_transports() -> dict[str, type[CommonTransport]]:
    """Return all transports by name."""
    return {
        "OfflineTransport": OfflineTransport,
        "PikaTransport": PikaTransport,
        "SpoolTransport": SpoolTransport,
        "StompTransport": StompTransport,
    }


def lookup(transport: str | None) -> type[CommonTransport]:
    """Return a transport by name; the default one for None, and for a name that is not known."""
    known = get_known_transports()
    if transport in known:
        return known[transport]
    name = _default()
    return known.get(name) or type(name, (SiteTransport,), {"name": name})


def _default() -> str:
    """Return the name of the default, which a program may have set in the package."""
    return str(sys.modules[__package__ or ""].default_transport)


def add_command_line_options(parser: Any, transport_argument: bool = False) -> None:
    """Declare the options of all transports on a parser of argparse or optparse.

    `transport_argument`: declare ``-t`` as well, which names one of them.
    """
    known = get_known_transports()
    if transport_argument:
        about = f"message transport, one of {', '.join(known)}; default: {_default()}"
        common: dict[str, Any] = {
            "dest": "transport",
            "metavar": "TRN",
            "default": _default(),
            "help": about,
        }
        if isinstance(parser, argparse.ArgumentParser):
            parser.add_argument("-t", "--transport", choices=list(known), **common)
        else:
            parser.add_option("-t", "--transport", type="choice", choices=list(known), **common)
    for kind in known.values():
        kind.add_command_line_options(parser)
