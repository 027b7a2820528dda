"""Proof that what expires in a step of the delays comes back, before a message is put there.

Which dead letter exchange is in force for a queue, by its arguments or by a policy, is not told over
AMQP. A queue without one throws away what expires in it (www.rabbitmq.com/dlx.html), such as one
that another tool made without arguments, and for which no policy was made. So an empty step is
asked by a probe: a message that expires at once, on its way to a queue of this connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pika

from zwrap.transport.failures import NoDelayError

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import (
        Channel,
        DeclareOk,
        Deliver,
        Frame,
        OnAnswer,
        Properties,
    )

PROBE_S = 5.0
"""Time after which a probe is missed, in seconds."""

ARRIVAL_S = 0.5
"""Longest way of a probe from a step that is empty again, in seconds."""


def no_return(step: str, target: str) -> NoDelayError:
    """Return the error of a step from which messages do not come back."""
    return NoDelayError(
        f"queue {step!r} does not give back what expires in it (no dead-letter-exchange {target!r} "
        "is in force for it, or it is not bound to the exchange of its name)"
    )


def prove(channel: Channel, step: str, answer: OnAnswer) -> None:
    """Answer None if what expires in a step reaches the queue that its routing key names.

    The answer is a NoDelayError if it is lost. The server closes the channel if the step is not
    there, or this user may not have a queue for the probe. A step in which messages wait is not
    asked, because a probe would wait behind them: who put them there had the proof.
    """

    def counted(frame: Frame[DeclareOk]) -> None:
        if frame.method.message_count:
            answer(None)
        else:
            channel.queue_declare("", exclusive=True, auto_delete=True, callback=named)

    def named(frame: Frame[DeclareOk]) -> None:
        own = frame.method.queue
        channel.basic_consume(own, arrived, auto_ack=True, callback=lambda _: send(own))

    def send(own: str) -> None:
        soon = pika.BasicProperties(expiration="1")
        channel.basic_publish(step, own, b"", soon, mandatory=False)
        channel.connection.ioloop.call_later(PROBE_S, overdue)

    def arrived(_: Channel, method: Deliver, properties: Properties, body: bytes) -> None:
        del method, properties, body
        answer(None)

    def overdue() -> None:
        if channel.is_open:
            channel.queue_declare(step, passive=True, callback=judged)

    def judged(frame: Frame[DeclareOk]) -> None:
        if frame.method.message_count:  # the probe is behind a message of another connection
            answer(None)
        else:  # it may be on its way, if the server has just begun to read again
            channel.connection.ioloop.call_later(ARRIVAL_S, lambda: answer(no_return(step, "")))

    channel.queue_declare(step, passive=True, callback=counted)
