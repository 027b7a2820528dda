"""`zocalo.dlq_reinject`: send exported dead letters back to where they were going."""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
import time
from pathlib import Path

from zwrap.cli.common import complain, program, remark, say, say_json
from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, PermanentError
from zwrap.host.given import read_stream
from zwrap.transport import deadletters
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

_PURGED = re.compile(r"^ ++(?!Message .* exported:$)(/.*|(?:.*/)?msg-\d{8}-[^/]*)$")
"""Line of `dlq_purge` with a file name after two blanks, or after eight since python-zocalo 1.3.

python-zocalo's is relative to where it ran, unless its ``--location`` is absolute."""


LISTING_BYTES = 64 << 20
"""Largest size of the output of `dlq_purge` that is read, in bytes: a name has 200 or fewer."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("-r", "--remove", action="store_true", help="delete each file after its message was sent")
    add("-v", "--verbose", action="store_true", help="show the messages")
    add("-d", "--destination", metavar="QUEUE", help="send them to this queue instead")
    add("-w", "--wait", type=float, default=0.0, metavar="S", help="seconds between two messages")
    add("files", nargs="*", type=Path, metavar="FILE", help="file that dlq_purge exported")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Send each message; a bad file is reported, and the others are sent all the same."""
    piped = _piped(wait=not options.files)
    if piped:
        say(f"{len(piped)} filenames read from stdin")
    files = [*options.files, *piped]
    if not files:
        remark("No DLQ message files given.")
        return 1
    status = 0
    with connect(configuration, options.transport) as transport:
        for number, file in enumerate(files):
            if number and options.wait:
                time.sleep(options.wait)
            if not _reinject(file, transport, options):
                status = PERMANENT
    return status


def _piped(*, wait: bool) -> list[Path]:
    """Return the file names in the output of `dlq_purge` on standard input.

    With `wait` false, as where files are named on the command line, a silent standard input is not
    waited for.
    """
    try:
        if sys.stdin.isatty():
            return []
        if not wait and not select.select([sys.stdin], [], [], 0.0)[0]:
            return []
        data = read_stream(sys.stdin.buffer, LISTING_BYTES, "standard input")
    except (OSError, ValueError, AttributeError):  # no standard input
        return []
    lines = os.fsdecode(data).split("\n")
    return [Path(match[1]) for line in lines if (match := _PURGED.match(line.rstrip()))]


def _reinject(file: Path, transport: Transport, options: argparse.Namespace) -> bool:
    """Send the message in a file; False, and a complaint, if the file is bad."""
    if not file.exists():
        say(f"Ignoring missing file {file}")
        return True
    say(f"Parsing message from {file}")
    try:
        content = deadletters.read(file)
        if options.verbose:
            say_json(content)
        message = deadletters.reinjected(content, file, options.destination, transport.prefix)
        transport.commit([message])
        transport.flush()
    except PermanentError as error:
        complain(str(error))
        return False
    say(f"{'broadcast on' if message.topic else 'sent to'} {message.destination}")
    if options.remove:
        file.unlink()
    say("Done.")
    say()
    return True


main = program(
    "zocalo.dlq_reinject",
    f"{__doc__} Reads the output of dlq_purge on standard input, too.",
    declare,
    run,
)

if __name__ == "__main__":
    sys.exit(main())
