"""Moves messages from one place to another, each settled at the source only when it arrived."""

from __future__ import annotations

import logging

import msgspec

from zwrap.errors import MessageError, PermanentError
from zwrap.message import Outgoing, decode, encode
from zwrap.transport import Transport
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)


def store(queue: SpoolQueue, messages: list[Outgoing]) -> None:
    """Put messages, with their destinations, into a spool queue to be sent later."""
    queue.put([encode(message) for message in messages])


def deliver(queue: SpoolQueue, transport: Transport) -> int:
    """Send everything that waits in a spool queue, in order; number of messages.

    TransportError leaves the rest where it is. A message that can never be sent is put aside in
    the queue's `errors/` and does not hold up the others. One that was sent but not yet forgotten
    when the process died is sent again under the same id.
    """
    count = 0
    queue.recover()
    while claimed := queue.claim():
        try:
            transport.commit([_stored(claimed.content)])
        except PermanentError as error:
            log.error("A message can never be sent and is kept in %s/errors: %s", queue.path, error)
            queue.banish(claimed, str(error))
            continue
        except BaseException:
            queue.release(claimed)
            raise
        queue.ack(claimed)
        count += 1
    return count


def send(transport: Transport, message: Outgoing) -> None:
    """Send one message that is kept nowhere; if it can never be sent, say so and go on."""
    try:
        transport.commit([message])
    except PermanentError as error:
        log.error("A message to %r can never be sent: %s", message.destination, error)


def _stored(content: bytes) -> Outgoing:
    try:
        return msgspec.convert(decode(content), Outgoing)
    except msgspec.ValidationError as error:
        raise MessageError(f"This is no stored message: {error}.") from None
