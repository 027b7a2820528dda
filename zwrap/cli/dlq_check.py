"""`zocalo.dlq_check`: report whether there are dead letters."""

from __future__ import annotations

import argparse
import sys

from zwrap.cli.common import program, remark, say, say_json
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "-n",
        "--namespace",
        default="",
        metavar="NS",
        help="vhost (RabbitMQ) or prefix (ActiveMQ) to look at, default that of the connection",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each queue")
    parser.epilog = "Exit status: 0: there are no dead letters; 1: there are."


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Count the dead letters of each queue; return 1 if there is any."""
    with connect(configuration, options.transport) as transport:
        inspector = transport.inspector()
        namespace = options.namespace
        counts = inspector.dead_letters_of(namespace) if namespace else inspector.dead_letters()
    if options.json:
        for queue, count in counts.items():
            say_json({"queue": queue, "dead": count}, indent=-1)
        return 1 if counts else 0
    for queue, count in counts.items():
        say(f"DLQ for {queue} contains {count} entries")
    if counts:
        remark(f"Total of {sum(counts.values())} DLQ messages found")
        return 1
    say("No DLQ messages found")
    return 0


main = program("zocalo.dlq_check", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
