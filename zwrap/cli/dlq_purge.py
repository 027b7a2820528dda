"""`zocalo.dlq_purge`: export dead letters to files, and remove them from the transport."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from zwrap.cli.common import complain, program, say
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, ConfigurationError
from zwrap.transport import deadletters
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery, Transport

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
        pause_s = options.wait
        if pause_s is None:
            pause_s = FIRST_WAIT_S if any(counts.values()) else 0.0
        failed = _export_all(transport, location.absolute(), pause_s, options.wait)
        for delivery in failed:
            delivery.retry(counted=False)
        transport.flush()
    if failed:
        complain(f"{len(failed)} dead letter(s) could not be exported, and stay where they were.")
        return PERMANENT
    say("Done.")
    return 0


def _export_all(
    transport: Transport, location: Path, first_s: float, wait_s: float | None
) -> list[Delivery]:
    """Export dead letters until none comes for a while; return those that could not be exported.

    `first_s`: longest wait for the first one, in seconds; `wait_s`: for the others, None: the
    default.
    """
    failed: list[Delivery] = []
    pause_s = first_s
    while delivery := transport.receive(pause_s):
        if not _export(delivery, location, transport.prefix):
            failed.append(delivery)  # held, because it would come again
            held = sum(each.source == delivery.source for each in failed)
            transport.inspector().subscribe_dead_letters(delivery.source, held + 1)
        pause_s = WAIT_S if wait_s is None else wait_s
    return failed


def _export(delivery: Delivery, location: Path, prefix: str) -> bool:
    """Export one dead letter and remove it; False, and a complaint, if that is not possible.

    Raises ConfigurationError if none can be exported.
    """
    identity = delivery.message.id
    try:
        exported = deadletters.export(delivery, location, prefix)
        died = time.strftime("%Y-%m-%d %H:%M:%S", exported.died)
        say(f"    Message {identity} ({died}) exported:")
        say(f"  {exported.file}")
        delivery.ack()
    except (BrokenPipeError, ConfigurationError):
        raise
    except Exception as error:  # what is wrong with one dead letter must not keep the others here
        complain(
            f"Dead letter {identity} of {delivery.source} cannot be exported and removed: "
            f"{type(error).__name__}: {error}"
        )
        return False
    return True


main = program("zocalo.dlq_purge", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
