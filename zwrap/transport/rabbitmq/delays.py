"""Delays on RabbitMQ: a fixed ladder of queues in which messages for any queue wait.

Each step is a fanout exchange and a queue of the same name. A message waits in the lowest step that
is not shorter than its delay, with the delay as its own expiration, and expires into the default
exchange under its routing key, which is the name of its work queue (www.rabbitmq.com/ttl.html,
/dlx.html). RabbitMQ looks at the first message of a queue only, so a message may wait until the one
before it is due, but never longer than the step. A message for an exchange of the site waits in a
step of that exchange (``zwrap.delay.<step>.<exchange>``), which is made when it is first needed.

Older zwrap had one queue for each work queue and delay (``zwrap.delay.<queue>.<ms>``). Messages in
those expire into their work queues without zwrap.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from zwrap.transport.failures import EncodingError
from zwrap.transport.rabbitmq.faults import refusal
from zwrap.transport.rabbitmq.proof import no_return, prove
from zwrap.transport.rabbitmq.topology import (
    DELAY,
    NO_PERMISSION,
    NOT_FOUND,
    OTHER_ARGUMENTS,
    REMEMBERED,
    Need,
    checked,
    on_channel,
)

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, OnAnswer, PikaConnection, Table
    from zwrap.transport.rabbitmq.topology import Done

STEPS_S = (
    1, 2, 5, 10, 30, 60, 120, 300, 900, 1800, 3600, 10_800, 43_200, 86_400, 259_200, 864_000,
    4_294_967,
)  # fmt: skip
"""Longest delay of each step, in seconds. The last one is RabbitMQ's limit of 2**32 ms."""

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"

ARGUMENTS: Table = {
    "x-queue-type": "classic",
    "x-single-active-consumer": False,
    DEAD_LETTER_EXCHANGE: "",
}
"""Arguments of the queues that are made here. Where `zocalo.configure_rabbitmq` makes them, the
dead letter exchange comes from a policy instead: python-zocalo's tool has no key for it."""


class Delay(NamedTuple):
    """The way in which a message is delayed."""

    exchange: str
    expiration: str
    """Delay in milliseconds, as the property of the message."""
    need: Need


def names() -> list[str]:
    """Return the names of all steps; each is that of an exchange and of a queue."""
    return [_name(step_s) for step_s in STEPS_S]


def delay(delay_s: float, exchange: str = "") -> Delay:
    """Return the way to delay a message on its way to an exchange, empty: the default exchange.

    Raises EncodingError if the delay is longer than any step, or the name of the step too long.
    """
    if not 0 <= delay_s <= STEPS_S[-1]:
        raise EncodingError(
            f"A message cannot be delayed by {delay_s:g} s on RabbitMQ: a number from 0 to "
            f"{STEPS_S[-1]} is expected."
        )
    step_s = next(each for each in STEPS_S if delay_s <= each)
    name = _name(step_s) + f".{exchange}" * bool(exchange)
    expiration = str(max(1, math.ceil(delay_s * 1000)))
    return Delay(checked(name, "Delaying exchange"), expiration, _step(name, exchange))


def bounded(delay_s: float) -> float:
    """Return a delay that `delay` accepts: the longest for one that is longer, or no number."""
    return max(0.0, delay_s) if delay_s <= STEPS_S[-1] else float(STEPS_S[-1])


def expiration(expires_s: float) -> str:
    """Return the property for an expiration; EncodingError if RabbitMQ has no such time."""
    if not 0 <= expires_s <= STEPS_S[-1]:
        raise EncodingError(
            f"A message cannot expire in {expires_s:g} s on RabbitMQ: a number from 0 to "
            f"{STEPS_S[-1]} is expected."
        )
    return str(int(expires_s * 1000))


def _name(step_s: int) -> str:
    """Return the name of a step."""
    return f"{DELAY}{step_s}s"


@functools.lru_cache(maxsize=REMEMBERED)
def _step(name: str, target: str) -> Need:
    """Return the need of a step before exchange `target`, from which messages come back."""
    return Need(_Step(name, target).ask)


class _Step(NamedTuple):
    """A step of the delays, which is created if it is missing.

    One that is there has its dead letter exchange from its arguments or from a policy, and is used
    only if it has one, as far as that can be known: of the steps before the default exchange by a
    probe, of others, which would pass a probe on to the site's queues, by a declaration. Where this
    user may do neither it is used as it is.
    """

    name: str
    target: str
    """Exchange to which the messages go when they are due; empty: the default exchange."""

    def ask(self, connection: PikaConnection, done: Done) -> None:
        """Make sure that the step is there, and gives back what expires in it."""

        def told(value: object) -> None:
            if _code(value) == OTHER_ARGUMENTS and f"'{DEAD_LETTER_EXCHANGE}'" in str(value):
                done(no_return(self.name, self.target))
            else:
                done(refusal(value) if isinstance(value, BaseException) else None)

        def looked(value: object) -> None:
            if _code(value) == NOT_FOUND:
                on_channel(connection, self.make, told)
            elif _code(value) == NO_PERMISSION:
                done(None)
            else:
                told(value)

        on_channel(connection, self.look, looked)

    def look(self, channel: Channel, answer: OnAnswer) -> None:
        """Look at a step that may be there."""

        def there(_: object) -> None:
            if self.target:
                self.make(channel, answer)
            else:
                prove(channel, self.name, answer)

        channel.exchange_declare(self.name, passive=True, callback=there)

    def make(self, channel: Channel, answer: OnAnswer) -> None:
        """Declare the step with its dead letter exchange."""
        name, arguments = self.name, {**ARGUMENTS, DEAD_LETTER_EXCHANGE: self.target}

        def bind(_: object) -> None:
            channel.queue_bind(name, name, "", callback=answer)

        def exchange(_: object) -> None:
            channel.exchange_declare(name, exchange_type="fanout", durable=True, callback=bind)

        channel.queue_declare(name, durable=True, arguments=arguments, callback=exchange)


def _code(answer: object) -> object:
    """Return the reply code of the server's refusal; None if it is no refusal."""
    return getattr(answer, "reply_code", None)
