"""`zocalo.dlq_purge`: export dead letters to files, and remove them from the transport."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from zwrap.cli.common import program, say
from zwrap.configuration.site import Configuration
from zwrap.transport import deadletters
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

FIRST_WAIT_S, WAIT_S = 3.0, 0.1
"""Longest wait for the first message, and for each further one, in seconds."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("--wait", type=float, metavar="S", help="wait this many seconds for further messages")
    add(
        "--location", "--output-directory", type=Path, metavar="DIR",
        help="where to write the files; default: storage key zocalo.dlq.purge_location, else DLQ",
    )  # fmt: skip
    add(
        "queues", nargs="*", metavar="QUEUE",
        help="queue whose dead letters are exported, with or without 'dlq.'; default: all queues",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Export the dead letters; each leaves the transport only when its file is safe."""
    configured = configuration.site.dead_letter_directory
    location = options.location or configured or Path("DLQ")
    with connect(configuration, options.transport) as transport:
        inspector = transport.inspector()
        counts = inspector.dead_letters()
        known = {*counts, *inspector.queues()}
        queues = [deadletters.queue_name(name) for name in options.queues] or list(counts)
        for queue in queues:
            say(f"Found {counts.get(queue, 0)} DLQ messages in {queue}")
            if queue in known:  # a subscription would create a queue that does not exist
                inspector.subscribe_dead_letters(queue)
        _export(transport, location.absolute(), options.wait, any(counts.values()))
    say("Done.")
    return 0


def _export(transport: Transport, location: Path, wait_s: float | None, expected: bool) -> None:
    """Export dead letters until none comes for a while; `wait_s` in seconds, None: the default."""
    pause_s = wait_s if wait_s is not None else FIRST_WAIT_S if expected else 0.0
    while delivery := transport.receive(pause_s):
        exported = deadletters.export(delivery, location)
        died = time.strftime("%Y-%m-%d %H:%M:%S", exported.died)
        say(f"    Message {delivery.message.id} ({died}) exported:")
        say(f"  {exported.file}")
        delivery.ack()
        pause_s = WAIT_S if wait_s is None else wait_s


main = program("zocalo.dlq_purge", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
