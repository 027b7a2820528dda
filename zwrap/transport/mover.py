"""Moves messages from one place to another, each settled at the source only when it arrived.

The places are queues of a transport, its dead letters, spool queues on disk (outbox, drop files)
and files of exported dead letters (`zwrap.transport.deadletters`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

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


def deliver(
    queue: SpoolQueue, transport: Transport, dead: ProcessIdentity | None = None
) -> set[str]:
    """Send everything that waits in a spool queue, in order; return the ids of the messages.

    A message that can never be sent is put aside in the queue's `errors/` and does not hold up the
    others. One that was sent but not yet forgotten when the process died is sent again under the
    same id. What the process `dead`, which is known to be dead, has claimed is sent, too.

    Raises TransportError, which leaves the rest where it is.
    """
    sent = set()
    queue.recover(dead=dead)
    while claimed := queue.claim():
        if message := deliver_claimed(queue, claimed, transport, _stored):
            sent.add(str(message.headers.get(ID_HEADER)))
    return sent


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


def send(transport: Transport, message: Outgoing) -> None:
    """Send one message that is kept nowhere; if it can never be sent, log that and go on."""
    try:
        transport.commit([message])
    except PermanentError as error:
        log.error("A message to %r can never be sent: %s", message.destination, error)


def _stored(claimed: Claimed) -> Outgoing:
    try:
        return msgspec.convert(decode(claimed.content), Outgoing)
    except msgspec.ValidationError as error:
        raise MessageError(f"This is not a stored message: {error}.") from None
