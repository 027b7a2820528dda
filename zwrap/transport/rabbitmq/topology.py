"""Names of queues and exchanges, and how it is made sure that they are there.

Work queues are the site's (`zocalo.configure_rabbitmq`) and never made here, unless the site says
so. Made here when missing: exchanges of topics (fanout, durable), dead letter queues, and the
queues in which delayed messages wait: one for each queue and delay, whose messages expire into that
queue (www.rabbitmq.com/ttl.html, /dlx.html). No plug-in is needed for that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Channel = Any
Answer = Callable[[Any], None]
Question = Callable[[Channel, Answer], None]
"""Asks something on a channel of its own."""


class Need:
    """Makes sure over a connection that something exists; calls back with None, or why not."""

    def __init__(
        self, ask: Callable[[Any, Callable[[str | None], None]], None], *, lasting: bool = True
    ) -> None:
        self.ask = ask
        self.lasting = lasting
        """Whether it is enough to have made sure once on a connection."""


NOT_FOUND = 404

_DEAD = "dlq."
_DELAY = "zwrap.delay."
UNUSED_MS = 60_000
"""A delay queue that nobody used for so long after its delay is deleted by the server."""


def dead_letter_queue(queue: str) -> str:
    """The queue for the dead letters of a queue."""
    return f"{_DEAD}{queue}"


def source_of(name: str) -> str | None:
    """The queue whose dead letters a queue holds; None if it is another kind of queue."""
    return name[len(_DEAD) :] if name.startswith(_DEAD) else None


def is_internal(name: str) -> bool:
    """Whether a queue is no work queue."""
    return name.startswith((_DEAD, _DELAY, "amq."))


def on_channel(connection: Any, question: Question, answer: Answer) -> None:
    """Ask on a channel of its own; the answer is an error if the server closed that channel."""
    answered: list[bool] = []

    def once(value: Any) -> None:
        if not answered:
            answered.append(True)
            answer(value)

    def opened(channel: Channel) -> None:
        def finished(value: Any) -> None:
            once(value)
            if channel.is_open:
                channel.close()

        channel.add_on_close_callback(lambda _, error: once(error))
        question(channel, finished)

    connection.channel(on_open_callback=opened)


def _made(look: Question | None, make: Question, *, lasting: bool = True) -> Need:
    """Look whether it is there, and make it only if not: that may need a permission."""

    def ask(connection: Any, done: Callable[[str | None], None]) -> None:
        def told(value: Any) -> None:
            done(str(value) if isinstance(value, BaseException) else None)

        def looked(value: Any) -> None:
            if getattr(value, "reply_code", None) == NOT_FOUND:
                on_channel(connection, make, told)
            else:
                told(value)

        on_channel(connection, look or make, looked if look else told)

    return Need(ask, lasting=lasting)


def _declared(name: str, arguments: dict[str, Any]) -> Question:
    return lambda channel, answer: channel.queue_declare(
        name, durable=True, arguments=arguments, callback=answer
    )


def _looked_up(name: str) -> Question:
    return lambda channel, answer: channel.queue_declare(name, passive=True, callback=answer)


@functools.cache
def queue_exists(queue: str, kind: str) -> Need:
    """Make a durable queue of that type unless it is there."""
    arguments = {
        "x-queue-type": kind,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_queue(queue),
    }
    return _made(_looked_up(queue), _declared(queue, arguments))


@functools.cache
def dead_letters_exist(queue: str) -> Need:
    """Make the dead letter queue of a queue unless it is there."""
    name = dead_letter_queue(queue)
    return _made(_looked_up(name), _declared(name, {"x-queue-type": "quorum"}))


@functools.cache
def exchange_exists(topic: str) -> Need:
    """Make the exchange of a topic unless it is there."""

    def look(channel: Channel, answer: Answer) -> None:
        channel.exchange_declare(topic, passive=True, callback=answer)

    def make(channel: Channel, answer: Answer) -> None:
        channel.exchange_declare(topic, exchange_type="fanout", durable=True, callback=answer)

    return _made(look, make)


class QueueDeclaration(NamedTuple):
    """A queue as its owner wants it, and what it is bound to."""

    name: str
    passive: bool = False
    """It must be there, whatever its arguments are."""
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    arguments: Mapping[str, Any] = {}
    bindings: Sequence[tuple[str, str]] = ()
    """Exchange and routing key of each."""

    def declare(self, channel: Channel, answer: Answer) -> None:
        """Declare it, then bind it."""
        bindings = iter(self.bindings)

        def bind(frame: Any) -> None:
            binding = next(bindings, None)
            if binding is None:
                answer(frame)
            else:
                channel.queue_bind(self.name, *binding, callback=bind)

        channel.queue_declare(
            self.name,
            passive=self.passive,
            durable=self.durable,
            auto_delete=self.auto_delete,
            exclusive=self.exclusive,
            arguments=dict(self.arguments),
            callback=bind,
        )


def queue_declared(queue: QueueDeclaration) -> Need:
    """Declare and bind a queue."""
    return _made(None, queue.declare)


@functools.cache
def exchange_is_there(name: str) -> Need:
    """Look whether an exchange is there, and make none."""
    return _made(
        None,
        lambda channel, answer: channel.exchange_declare(name, passive=True, callback=answer),
    )


def delay(queue: str, delay_s: float) -> tuple[str, Need]:
    """The queue in which messages for `queue` wait so long, and what makes it."""
    step_ms = 10 if delay_s < 1 else 100 if delay_s < 10 else 1000
    delay_ms = max(step_ms, -int(-delay_s * 1000 // step_ms) * step_ms)
    name = f"{_DELAY}{queue}.{delay_ms}"
    arguments = {
        "x-message-ttl": delay_ms,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-expires": delay_ms + UNUSED_MS,
    }
    # Declaring it again is what keeps the server from deleting it.
    return name, _made(None, _declared(name, arguments), lasting=False)


def count(queue: str, what: str = "message_count") -> Question:
    """How many messages are ready in a queue, or consumers read it, exactly."""

    def question(channel: Channel, answer: Answer) -> None:
        channel.queue_declare(
            queue, passive=True, callback=lambda frame: answer(getattr(frame.method, what))
        )

    return question
