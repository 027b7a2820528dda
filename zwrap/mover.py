"""Moves messages from one place to another, each settled at the source only when it arrived."""

from __future__ import annotations

import msgspec

from zwrap.message import Outgoing, decode, encode
from zwrap.transport import Transport
from zwrap.transport.spool.queue import SpoolQueue


def store(queue: SpoolQueue, messages: list[Outgoing]) -> None:
    """Put messages, with their destinations, into a spool queue to be sent later."""
    queue.put([encode(message) for message in messages])


def deliver(queue: SpoolQueue, transport: Transport) -> int:
    """Send everything that waits in a spool queue, in order; number of messages.

    TransportError leaves the rest where it is. A message that was sent but not yet forgotten
    when the process died is sent again under the same id.
    """
    count = 0
    queue.recover()
    while claimed := queue.claim():
        try:
            message = msgspec.convert(decode(claimed.content), Outgoing)
            transport.commit([message])
        except BaseException:
            queue.release(claimed)
            raise
        queue.ack(claimed)
        count += 1
    return count
