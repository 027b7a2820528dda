"""`zwrap publish`, `peek`, `purge` and `drain`: by hand on one queue, whatever the transport is."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from zwrap.cli.common import say
from zwrap.cli.process_queue import declared
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.message import JSON, Outgoing, decode, encode
from zwrap.transport import mover
from zwrap.transport.connect import connect
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.diagnosis import reason_of

BATCH = 100
TELL_S = 2.0
"""Interval of the words about how far a long run is."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of the command that the parser is for."""
    _DECLARE[parser.prog.split()[-1]](parser)


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry the command out."""
    options.configuration = configuration
    with connect(configuration, options.transport) as transport:
        return _RUN[options.command](transport, options)


# -- publish -------------------------------------------------------------------------------------


def _declare_publish(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("QUEUE", help="where to send it")
    add("FILE", nargs="?", default="-", help="JSON text of the message; '-', the default: stdin")
    add("--lines", action="store_true", help="each line of FILE is a message")
    add("--topic", action="store_true", help="broadcast; QUEUE is a topic")
    add("--header", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    add("--delay", type=float, default=0.0, metavar="S", help="receivers get it S seconds later")
    add("--expires", type=float, metavar="S", help="nobody gets it later than in S seconds")


def _publish(transport: Transport, options: argparse.Namespace) -> int:
    headers: dict[str, JSON] = {}
    for each in options.header:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"--header {each!r} is not usable; NAME=VALUE is expected.")
        headers[name] = value
    progress = _Progress("sent")
    for body in _bodies(options):
        message = Outgoing(
            options.QUEUE, body, dict(headers), topic=options.topic, delay_s=options.delay,
            expires_s=options.expires,
        )  # fmt: skip
        transport.commit([message])
        progress.step()
    progress.end()
    return 0


def _bodies(options: argparse.Namespace) -> Iterator[JSON]:
    """The messages of the file; all are read before the first is sent."""
    name = "standard input" if options.FILE == "-" else options.FILE
    try:
        data = sys.stdin.buffer.read() if options.FILE == "-" else Path(options.FILE).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}.") from None
    if not options.lines:
        return iter([decode(data, f"content of {name}")])
    lines = enumerate(data.splitlines(), 1)
    return iter([decode(line, f"line {n} of {name}") for n, line in lines if line.strip()])


# -- peek ----------------------------------------------------------------------------------------


def _declare_peek(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("QUEUE", help="whose messages to show")
    add("-n", "--number", type=int, default=1, metavar="N", help="default %(default)s")
    add("--dead", action="store_true", help="its dead letters, with their reasons")


def _peek(transport: Transport, options: argparse.Namespace) -> int:
    """Show messages and put them back; that costs them no attempt."""
    if options.number < 1:
        raise ConfigurationError(f"-n {options.number}: a number from 1 on is expected.")
    held = []
    for delivery in _received(transport, options, options.number):
        held.append(delivery)
        say(msgspec.json.format(encode(_shown(delivery, options.dead)), indent=2).decode())
        if len(held) == options.number:
            break
    for delivery in held:
        delivery.retry(counted=False)
    if not held:
        say(f"Nothing waits in {options.QUEUE}.")
    return 0


def _shown(delivery: Delivery, dead: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": delivery.message.id, "attempt": delivery.delivery_count}
    if delivery.sent_at is not None:
        shown["sent"] = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(delivery.sent_at))
    if dead:
        shown["reason"] = reason_of(delivery)
    return {**shown, "headers": dict(delivery.message.headers), "message": delivery.message.body}


# -- purge ---------------------------------------------------------------------------------------


def _declare_purge(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("QUEUE", nargs="?", help="whose messages to delete")
    add("--all", action="store_true", help="those of all workers that the site declares")
    add("--dead", action="store_true", help="its dead letters instead")
    add("--yes", action="store_true", help="do not ask")


def _purge(transport: Transport, options: argparse.Namespace) -> int:
    """Delete what waits; it is gone for good."""
    if options.dead:
        count = transport.inspector().dead_letters().get(options.QUEUE, 0)
        what = f"{count} dead letter(s) of {options.QUEUE}"
    else:
        count = transport.inspector().waiting(options.QUEUE)
        what = f"{count} message(s) in {options.QUEUE}"
    if not count:
        say(f"There are {what}: nothing to delete.")
        return 0
    if not options.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"There are {what}. Say --yes to delete them for good.")
        if input(f"Delete {what} for good? [y/N] ").strip().lower() not in ("y", "yes"):
            say("Nothing was deleted.")
            return 1
    progress = _Progress("deleted", count)
    for delivery in _received(transport, options, BATCH):
        delivery.ack()
        progress.step()
    transport.flush()
    progress.end()
    return 0


def _purge_all(transport: Transport, options: argparse.Namespace) -> int:
    """The same for the queue of each worker."""
    if bool(options.QUEUE) == options.all:
        raise ConfigurationError("Say which queue to purge, or --all, and not both.")
    if not options.all:
        return _purge(transport, options)
    for queue in declared(options.configuration, []):
        if status := _purge(transport, argparse.Namespace(**{**vars(options), "QUEUE": queue})):
            return status
    return 0


# -- drain ---------------------------------------------------------------------------------------


def _declare_drain(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("QUEUE", metavar="SOURCE", help="queue to take messages from")
    add("DEST", help="queue to send them to")
    add("--dead", action="store_true", help="take the dead letters of SOURCE")
    add("--limit", type=int, metavar="N", help="move no more than N messages")


def _drain(transport: Transport, options: argparse.Namespace) -> int:
    """Move all that waits, as fast as it can be confirmed."""
    if not options.dead and options.QUEUE == options.DEST:
        raise ConfigurationError(f"SOURCE and DEST are both {options.DEST!r}.")
    if options.limit is not None and options.limit < 1:
        raise ConfigurationError(f"--limit {options.limit}: a number from 1 on is expected.")
    inspector = transport.inspector()
    count = inspector.dead_letters().get if options.dead else inspector.waiting
    progress = _Progress("moved", count(options.QUEUE) or 0)
    moved = set()  # what could not be moved comes again, and counts once
    for delivery in _received(transport, options, min(BATCH, options.limit or BATCH)):
        mover.forward(delivery, options.DEST, transport)
        if delivery.message.id not in moved:
            moved.add(delivery.message.id)
            progress.step()
        if len(moved) == options.limit:
            break
    transport.flush()
    progress.end()
    return 0


# -- all -----------------------------------------------------------------------------------------


def _received(
    transport: Transport, options: argparse.Namespace, prefetch: int
) -> Iterator[Delivery]:
    """What waits, until nothing comes for a second."""
    if options.dead:
        transport.inspector().subscribe_dead_letters(options.QUEUE, prefetch)
    else:
        transport.subscribe(options.QUEUE, prefetch)
    while delivery := transport.receive(1.0):
        yield delivery


class _Progress:
    """Says on standard error, now and then, how far a long run is; at the end the count."""

    def __init__(self, done: str, total: int | None = None) -> None:
        self._done = done
        self._of = f" of {total}" if total else ""
        self._next = time.monotonic() + TELL_S
        self.count = 0

    def step(self) -> None:
        """One more."""
        self.count += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_S
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{self.count}{self._of} message(s) {self._done} ...\n")

    def end(self) -> None:
        """That was all."""
        say(f"{self.count} message(s) {self._done}.")


_DECLARE = {
    "publish": _declare_publish,
    "peek": _declare_peek,
    "purge": _declare_purge,
    "drain": _declare_drain,
}
_RUN = {"publish": _publish, "peek": _peek, "purge": _purge_all, "drain": _drain}
