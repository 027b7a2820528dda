"""`zocalo.shutdown`: ask services to end."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys

from zwrap.cli.common import program, say
from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.sitekey import SiteKey
from zwrap.service.commands import COMMAND_TOPIC, signed_headers
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.set_defaults(print_help=parser.print_help)
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="instance to end: hostname.pid")
    parser.add_argument(
        "-s", "--service", action="append", default=[], metavar="SVC",
        help="all instances of this service; 'none': instances without one",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Broadcast one command per host and service.

    Raises ConfigurationError if services obey only signed commands, and this user has no key.
    """
    if not options.hosts and not options.service:
        options.print_help()
        return 1
    key = site_key(configuration, create=False)
    if configuration.site.security.signed_commands:
        signed_headers({}, key)
    with connect(configuration, options.transport) as transport:
        for host in options.hosts:
            say(f"Stopping {host}")
            _broadcast(transport, key, {"host": qualified(host)})
        for service in options.service:
            name = None if service.lower() == "none" else service
            say("Stopping all instances " + (f"of {name}" if name else "without a service"))
            _broadcast(transport, key, {"service": name})
        transport.flush()
    return 0


def _broadcast(transport: Transport, key: SiteKey, condition: dict[str, str | None]) -> None:
    """Broadcast a command to end to the services that satisfy a condition.

    It is signed if this user can read the key of the site, which some sites demand.
    """
    command = {"command": "shutdown", **condition}
    headers: dict[str, object] = {}
    with contextlib.suppress(ConfigurationError):
        headers = signed_headers(command, key)
    transport.broadcast(COMMAND_TOPIC, command, headers)


def qualified(host: str) -> str:
    """Return a name in the form of status messages: ``org.site.node.17`` for ``node.17``."""
    domain = socket.gethostname().split(".")[1:]
    if host.count(".") != 1 or not domain:
        return host
    return ".".join([*reversed(domain), host])


main = program("zocalo.shutdown", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
