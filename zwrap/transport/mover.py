"""Movement of messages between places; each is settled at its source only after it has arrived.

The places are queues of a transport, its dead letters, and spool queues on disk (outbox, drop
files).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import msgspec

from zwrap.errors import MessageError, PermanentError
from zwrap.host.files import read_regular
from zwrap.host.standing import real_name
from zwrap.message.content import ID_HEADER, UNDECODABLE_HEADER, Outgoing
from zwrap.message.jsontext import decode, encode, typed
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.portions import portions
from zwrap.transport.source import Record, Source, flaw_of
from zwrap.transport.spool.claimed import Claimed
from zwrap.transport.spool.files import OccupiedError
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)


def store(queue: SpoolQueue, messages: list[Outgoing]) -> None:
    """Put messages, with their destinations, into a spool queue, to be sent later."""
    for portion in portions(messages):
        queue.put([encode(message) for message in portion])


class Emptying(Source[Claimed]):
    """The sending of all messages that wait in a spool queue.

    One that can never be sent is moved to the queue's directory ``errors``. A message that was sent
    but not yet removed when a process died is sent again, under the same id.
    """

    def __init__(self, queue: SpoolQueue, record: Record) -> None:
        super().__init__(record)
        self._queue = queue

    def close(self) -> None:
        """Give back the messages that stay; OSError: some cannot be given back."""
        while self._stay:
            self._queue.release(self._stay[0], counted=False)
            del self._stay[0]

    def stuck(self) -> Iterator[Outgoing]:
        """Yield the messages that could not be given back, in order."""
        for claimed in self._stay:
            with contextlib.suppress(OSError, PermanentError):
                content = read_regular(claimed.path, self._queue.message_bytes)
                yield _stored(Claimed(claimed.path, claimed.name, content))

    def _next(self) -> tuple[Claimed, Outgoing, int] | None:
        while claimed := self._queue.claim():
            if message := self._read(claimed):
                size, claimed.content = len(claimed.content), b""  # many may stay
                return claimed, message, size
        return None

    def _read(self, claimed: Claimed) -> Outgoing | None:
        """Return the message in a file; None if it was put aside, because it holds none."""
        try:
            message = _stored(claimed)
        except PermanentError as error:
            self._refuse(claimed, str(error))
            self.record.add(claimed.base, str(error))
            return None
        except BaseException:
            self._queue.release(claimed)
            raise
        self._queue.was_read(claimed)
        return message

    def _sent(self, entry: Claimed) -> None:
        self._queue.ack(entry)

    def _refuse(self, entry: Claimed, reason: str) -> None:
        log.error(
            "A message can never be sent and is kept in %s/errors: %s",
            real_name(self._queue.path),
            reason,
        )
        self._queue.dead_letter(entry, reason)


def deliver(queue: SpoolQueue, transport: Transport) -> Record:
    """Send all messages that wait in a spool queue, and give back those that have to stay.

    Raises as `Emptying.portion` does.
    """
    queue.recover()
    emptying = Emptying(queue, Record())
    with contextlib.closing(emptying):
        while emptying.portion(transport):
            pass
    return emptying.record


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
    message: Outgoing | None = None
    try:
        message = read(claimed)
        queue.was_read(claimed)
        transport.commit([message])
    except PermanentError as error:
        place = real_name(queue.path)
        log.error("A message can never be sent and is kept in %s/errors: %s", place, error)
        queue.dead_letter(claimed, str(error))
        return None
    except BaseException:
        queue.release(claimed, counted=message is None)
        raise
    queue.ack(claimed)
    return message


def pass_on(source: SpoolQueue, claimed: Claimed, target: SpoolQueue) -> bool:
    """Move a file to another directory unchanged; False if it was put aside instead."""
    if not claimed.content.strip():
        source.dead_letter(claimed, "The file is empty.")
        return False
    source.was_read(claimed)
    try:
        target.adopt(claimed)
    except OccupiedError as error:  # something else has its name there
        source.unfit(claimed, str(error))
        return False
    except BaseException:
        source.release(claimed, counted=False)
        raise
    source.ack(claimed)
    return True


def file_away(delivery: Delivery, queue: SpoolQueue) -> None:
    """Put a received message into a directory, then acknowledge it."""
    queue.put([encode({"headers": own_headers(delivery), "message": delivery.message.body})])
    delivery.ack()


def forward(delivery: Delivery, queue: str, transport: Transport, exchange: str = "") -> None:
    """Send a received message to `queue`, unchanged, and acknowledge it, in one unit.

    `exchange`: exchange to which it is sent, by the name of the queue; empty: none.
    """
    original = delivery.original
    same = Outgoing(
        queue, original.body, own_headers(delivery), expires_s=original.expires_s,
        exchange=exchange, properties=original.properties,
    )  # fmt: skip
    with transport.unit(delivery) as unit:
        unit.send(same)


def own_headers(delivery: Delivery) -> dict[str, object]:
    """Return the headers of a message with its id, without the mark of one that is only relayed."""
    headers = {ID_HEADER: delivery.message.id, **delivery.message.headers}
    headers.pop(UNDECODABLE_HEADER, None)
    return headers


def _stored(claimed: Claimed) -> Outgoing:
    """Return the message in a file that `store` wrote; MessageError if it holds none."""
    try:
        return checked(typed(decode(claimed.content, bounded=True), Outgoing))
    except msgspec.ValidationError as error:
        raise MessageError(f"This is not a stored message: {error}.") from None


def checked(message: Outgoing) -> Outgoing:
    """Return a message from a file; MessageError if its delay or lifetime cannot be a time."""
    if flaw := flaw_of(message):
        raise flaw
    return message
