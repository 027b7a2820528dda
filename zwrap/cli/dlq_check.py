"""`zocalo.dlq_check`: are there dead letters?"""

from __future__ import annotations

import argparse
import sys

from zwrap.cli.common import add_common_options, configured, parsed, reported, say
from zwrap.configuration import Configuration
from zwrap.transport.connect import connect


def _parser(configuration: Configuration) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zocalo.dlq_check", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "-n", "--namespace", default="", metavar="NS", help="look at queues of this namespace only"
    )
    add_common_options(parser, configuration)
    return parser


@reported
def main(arguments: list[str] | None = None) -> int:
    """Count them by queue; 1 if there is any."""
    configuration = configured(arguments)
    options = parsed(_parser(configuration), arguments)
    transport = connect(configuration, options.transport)
    prefix = f"{options.namespace}." if options.namespace else ""
    counts = {
        queue: count
        for queue, count in transport.dead_letters().items()
        if queue.startswith(prefix)
    }
    transport.close()
    for queue, count in counts.items():
        say(f"DLQ for {queue} contains {count} entries")
    if counts:
        sys.stderr.write(f"Total of {sum(counts.values())} DLQ messages found\n")
        return 1
    say("No DLQ messages found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
