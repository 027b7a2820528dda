"""Messages that a transport refuses for good: kept whole in a file, perhaps with a stub elsewhere.

The files are exported dead letters (`zwrap.transport.deadletters`), so that `zocalo.dlq_reinject`
sends them once the broker takes them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from zwrap.errors import PermanentError, short
from zwrap.host.files import create_once
from zwrap.host.modes import PRIVATE_DIRECTORY, PRIVATE_FILE, make_private
from zwrap.host.paths import made_private, state_directory
from zwrap.host.printable import printable_reason, well_formed
from zwrap.host.processes import host_name
from zwrap.message.content import ID_HEADER, UNDECODABLE_HEADER, Outgoing
from zwrap.message.identity import new_id
from zwrap.message.jsontext import encode
from zwrap.transport.copies import EXCHANGE_HEADER, REASON_HEADER, STUB_HEADER

log = logging.getLogger(__name__)

REFUSED = "refused"
"""Name of the directory below the state directory."""

BEGINNING_BYTES = 4096
"""Size of the beginning of the body in a stub, in bytes."""


class Refused(msgspec.Struct, frozen=True):
    """A message that was refused."""

    destination: str
    topic: bool
    headers: Mapping[str, object]
    """Headers, as JSON values."""
    body: bytes
    exchange: str = ""


def directory_of_refused() -> Path:
    """Return the directory in which refused messages are kept."""
    return state_directory() / REFUSED


class Kept(msgspec.Struct, frozen=True):
    """The outcome of keeping a message."""

    in_file: bool
    sentence: str
    """Sentence that tells where it is kept, or why it is not."""


def keep(message: Refused, reason: str) -> Kept:
    """Write a refused message to a file, durably."""
    directory = made_private(directory_of_refused())
    identity = str(message.headers.get(ID_HEADER) or new_id())
    safe = re.sub(r"[^a-zA-Z0-9._-]+", "_", identity)[:100]
    try:
        make_private(directory)
        directory.chmod(PRIVATE_DIRECTORY)
        file = directory / f"{safe}.json"
        content = _content(message, identity, reason)
        undated = _undated(content)
        if (
            not create_once(file, content, mode=PRIVATE_FILE)
            and _undated(file.read_bytes()) != undated
        ):
            import hashlib  # for senders that give several messages the same id

            digest = hashlib.sha256(undated).hexdigest()[:24]
            file = directory / f"{safe}-{digest}.json"
            create_once(file, content, mode=PRIVATE_FILE)
    except (OSError, ValueError) as error:
        log.error("Refused message %s cannot be kept in %s: %s", identity, directory, error)
        return Kept(False, f"It could not be kept in {directory}: {error}.")
    log.error(
        "Message %s to %r was refused for good and is kept in %s: %s",
        identity, message.destination, file, reason,
    )  # fmt: skip
    return Kept(True, f"It is kept whole in {file} on {host_name()}.")


@contextlib.contextmanager
def kept_whole(*messages: Outgoing, unit: bool) -> Iterator[None]:
    """Keep the messages of a unit that turn out, inside the context, to be refused for good.

    The PermanentError goes on, and tells where they are kept. Of messages outside a unit nothing is
    kept: who sends them has them still.

    Args:
        messages: The messages with which the context deals.
        unit: True if they follow from a delivery.
    """
    try:
        yield
    except PermanentError as error:
        if not unit:
            raise
        places = dict.fromkeys(keep(_sent(each), str(error)).sentence for each in messages)
        raise type(error)(" ".join([str(error), *places])) from None


def _sent(message: Outgoing) -> Refused:
    """Return a message that was to be sent as one that is to be kept in a file.

    What JSON cannot hold is kept as text.
    """
    value = message.message
    try:
        body = encode(value)
    except (TypeError, ValueError, RecursionError):
        try:
            body = ascii(value).encode()
        except Exception:
            body = short(value).encode()
    return Refused(message.destination, message.topic, message.headers, body, message.exchange)


def stub(body: bytes, place: str) -> bytes:
    """Return the body of the short message in place of one with `body`.

    `place` is the sentence of `keep`.
    """
    return encode(
        {
            STUB_HEADER: place,
            "bytes": len(body),
            "begins": body[:BEGINNING_BYTES].decode("utf-8", "backslashreplace"),
        }
    )


def _content(message: Refused, identity: str, reason: str) -> bytes:
    """Return the content of the file."""
    kind = "topic" if message.topic else "queue"
    header: dict[str, object] = {
        **{well_formed(key): _plain(value) for key, value in message.headers.items()},
        ID_HEADER: well_formed(identity),
        "message-id": well_formed(identity),
        "original-destination": f"/{kind}/{well_formed(message.destination)}",
        REASON_HEADER: printable_reason(reason),
    }
    if message.exchange:
        header[EXCHANGE_HEADER] = well_formed(message.exchange)
    body: object
    try:
        body = msgspec.json.decode(message.body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        body = message.body.decode("utf-8", "backslashreplace")
        header[UNDECODABLE_HEADER] = True
    exported = {"date": time.strftime("%Y-%m-%d"), "time": time.strftime("%H:%M:%S")}
    return encode({"exported": exported, "header": header, "message": body}) + b"\n"


def _undated(content: bytes) -> bytes:
    """Return the content of a file without its first value, the time."""
    return content.partition(b"},")[2]


def _plain(value: object) -> object:
    """Return a header as a value that JSON can hold; what it cannot hold becomes text."""
    try:
        encode(value)
    except (TypeError, ValueError, RecursionError):
        return well_formed(ascii(value) if not isinstance(value, str) else value)
    return value
