"""`zwrap pipe`: move messages from a directory or queue to another, as they come.

A name with a '/' is a directory of the filer protocol (incoming, pending, tmp, errors); any other
name is a queue of the transport. Any number of processes may work on the same place. A file that
moves from directory to directory keeps its name and content.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from zwrap.cli.common import say
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.backoff import Backoff
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.transport import mover
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.content import read_message
from zwrap.transport.spool.directory import RELAYED_BYTES
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.transport import SpoolTransport

log = logging.getLogger(__name__)

LOOK_FIRST_S, LOOK_FACTOR = 0.01, 1.5
"""First pause between two looks at an empty place, in seconds, and its growth with each look."""

Place = SpoolQueue | str
"""A directory, or the name of a queue of the transport."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("IN", nargs="?", help="directory or queue to take messages from")
    add("OUT", nargs="?", help="directory or queue to move them to")
    add("--queue-in-dir", metavar="DIR", help="the same as IN")
    add("--queue-out-dir", metavar="DIR", help="the same as OUT")
    add(
        "--queue-in-wait", type=float, default=3.0, metavar="S",
        help="longest time between two looks at an empty directory, default %(default)g",
    )  # fmt: skip
    add("--queue-in-perms", metavar="MODE", help="mode of the directories of IN, such as 2770")
    add(
        "--queue-out-limit", type=int, default=10_000, metavar="N",
        help="take no more while N messages wait in OUT, default %(default)s; 0: no limit",
    )  # fmt: skip
    add(
        "--queue-out-wait", type=float, default=10.0, metavar="S",
        help="look again after S seconds whether OUT has room, default %(default)g",
    )  # fmt: skip
    add("--once", action="store_true", help="end when nothing more waits")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Move messages until told to stop."""
    places = (options.IN, options.queue_in_dir), (options.OUT, options.queue_out_dir)
    if options.IN and options.queue_in_dir and not options.OUT and not options.queue_out_dir:
        places = (None, options.queue_in_dir), (options.IN, None)  # a single name is OUT
    source, target = (_named(*place) for place in places)
    if source == target:
        raise ConfigurationError(
            f"IN and OUT are both {source!r}; two different places are expected."
        )
    mode = _mode(options.queue_in_perms)
    with connect(configuration, options.transport) as transport:
        pipe = _Pipe(transport, _place(source, transport), _place(target, transport), options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pipe.stop)
        try:
            pipe.permit(mode)
            count = pipe.run()
        finally:
            pipe.close()
    say(f"{count} message(s) moved.")
    return 0


def _named(positional: str | None, option: str | None) -> str:
    """Return the one name of a place; ConfigurationError if it is given twice or not at all."""
    if bool(positional) == bool(option):
        raise ConfigurationError(
            "Name the place to take messages from and the place to move them to, once each: IN or "
            "--queue-in-dir, and OUT or --queue-out-dir."
        )
    return positional or option or ""


def _mode(given: str | None) -> int | None:
    """Return the mode in an octal text; ConfigurationError for any other text."""
    if given is None:
        return None
    try:
        return int(given, 8)
    except ValueError:
        raise ConfigurationError(
            f"--queue-in-perms {given!r} is not usable; an octal mode such as 2770 is expected."
        ) from None


def _place(name: str, transport: Transport) -> Place:
    """Return the place of that name; queues of the embedded transport are directories, too."""
    if "/" in name:
        return SpoolQueue(Path(name), limit=0, message_bytes=RELAYED_BYTES).open()
    if isinstance(transport, SpoolTransport):
        return SpoolQueue(transport.queue(name).path, limit=0, message_bytes=RELAYED_BYTES)
    return name


class _Pipe:
    """A run that moves messages from one place to another."""

    def __init__(
        self, transport: Transport, source: Place, target: Place, options: argparse.Namespace
    ) -> None:
        self._transport = transport
        self._source = source
        self._target = target
        self._options = options
        self._stopped = threading.Event()
        self._room = 0
        self._full = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """End after the message at hand."""
        del number, frame
        self._stopped.set()

    def permit(self, mode: int | None) -> None:
        """Set the mode of the directories of IN."""
        if mode is not None and isinstance(self._source, SpoolQueue):
            for name in ("", *self._source.places):
                (self._source.path / name).chmod(mode)

    def run(self) -> int:
        """Move messages until there is a reason to stop, and return their number."""
        if isinstance(self._source, SpoolQueue):
            step = self._from_directory(self._source)
        else:
            step = self._from_queue(self._source)
        count, pauses = 0, Backoff(LOOK_FIRST_S, self._options.queue_in_wait, factor=LOOK_FACTOR)
        while not self._stopped.is_set():
            if not self._has_room():
                self._stopped.wait(self._options.queue_out_wait)
                continue
            moved = step()
            if moved is None:
                if self._options.once:
                    break
                self._stopped.wait(pauses.next_s())
                continue
            pauses.reset()
            count += moved
            self._room -= moved
        self._transport.flush()
        return count

    def close(self) -> None:
        """Close both places, and remove this process's directories there."""
        for place in (self._source, self._target):
            if isinstance(place, SpoolQueue):
                place.close()

    def _has_room(self) -> bool:
        """Return True if OUT has room; its messages are counted only now and then."""
        limit = self._options.queue_out_limit
        if not limit or self._room > 0:
            return True
        if isinstance(self._target, SpoolQueue):
            waiting = self._target.waiting()
        else:
            waiting = self._transport.inspector().waiting(self._target)
        self._room = (limit - waiting + 3) // 4  # other processes fill it, too
        if self._full != (waiting >= limit):
            self._full = waiting >= limit
            log.info("%s: %d messages wait in OUT", "paused" if self._full else "going on", waiting)
        return not self._full

    def _from_queue(self, source: str) -> Callable[[], bool | None]:
        """Return a function that moves one message and returns True; None if there is none."""
        self._transport.subscribe(source, 100)

        def step() -> bool | None:
            delivery = self._transport.receive(1.0)
            if delivery is None:
                return None
            if isinstance(self._target, SpoolQueue):
                mover.file_away(delivery, self._target)
            else:
                mover.forward(delivery, self._target, self._transport)
            return True

        return step

    def _from_directory(self, source: SpoolQueue) -> Callable[[], bool | None]:
        """Return a function that moves one file and returns True.

        The function returns None if there is no file, False if it put the file aside.
        """

        def step() -> bool | None:
            source.recover(5.0)
            claimed = source.claim()
            if claimed is None:
                return None
            if isinstance(self._target, SpoolQueue):
                return mover.pass_on(source, claimed, self._target)
            sent = mover.deliver_claimed(source, claimed, self._transport, self._message)
            return sent is not None

        return step

    def _message(self, claimed: Claimed) -> Outgoing:
        """Return the message in a file, for a queue of the transport."""
        assert isinstance(self._target, str)
        message = read_message(claimed.content, claimed.is_foreign, f"pipe/{claimed.base}")
        return Outgoing(
            self._target, message.body, {ID_HEADER: message.id, **dict(message.headers)}
        )
