"""`zwrap drain`: move all messages from one queue to another."""

from __future__ import annotations

import argparse

from zwrap.cli.common import complain
from zwrap.cli.onequeue import BATCH, Progress, check_exists, received
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, ConfigurationError
from zwrap.message.content import UNDECODABLE_HEADER
from zwrap.transport import mover
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("QUEUE", metavar="SOURCE", help="queue to take messages from")
    add("DEST", help="queue to send them to")
    add("--dead", action="store_true", help="take the dead letters of SOURCE")
    add("--limit", type=int, metavar="N", help="move no more than N messages")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Move the messages."""
    if not options.dead and options.QUEUE == options.DEST:
        raise ConfigurationError(
            f"SOURCE and DEST are both {options.DEST!r}; two different queues are expected."
        )
    if options.limit is not None and options.limit < 1:
        raise ConfigurationError(f"--limit {options.limit}: a number from 1 on is expected.")
    with connect(configuration, options.transport) as transport:
        count = (
            transport.inspector().dead_letters().get
            if options.dead
            else transport.inspector().waiting
        )
        there = check_exists(transport, options.QUEUE, dead=options.dead)
        progress = Progress("moved", (count(options.QUEUE) if there else 0) or 0)
        moved = set()  # a message that could not be moved is delivered again, and counts once
        prefetch = min(BATCH, options.limit or BATCH)
        left: list[Delivery] = []
        found = received(transport, options.QUEUE, prefetch, dead=options.dead)
        for delivery in found if there else ():
            if options.dead and delivery.message.headers.get(UNDECODABLE_HEADER):
                left.append(delivery)  # held, because it would come again
                if len(left) % prefetch == 0:
                    held = len(left) + prefetch
                    transport.inspector().subscribe_dead_letters(options.QUEUE, held)
                continue
            mover.forward(delivery, options.DEST, transport)
            if delivery.message.id not in moved:
                moved.add(delivery.message.id)
                progress.step()
            if len(moved) == options.limit:
                break
        for delivery in left:
            delivery.retry(counted=False)
        transport.flush()
        progress.end()
    if left:
        complain(f"{len(left)} dead letter(s) hold no message, and stay in {options.QUEUE}.")
        return PERMANENT
    return 0
