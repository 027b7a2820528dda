"""`zocalo.pickup`: send the requests that zocalo.go had to write to drop files."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from zwrap.cli.common import program, remark, say, say_json
from zwrap.cli.go import QUEUE, drop_directory
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, TransportError
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.message.identity import child_id
from zwrap.message.jsontext import decode
from zwrap.transport import mover
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.files import Name
from zwrap.transport.spool.views import DropFiles

UNFINISHED_S = 10.0
"""Age below which a file that cannot be read may be incomplete, in seconds."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "-d", "--delay", type=float, default=2, metavar="S",
        help="seconds between two messages, default %(default)s",
    )  # fmt: skip
    add(
        "-w", "--wait", type=float, default=60, metavar="S",
        help="seconds to wait at first, default %(default)s",
    )  # fmt: skip
    add("-v", "--verbose", action="store_true", help="show the messages")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Send each drop file, which is claimed first, so that two processes never send it twice."""
    drops = _opened(drop_directory(configuration))
    if drops is None:
        remark("This program is only available to privileged users")
        return 1
    count = drops.waiting()
    say(f"Found {count} files")
    if not count:
        drops.close()
        return 0
    if options.wait:
        say(f"Waiting {options.wait:g} seconds")
        time.sleep(options.wait)
    say(f"Connecting to {options.transport}...")
    try:
        with connect(configuration, options.transport) as transport:
            return _send_all(drops, transport, options)
    finally:
        drops.close()


def _opened(location: Path) -> DropFiles | None:
    """Return the drop files; None if this user may not take them."""
    for _ in range(5):  # another pickup that ends at this moment removes its directories
        try:
            drops = DropFiles(location, limit=0)
            drops.recover()
            return drops
        except (OSError, TransportError):
            time.sleep(0.05)
    return None


def _send_all(drops: DropFiles, transport: Transport, options: argparse.Namespace) -> int:
    """Send all drop files; return 100 if one of them is bad."""
    names = drops.names()
    sent = bad = 0
    for name in names:
        claimed = drops.claim_where(_named(name))
        if claimed is None:
            continue  # another pickup has it
        if _unfinished(claimed):
            drops.release(claimed, counted=False)
            continue
        if sent and options.delay:
            time.sleep(options.delay)
        message = mover.deliver_claimed(drops, claimed, transport, request)
        if message is None:
            bad += 1
            continue
        if options.verbose:
            say_json(message.message)
        sent += 1
        say(_told(Path(drops.path, name), message))
        say(f"Done ({sent} of {len(names)})")
    return 100 if bad else 0


def _named(wanted: str) -> Callable[[Name], bool]:
    """Return a predicate that holds for one file name."""
    return lambda name: str(name) == wanted


def request(claimed: Claimed) -> Outgoing:
    """Return the request in a drop file.

    Raises:
        MessageError: The file does not hold a request.
    """
    content = decode(claimed.content, "drop file")
    if not isinstance(content, dict) or "message" not in content:
        raise MessageError('The drop file is not {"headers": ..., "message": ...}.')
    headers = content.get("headers") or {}
    if not isinstance(headers, dict):
        raise MessageError("Key 'headers' of the drop file must be an object.")
    return Outgoing(
        QUEUE, content["message"], {ID_HEADER: child_id("drop", claimed.base), **headers}
    )


def _unfinished(claimed: Claimed) -> bool:
    """Return True if a file may be incomplete: python-zocalo does not write it in one step."""
    try:
        request(claimed)
    except MessageError:
        return time.time() - (claimed.sent_at or 0.0) < UNFINISHED_S
    return False


def _told(file: Path, message: Outgoing) -> str:
    """Return the line that python-zocalo prints about a drop file."""
    body = message.message if isinstance(message.message, Mapping) else {}
    recipes = body.get("recipes") or []
    names = ",".join(map(str, recipes)) if isinstance(recipes, list) else str(recipes)
    host = message.headers.get("zocalo.go.host")
    return f"Sending {file} from host {host} with recipes {names}"


main = program("zocalo.pickup", __doc__, declare, run)

if __name__ == "__main__":
    sys.exit(main())
