"""Movement of messages between places; each is settled at its source only after it has arrived.

The places are queues of a transport, its dead letters, and spool queues on disk (outbox, drop
files).
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
"""Headers that a transport adds to a delivered message; they are not sent on with it."""


def store(queue: SpoolQueue, messages: list[Outgoing]) -> None:
    """Put messages, with their destinations, into a spool queue, to be sent later."""
    queue.put([encode(message) for message in messages])


class Delivered(NamedTuple):
    """Messages that left a spool queue."""

    ids: set[str]
    """Ids of messages that were sent."""
    refused: int
    """Number of messages that the transport refused for good."""


def deliver(
    queue: SpoolQueue, transport: Transport, dead: ProcessIdentity | None = None
) -> Delivered:
    """Send all messages that wait in a spool queue, in order.

    A message that can never be sent is moved to the queue's directory ``errors``; the others are
    sent all the same. A message that was sent but not yet removed when a process died is sent
    again, under the same id. `dead`: a process whose claims are given up, because it is dead.

    Raises:
        TransportError: The transport cannot be used now; the remaining messages stay.
        OSError: Nothing can be claimed, because the directory cannot be written.
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
    """Send the message that `read` finds in a claimed file; return it, None if it was put aside."""
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
    """Move a file to another directory unchanged; False if it was empty and was put aside."""
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
    """Put a received message into a directory, then acknowledge it."""
    content = {"headers": own_headers(delivery), "message": delivery.message.body}
    queue.put([encode(content)])
    delivery.ack()


def forward(delivery: Delivery, queue: str, transport: Transport) -> None:
    """Send a received message to `queue` under its id, and acknowledge it, in one unit."""
    with transport.unit(delivery) as unit:
        unit.send(Outgoing(queue, delivery.message.body, own_headers(delivery)))


def own_headers(delivery: Delivery) -> dict[str, object]:
    """Return the headers of a message with its id and without those that a transport added."""
    message = delivery.message
    kept = {key: value for key, value in message.headers.items() if key not in TRANSPORT_HEADERS}
    return {ID_HEADER: message.id, **kept}


def _stored(claimed: Claimed) -> Outgoing:
    """Return the message in a file that `store` wrote; MessageError if it holds none."""
    try:
        return msgspec.convert(decode(claimed.content), Outgoing)
    except msgspec.ValidationError as error:
        raise MessageError(f"This is not a stored message: {error}.") from None
