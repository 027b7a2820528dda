"""`zocalo.dlq_check`: report whether there are dead letters."""

from __future__ import annotations

import argparse
import sys

from msgspec.structs import replace

from zwrap.cli.common import BROKER_OPTIONS, program, remark, say
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect
from zwrap.transport.options import BrokerOptions, TransportChoice


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "-n", "--namespace", default="", metavar="NS",
        help="look at queues of this namespace only: a vhost of RabbitMQ, a prefix of names on "
        "ActiveMQ, their beginning, up to a full stop, on other transports",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Count the dead letters of each queue; return 1 if there is any."""
    chosen, prefix = options.transport, ""
    if options.namespace and chosen.name in BROKER_OPTIONS:
        chosen = _within(options.namespace, chosen)
    elif options.namespace:
        prefix = f"{options.namespace}."
    with connect(configuration, chosen) as transport:
        found = transport.inspector().dead_letters()
    counts = {queue: count for queue, count in found.items() if queue.startswith(prefix)}
    for queue, count in counts.items():
        say(f"DLQ for {queue} contains {count} entries")
    if counts:
        remark(f"Total of {sum(counts.values())} DLQ messages found")
        return 1
    say("No DLQ messages found")
    return 0


def _within(namespace: str, chosen: TransportChoice) -> TransportChoice:
    """Return the choice of the same broker, with another vhost, or prefix of names."""
    broker = replace(chosen.broker or BrokerOptions(), vhost=namespace, prefix=namespace)
    return replace(chosen, broker=broker)


main = program("zocalo.dlq_check", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
