"""`zwrap purge`: delete all messages in a queue, or in the queues of all workers."""

from __future__ import annotations

import argparse
import sys

from zwrap.cli.common import say
from zwrap.cli.onequeue import BATCH, Progress, check_exists, received
from zwrap.cli.process_queue import declared
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("QUEUE", nargs="?", help="queue whose messages are deleted")
    add("--all", action="store_true", help="the queues of all workers that the site declares")
    add("--dead", action="store_true", help="delete dead letters instead")
    add("--yes", action="store_true", help="do not ask")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Delete the messages for good; end when the user first refuses."""
    if bool(options.QUEUE) == options.all:
        raise ConfigurationError("Name a queue to purge, or give --all, and not both.")
    queues = declared(configuration, []) if options.all else [options.QUEUE]
    with connect(configuration, options.transport) as transport:
        for queue in queues:
            if status := _purge(transport, queue, options):
                return status
    return 0


def _purge(transport: Transport, queue: str, options: argparse.Namespace) -> int:
    """Delete the messages of one queue; return 1 if the user refuses."""
    if not options.all:  # a queue of a worker may not be there yet
        check_exists(transport, queue, dead=options.dead)
    elif transport.inspector().exists(queue) is False:
        say(f"There is no queue {queue}: nothing to delete.")
        return 0
    if options.dead:
        count = transport.inspector().dead_letters().get(queue, 0)
        what = f"{count} dead letter(s) of {queue}"
    else:
        count = transport.inspector().waiting(queue)
        what = f"{count} message(s) in {queue}"
    if not count:
        say(f"There are {what}: nothing to delete.")
        return 0
    if not options.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"There are {what}. Say --yes to delete them for good.")
        if input(f"Delete {what} for good? [y/N] ").strip().lower() not in ("y", "yes"):
            say("Nothing was deleted.")
            return 1
    progress = Progress("deleted", count)
    for delivery in received(transport, queue, BATCH, dead=options.dead):
        delivery.ack()
        progress.step()
    transport.flush()
    progress.end()
    return 0
