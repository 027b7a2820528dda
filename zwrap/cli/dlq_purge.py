"""`zocalo.dlq_purge`: export dead letters to files, and take them out of the transport."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from zwrap import deadletters
from zwrap.cli.common import add_common_options, configured, parsed, reported, say
from zwrap.configuration import Configuration
from zwrap.transport import Transport
from zwrap.transport.connect import connect

FIRST_WAIT_S, WAIT_S = 3.0, 0.1
"""So long nothing may come, at first and later, until that was all."""


def _parser(configuration: Configuration, location: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zocalo.dlq_purge", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--wait", type=float, metavar="S", help="wait this many seconds for further messages")
    add(
        "--location", "--output-directory", type=Path, default=location, metavar="DIR",
        help="where to write the files, default %(default)s",
    )  # fmt: skip
    add(
        "queues", nargs="*", metavar="QUEUE",
        help="whose dead letters, with or without 'dlq.'; default: of all queues",
    )  # fmt: skip
    add_common_options(parser, configuration)
    return parser


@reported
def main(arguments: list[str] | None = None) -> int:
    """Export; each dead letter is forgotten only when its file is safe."""
    configuration = configured(arguments)
    location = configuration.directory("zocalo.dlq.purge_location") or Path("DLQ")
    options = parsed(_parser(configuration, location), arguments)
    transport = connect(configuration, options.transport)
    counts = transport.dead_letters()
    queues = [deadletters.queue_name(name) for name in options.queues] or list(counts)
    try:
        for queue in queues:
            say(f"Found {counts.get(queue, 0)} DLQ messages in {queue}")
            transport.subscribe_dead_letters(queue)
        _export(transport, options.location.absolute(), options.wait, any(counts.values()))
    finally:
        transport.close()
    say("Done.")
    return 0


def _export(transport: Transport, location: Path, wait_s: float | None, expected: bool) -> None:
    """Take what comes, until nothing came for a while."""
    patience_s = wait_s if wait_s is not None else FIRST_WAIT_S if expected else 0.0
    while delivery := transport.receive(patience_s):
        exported = deadletters.export(delivery, location)
        died = time.strftime("%Y-%m-%d %H:%M:%S", exported.died)
        say(f"    Message {delivery.message.id} ({died}) exported:")
        say(f"  {exported.file}")
        delivery.ack()
        patience_s = WAIT_S if wait_s is None else wait_s


if __name__ == "__main__":
    sys.exit(main())
