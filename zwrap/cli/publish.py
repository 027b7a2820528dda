"""`zwrap publish`: send a message, or each line of a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from zwrap.cli.common import complain
from zwrap.cli.onequeue import Progress
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, ConfigurationError, PermanentError
from zwrap.host.files import UnfitFileError
from zwrap.host.given import read_given, read_stream
from zwrap.message.content import Outgoing
from zwrap.message.jsontext import decode
from zwrap.message.limits import Limits
from zwrap.transport.connect import connect
from zwrap.units import key_value


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
    """Send the messages; all are read before the first is sent.

    One that is refused for good is told, and the others are sent; the status is 100 then.
    """
    headers = dict(key_value(each, "--header", "NAME=VALUE") for each in options.header)
    bodies = _bodies(options, configuration.site.limits)
    with connect(configuration, options.transport) as transport:
        progress = Progress("sent")
        status = 0
        for number, body in enumerate(bodies, 1):
            message = Outgoing(
                options.QUEUE, body, dict(headers), topic=options.topic, delay_s=options.delay,
                expires_s=options.expires,
            )  # fmt: skip
            try:
                transport.commit([message])
            except PermanentError as error:
                complain(f"Message {number} was refused: {error}")
                status = PERMANENT
                continue
            progress.step()
        progress.end()
    return status


def _bodies(options: argparse.Namespace, limits: Limits) -> Iterable[object]:
    """Return the messages of the file, all of which are read, and found good, before this returns.

    Raises:
        ConfigurationError: The file cannot be read, or is larger than messages may be.
        MessageError: A text is no message.
    """
    name = "standard input" if options.FILE == "-" else options.FILE
    key = "sent_bytes" if options.lines else "body_bytes"
    limit = limits.sent_bytes if options.lines else limits.body_bytes
    try:
        if options.FILE != "-":
            data = read_given(Path(options.FILE), limit)
        elif sys.stdin is None:
            raise ConfigurationError("There is no standard input; it is closed.")
        else:
            data = read_stream(sys.stdin.buffer, limit, name)
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}.") from None
    except UnfitFileError:
        what = "messages may have together" if options.lines else "a message may have"
        raise ConfigurationError(
            f"{name} has more than the {limit} bytes that {what} (section limits, key {key!r})."
        ) from None
    if not options.lines:
        return [decode(data, f"content of {name}", limit)]
    lines = [(n, line) for n, line in enumerate(data.splitlines(), 1) if line.strip()]
    for number, line in lines:
        decode(line, f"line {number} of {name}", limits.body_bytes)
    return (decode(line) for _, line in lines)  # values take many times the memory of their text
