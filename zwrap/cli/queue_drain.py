"""`zocalo.queue_drain`: move messages from one queue to another, one at a time."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from zwrap.cli.common import program, remark, say
from zwrap.configuration.site import Configuration
from zwrap.errors import PermanentError
from zwrap.message.limits import ANY_SIZE
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.queues import CLUSTER, is_of_kind
from zwrap.transport import mover
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery, Transport


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("SOURCE", help="queue to take messages from")
    add("DEST", help="queue to send them to; '.': the one that each message's recipe names")
    add(
        "--wait", type=float, default=5, metavar="S",
        help="seconds between two messages, default %(default)s",
    )  # fmt: skip
    add(
        "--stop", type=float, default=60, metavar="S",
        help="stop when nothing came for this many seconds, default %(default)s; 0: never",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Move messages until none comes for a while."""
    with connect(configuration, options.transport) as transport:
        say(f"Reading messages from {options.SOURCE}")
        automatic = options.DEST == "."
        place = "automatically determined destinations" if automatic else options.DEST
        say(f"Writing messages to {place}")
        transport.relay()
        transport.subscribe(options.SOURCE)
        return _Drain(transport, options).run()


class _Target(NamedTuple):
    """A place to which a message is sent."""

    queue: str
    exchange: str = ""
    """Exchange that gets the message, by the name of the queue; empty: none."""


class _Drain:
    """One run, with the number of messages that it moved."""

    def __init__(self, transport: Transport, options: argparse.Namespace) -> None:
        self._transport = transport
        self._options = options
        self._count = 0
        self._began = self._last = time.monotonic()

    def run(self) -> int:
        """Move messages; return 1 if interrupted, or if a destination is not known."""
        stop_s = self._options.stop or float("inf")
        try:
            while (left_s := self._last + stop_s - time.monotonic()) > 0:
                delivery = self._transport.receive(min(left_s, 60.0))
                if delivery and not self._move(delivery):
                    remark("Could not determine target queue for message")
                    return 1
        except KeyboardInterrupt:
            remark("")
            remark(
                f"Cancelling, {self._count} message(s) drained, 0 message(s) unprocessed in memory"
            )
            return 1
        idle_s = time.monotonic() - self._last
        say(f"{self._count} message(s) drained, no message seen for {idle_s:.1f} seconds")
        return 0

    def _move(self, delivery: Delivery) -> bool:
        """Move one message; False if its destination is not known."""
        say()
        if delivery.sent_at is not None:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(delivery.sent_at))
            say(f"Message date: {moment}")
        target = self._target(delivery)
        if target is None:
            delivery.retry(counted=False)
            return False
        mover.forward(delivery, target.queue, self._transport, target.exchange)
        self._count += 1
        elapsed_s = time.monotonic() - self._began
        say(f"{self._count:4d} message(s) drained in {elapsed_s:.1f} seconds")
        time.sleep(self._options.wait)
        self._last = time.monotonic()
        return True

    def _target(self, delivery: Delivery) -> _Target | None:
        """Return where to send a message, and print what the message is."""
        given = None if self._options.DEST == "." else _Target(str(self._options.DEST))
        step: Mapping[str, object] = {}
        if delivery.message.is_recipe:
            try:
                envelope = Envelope.from_body(delivery.message.body, ANY_SIZE)
            except PermanentError:
                return given
            say(f"Recipe ID:    {envelope.recipe_id}")
            step = envelope.step
            if given is None and step.get("queue"):
                given = _Target(str(step["queue"]), str(step.get("exchange") or ""))
                say(f"Target Queue: {given.queue}")
                if given.exchange:
                    say(f"Exchange:     {given.exchange}")
        if given and is_of_kind(given.queue, CLUSTER):
            _say_cluster(step.get("parameters"))
        return given


def _say_cluster(parameters: object) -> None:
    """Print beamline and working directory of a submission, as python-zocalo does."""
    if not isinstance(parameters, Mapping):
        return
    if parameters.get("cluster_project"):
        say(f"Beamline {str(parameters['cluster_project']).upper()}")
    if parameters.get("workingdir"):
        say(f"Working directory {parameters['workingdir']}")


main = program("zocalo.queue_drain", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
