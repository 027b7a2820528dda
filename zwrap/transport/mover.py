"""Moves messages from one place to another, each settled at the source only when it arrived.

The places are queues of a transport, its dead letters, spool queues on disk (outbox, drop files)
and files of exported dead letters (`zwrap.transport.deadletters`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from zwrap.errors import MessageError, PermanentError
from zwrap.host.processes import ProcessIdentity
from zwrap.message import ID_HEADER, Outgoing, decode, encode
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

TRANSPORT_HEADERS = frozenset(
    {
        "consumer_tag", "content-length", "delivery_mode", "destination", "exchange", "expires",
        "message-id", "original-destination", "originalExpiration", "redelivered", "routing_key",
        "subscription", "timestamp",
    }
)  # fmt: skip
"""Headers that a transport adds to what it delivers; they say nothing about the next journey."""


def store(queue: SpoolQueue, messages: list[Outgoing]) -> None:
    """Put messages, with their destinations, into a spool queue to be sent later."""
    queue.put([encode(message) for message in messages])


class Delivered(NamedTuple):
    """Messages that left a spool queue."""

    ids: set[str]
    """Ids of those that were sent."""
    refused: int
    """Number of those that the transport refused for good."""


def deliver(
    queue: SpoolQueue, transport: Transport, dead: ProcessIdentity | None = None
) -> Delivered:
    """Send everything that waits in a spool queue, in order.

    A message that can never be sent goes to the queue's `errors/` and does not hold up the others.
    One that was sent but not yet forgotten when the process died is sent again under the same id.
    `dead`: a process that is known to hold nothing any more.

    Raises:
        TransportError: the rest stays where it is.
        OSError: nothing can be claimed, because the directory cannot be written.
    """
    ids: set[str] = set()
    refused = 0
    queue.recover(dead=dead)
    while claimed := queue.claim():
        if message := deliver_claimed(queue, claimed, transport, _stored):
            ids.add(str(message.headers.get(ID_HEADER)))
        else:
            refused += 1
    return Delivered(ids, refused)


def stored(queue: SpoolQueue) -> Iterator[Outgoing]:
    """Yield the messages that wait in a spool queue, in order, and leave them there."""
    for claimed in queue.peek():
        with contextlib.suppress(MessageError):
            yield _stored(claimed)


def deliver_claimed(
    queue: SpoolQueue,
    claimed: Claimed,
    transport: Transport,
    read: Callable[[Claimed], Outgoing],
) -> Outgoing | None:
    """Send one claimed file as the message that `read` finds in it; None if it was put aside."""
    try:
        message = read(claimed)
        transport.commit([message])
    except PermanentError as error:
        log.error("A message can never be sent and is kept in %s/errors: %s", queue.path, error)
        queue.dead_letter(claimed, str(error))
        return None
    except BaseException:
        queue.release(claimed)
        raise
    queue.ack(claimed)
    return message


def pass_on(source: SpoolQueue, claimed: Claimed, target: SpoolQueue) -> bool:
    """Move a file from one directory to another as it is; False if it was empty and put aside."""
    if not claimed.content.strip():
        source.dead_letter(claimed, "The file is empty.")
        return False
    try:
        target.adopt(claimed)
    except BaseException:
        source.release(claimed, counted=False)
        raise
    source.ack(claimed)
    return True


def file_away(delivery: Delivery, queue: SpoolQueue) -> None:
    """Put a received message into a directory, then settle it."""
    content = {"headers": own_headers(delivery), "message": delivery.message.body}
    queue.put([encode(content)])
    delivery.ack()


def forward(delivery: Delivery, queue: str, transport: Transport) -> None:
    """Send a received message on to `queue`, under its id, and settle it, in one unit."""
    with transport.unit(delivery) as unit:
        unit.send(Outgoing(queue, delivery.message.body, own_headers(delivery)))


def own_headers(delivery: Delivery) -> dict[str, object]:
    """Return the headers of a message without those of its journey, and with its id."""
    message = delivery.message
    kept = {key: value for key, value in message.headers.items() if key not in TRANSPORT_HEADERS}
    return {ID_HEADER: message.id, **kept}


def _stored(claimed: Claimed) -> Outgoing:
    try:
        return msgspec.convert(decode(claimed.content), Outgoing)
    except msgspec.ValidationError as error:
        raise MessageError(f"This is not a stored message: {error}.") from None
