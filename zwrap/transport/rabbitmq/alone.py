"""Exclusive reading of a queue of RabbitMQ, which the server itself knows for classic queues only.

For a quorum queue it takes the flag of ``basic.consume``, and gives messages to others, too (tried
with 3.10). So who reads alone has a lock: an exclusive queue, which another connection cannot
declare, and which ends with the connection. That the consumer before is gone, and its messages are
given back, is known when the queue has no consumer any more.

A message that is on its way from a quorum queue to a channel that is closed is given back by that
channel, to the end of the queue if that has no delivery-limit (tried with 3.10). So a channel is
closed when none is on its way: when it has as many unsettled messages as it may have, or none is
left in the queue. Then only one that is published in that millisecond may go behind others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from zwrap.errors import ConfigurationError, ZwrapError
from zwrap.transport.failures import ReadElsewhereError
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.topology import READER, checked

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, DeclareOk, Frame
    from zwrap.transport.rabbitmq.topology import Question

ACCESS_REFUSED, RESOURCE_LOCKED = 403, 405
IN_USE = "in exclusive use"
"""Words of the server about a classic queue that another consumer has alone."""

SHARED = f"{IN_USE}: it has a consumer without the lock"
"""Words of this module about a queue that another consumer reads, whose lock nobody has."""

STILL_S, AGAIN_S = 2.0, 0.02
"""Longest wait for messages on their way, and interval at which they are looked for, in seconds."""


def lock_of(queue: str) -> str:
    """Return the name of the lock of a queue; EncodingError if it is too long."""
    return checked(f"{READER}{queue}", "The lock of a queue,")


def when_alone(channel: Channel, queue: str, then: Callable[[], None]) -> None:
    """Take the lock of a queue and call `then`; close the channel if another connection reads it.

    The connection has the lock until `released` is asked, or until it ends.
    """

    def looked(frame: Frame[DeclareOk]) -> None:
        if frame.method.consumer_count:
            channel.close(RESOURCE_LOCKED, SHARED)
        else:
            then()

    def locked(_: object) -> None:
        channel.queue_declare(queue, passive=True, callback=looked)

    kind = {"x-queue-type": "classic"}
    channel.queue_declare(lock_of(queue), exclusive=True, arguments=kind, callback=locked)


def when_still(
    channel: Channel,
    consumer: Consumer,
    queue: str,
    call_later: Callable[[float, Callable[[], None]], object],
    then: Callable[[], None],
) -> None:
    """Call `then` when no message is on its way to a channel, after `STILL_S` in any case.

    `call_later` calls a function after a number of seconds.
    """
    tries = int(STILL_S / AGAIN_S)

    def look() -> None:
        if consumer.unsettled >= consumer.prefetch or not tries:
            then()
        else:
            channel.queue_declare(queue, passive=True, callback=looked)

    def looked(frame: Frame[DeclareOk]) -> None:
        nonlocal tries
        tries -= 1
        if frame.method.message_count:
            call_later(AGAIN_S, lambda: look() if channel.is_open else None)
        else:
            then()

    look()


def released(queue: str) -> Question:
    """Return the question that gives up the lock of a queue; that of another connection stays."""
    return lambda channel, answer: channel.queue_delete(lock_of(queue), callback=answer)


def refused(error: BaseException, queue: str, where: str) -> ZwrapError | None:
    """Return why a queue cannot be read alone, of an error that closed the channel.

    None: the error is about something else. `where` is the server, with which a sentence may begin.
    """
    code, text = getattr(error, "reply_code", 0), str(getattr(error, "reply_text", ""))
    if code == RESOURCE_LOCKED or (code == ACCESS_REFUSED and IN_USE in text):
        return ReadElsewhereError(queue, where, foreign=text == SHARED)
    if code == ACCESS_REFUSED and READER in text:
        return ConfigurationError(
            f"{where} does not let this user read queue {queue!r} alone, for which it needs to "
            f"configure ^{re.escape(READER)}.*$: {text}."
        )
    return None
