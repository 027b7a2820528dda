"""`zocalo.shutdown`: ask services to end."""

from __future__ import annotations

import argparse
import socket
import sys

from zwrap.cli.common import program, say
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

TOPIC = "command"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.set_defaults(print_help=parser.print_help)
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="instance to end: hostname.pid")
    parser.add_argument(
        "-s", "--service", action="append", default=[], metavar="SVC",
        help="all instances of this service; 'none': instances without one",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Broadcast one command per host and service."""
    if not options.hosts and not options.service:
        options.print_help()
        return 1
    with connect(configuration, options.transport) as transport:
        for host in options.hosts:
            say(f"Stopping {host}")
            _broadcast(transport, {"host": qualified(host)})
        for service in options.service:
            name = None if service.lower() == "none" else service
            say("Stopping all instances " + (f"of {name}" if name else "without a service"))
            _broadcast(transport, {"service": name})
        transport.flush()
    return 0


def _broadcast(transport: Transport, condition: dict[str, str | None]) -> None:
    """Broadcast a command to end to the services that satisfy a condition."""
    transport.broadcast(TOPIC, {"command": "shutdown", **condition})


def qualified(host: str) -> str:
    """Return a name in the form of status messages: ``org.site.node.17`` for ``node.17``."""
    domain = socket.gethostname().split(".")[1:]
    if host.count(".") != 1 or not domain:
        return host
    return ".".join([*reversed(domain), host])


main = program("zocalo.shutdown", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
