"""`zocalo.dlq_check`: report whether there are dead letters."""

from __future__ import annotations

import argparse
import sys

from zwrap.cli.common import program, remark, say
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "-n", "--namespace", default="", metavar="NS", help="look at queues of this namespace only"
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Count the dead letters of each queue; return 1 if there is any."""
    prefix = f"{options.namespace}." if options.namespace else ""
    with connect(configuration, options.transport) as transport:
        found = transport.inspector().dead_letters()
    counts = {queue: count for queue, count in found.items() if queue.startswith(prefix)}
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
