"""Proof that what expires in a step of the delays comes back, before a message is put there.

Over AMQP nobody learns which dead letter exchange is in force for a queue, by its arguments or by a
policy. A queue without one throws away what expires in it (www.rabbitmq.com/dlx.html), such as one
that another tool made without arguments, and for which no policy was made. So an empty step is
asked by a probe: a message that expires after 1 ms, on its way to a queue of this connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    channel.queue_declare(step, passive=True, callback=_Probe(channel, step, answer).counted)


class _Probe(NamedTuple):
    """A probe of one step, on a channel of its own; each method is called back by the server."""

    channel: Channel
    step: str
    answer: OnAnswer

    def counted(self, frame: Frame[DeclareOk]) -> None:
        """Ask for a queue for the probe, if nobody's message waits in the step."""
        if frame.method.message_count:
            self.answer(None)
        else:
            self.channel.queue_declare("", exclusive=True, auto_delete=True, callback=self.named)

    def named(self, frame: Frame[DeclareOk]) -> None:
        """Read the queue, and send the probe on its way there."""
        own = frame.method.queue

        def send(_: object) -> None:
            soon = pika.BasicProperties(expiration="1")
            self.channel.basic_publish(self.step, own, b"", soon, mandatory=False)
            self.channel.connection.ioloop.call_later(PROBE_S, self.overdue)

        self.channel.basic_consume(own, self.arrived, auto_ack=True, callback=send)

    def arrived(self, _: Channel, method: Deliver, properties: Properties, body: bytes) -> None:
        """Answer that the step gives back what expires in it."""
        del method, properties, body
        self.answer(None)

    def overdue(self) -> None:
        """Look where the probe is, if it has not arrived."""
        if self.channel.is_open:
            self.channel.queue_declare(self.step, passive=True, callback=self.judged)

    def judged(self, frame: Frame[DeclareOk]) -> None:
        """Answer at once if the probe waits behind a message of another connection.

        Else it may still be on its way, if the server has just begun to read again.
        """
        if frame.method.message_count:
            self.answer(None)
        else:
            self.channel.connection.ioloop.call_later(ARRIVAL_S, self.missed)

    def missed(self) -> None:
        """Answer that the step loses what expires in it."""
        self.answer(no_return(self.step, ""))
