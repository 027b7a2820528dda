"""`zwrap peek`: show messages that wait, or dead letters, and leave them there."""

from __future__ import annotations

import argparse
import contextlib
import time

from zwrap.cli.common import say, say_json
from zwrap.cli.onequeue import check_exists, received
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError
from zwrap.message.identity import attempt_of
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery
from zwrap.transport.diagnosis import reason_of


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("QUEUE", help="queue whose messages are shown")
    add("-n", "--number", type=int, default=1, metavar="N", help="default %(default)s")
    add("--dead", action="store_true", help="show its dead letters, with their reasons")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Show messages and put them back; their deliveries are not counted."""
    if options.number < 1:
        raise ConfigurationError(f"-n {options.number}: a number from 1 on is expected.")
    with connect(configuration, options.transport) as transport:
        held = []
        there = check_exists(transport, options.QUEUE, dead=options.dead)
        found = received(transport, options.QUEUE, options.number, dead=options.dead)
        for delivery in found if there else ():
            held.append(delivery)
            say_json(_shown(delivery, options.dead))
            if len(held) == options.number:
                break
        for delivery in held:
            delivery.retry(counted=False)
    if not held:
        say(f"Nothing waits in {options.QUEUE}.")
    return 0


def _shown(delivery: Delivery, dead: bool) -> dict[str, object]:
    """Return a message with its attempt, delivery count and time, as it is printed.

    The attempt is null if its header holds a number that no attempt has.
    """
    attempt = None
    with contextlib.suppress(MessageError):
        attempt = attempt_of(delivery.message.headers)
    shown: dict[str, object] = {
        "id": delivery.message.id,
        "attempt": attempt,
        "delivery_count": delivery.delivery_count,
    }
    if delivery.sent_at is not None:
        shown["sent"] = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(delivery.sent_at))
    if dead:
        shown["reason"] = reason_of(delivery)
    return {**shown, "headers": dict(delivery.message.headers), "message": delivery.message.body}
