"""`zwrap publish`: send a message, or each line of a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from zwrap.cli.common import key_value
from zwrap.cli.onequeue import Progress
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.message import Outgoing, decode
from zwrap.transport.connect import connect


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("QUEUE", help="queue to send the message to")
    add("FILE", nargs="?", default="-", help="JSON text of the message; '-', the default: stdin")
    add("--lines", action="store_true", help="each line of FILE is a message")
    add("--topic", action="store_true", help="broadcast; QUEUE is a topic")
    add("--header", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    add(
        "--delay",
        type=float,
        default=0.0,
        metavar="S",
        help="receivers get the message S seconds later",
    )
    add("--expires", type=float, metavar="S", help="the message is discarded after S seconds")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Send the messages; all are read before the first is sent."""
    headers = dict(key_value(each, "--header", "NAME=VALUE") for each in options.header)
    bodies = _bodies(options)
    with connect(configuration, options.transport) as transport:
        progress = Progress("sent")
        for body in bodies:
            message = Outgoing(
                options.QUEUE, body, dict(headers), topic=options.topic, delay_s=options.delay,
                expires_s=options.expires,
            )  # fmt: skip
            transport.commit([message])
            progress.step()
        progress.end()
    return 0


def _bodies(options: argparse.Namespace) -> Iterator[object]:
    """Return the messages of the file, all of which are read before this returns."""
    name = "standard input" if options.FILE == "-" else options.FILE
    try:
        data = sys.stdin.buffer.read() if options.FILE == "-" else Path(options.FILE).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}.") from None
    if not options.lines:
        return iter([decode(data, f"content of {name}")])
    lines = enumerate(data.splitlines(), 1)
    return iter([decode(line, f"line {n} of {name}") for n, line in lines if line.strip()])
