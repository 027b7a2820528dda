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
from zwrap.transport.rabbitmq.topology import DELAY, REMEMBERED, Need, checked, made

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, OnAnswer, Table

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
    """Return the need of a step before exchange `target`; it is created if missing."""

    def look(channel: Channel, answer: OnAnswer) -> None:
        channel.exchange_declare(name, passive=True, callback=answer)

    def make(channel: Channel, answer: OnAnswer) -> None:
        def bind(_: object) -> None:
            channel.queue_bind(name, name, "", callback=answer)

        def exchange(_: object) -> None:
            channel.exchange_declare(name, exchange_type="fanout", durable=True, callback=bind)

        arguments: Table = {**ARGUMENTS, DEAD_LETTER_EXCHANGE: target}
        channel.queue_declare(name, durable=True, arguments=arguments, callback=exchange)

    return made(look, make)
