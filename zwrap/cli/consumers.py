"""`zwrap consumers`: tell a monitor whether enough receivers read each queue."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from zwrap.cli.common import say
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, ZwrapError
from zwrap.host.files import write_atomically
from zwrap.host.hiding import shown
from zwrap.host.modes import PUBLIC_FILE
from zwrap.transport.connect import connect
from zwrap.transport.inspector import Inspector

OK, CRITICAL, UNKNOWN = 0, 2, 3
"""Exit statuses that monitors of the Nagios family understand."""
_NAMES = {OK: "OK", CRITICAL: "CRITICAL", UNKNOWN: "UNKNOWN"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("QUEUE", nargs="+", help="queue to check; QUEUE=N: N receivers are needed")
    add("--min-threshold", type=int, default=1, metavar="N", help="default %(default)s")
    add(
        "--state-dir", type=Path, metavar="DIR",
        help="also write a file consumers-QUEUE there: time|status|word|sentence",
    )  # fmt: skip


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Check each queue, and return the worst status."""
    wanted = [_wanted(given, options.min_threshold) for given in options.QUEUE]
    with connect(configuration, options.transport) as transport:
        inspector = transport.inspector()
        return max([_look(inspector, *each, options.state_dir) for each in wanted])


def _wanted(given: str, threshold: int) -> tuple[str, int]:
    """Return the queue in an argument, and the number of receivers that it needs."""
    queue, equals, number = given.partition("=")
    if not queue or (equals and not number.isdecimal()):
        raise ConfigurationError(f"{given!r} is not usable; QUEUE or QUEUE=N is expected.")
    return queue, int(number) if equals else threshold


def _look(inspector: Inspector, queue: str, target: int, directory: Path | None) -> int:
    """Report on one queue, and return its status."""
    try:
        count = inspector.consumers(queue)
    except ZwrapError as error:
        status, sentence = UNKNOWN, str(error)
    else:
        status = OK if count >= target else CRITICAL
        sentence = f"queue {queue} has {count} consumers, needs {target}"
    say(f"{_NAMES[status]}: {sentence}")
    if directory:
        line = f"{time.time():.0f}|{status}|{_NAMES[status]}|{shown(sentence)}\n"
        write_atomically(directory / f"consumers-{queue}", line, mode=PUBLIC_FILE, durable=False)
    return status
