"""Names of queues and exchanges, and declarations that make sure that they exist.

Work queues belong to the site (`zocalo.configure_rabbitmq`) and are not created here, unless the
site asks for it (key `declare`). Created here if missing are exchanges of topics (fanout, durable),
dead letter queues, and the steps of `zwrap.transport.rabbitmq.delays`. What exists is used as it
is, which needs no permission to configure.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zwrap.errors import ZwrapError
from zwrap.transport.failures import EncodingError
from zwrap.transport.rabbitmq.faults import refusal

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, OnAnswer, PikaConnection, Table

    Question = Callable[[Channel, OnAnswer], None]
    """Function that asks something on a separate channel and calls back with the answer."""

    Done = Callable[[ZwrapError | None], None]
    """Function that is called with None if something exists, or with the reason why it does not."""


class Need:
    """Something that must exist before a message can be published."""

    def __init__(self, ask: Callable[[PikaConnection, Done], None]) -> None:
        self.ask = ask
        """Function that makes sure, over a connection, that it exists, and then calls back."""


NOT_FOUND = 404

_DEAD = "dlq."
DELAY = "zwrap.delay."
"""Beginning of the names of everything in which delayed messages wait."""
READER = "zwrap.reader."
"""Beginning of the names of locks of queues that one connection reads alone."""
_SERVERS_OWN = "amq."
"""Beginning of names that only the server may give."""

REMEMBERED = 4096
"""Number of needs of each kind that are kept; names come from messages."""

NAME_BYTES = 255
"""Largest size of a name, in bytes of UTF-8 (short string of AMQP)."""


def checked(name: str, what: str) -> str:
    """Return the name of a queue or topic; EncodingError if AMQP has no such name.

    RabbitMQ takes line ends out of the name that it is to declare, and answers for another one.
    """
    size = len(name.encode("utf-8", "surrogatepass"))
    if not name or size > NAME_BYTES:
        fault = f"it has {size} bytes; 1 to {NAME_BYTES} are possible"
    elif any(character in name for character in "\r\n\0"):
        fault = "it has a line end or a NUL in it"
    elif any("\ud800" <= character <= "\udfff" for character in name):
        fault = "it is not valid Unicode"
    else:
        return name
    shown = ascii(name if size <= NAME_BYTES else f"{name[:40]}...")
    raise EncodingError(f"{what} {shown} cannot exist on RabbitMQ: {fault}.")


def dead_letter_queue(queue: str) -> str:
    """Return the name of the queue for the dead letters of a queue."""
    return f"{_DEAD}{queue}"


def source_of(name: str) -> str | None:
    """Return the queue whose dead letters a queue holds; None if it holds no dead letters."""
    return name[len(_DEAD) :] if name.startswith(_DEAD) else None


def is_internal(name: str) -> bool:
    """Tell whether a queue is not a work queue."""
    return name.startswith((_DEAD, DELAY, READER, _SERVERS_OWN))


def on_channel(connection: PikaConnection, question: Question, answer: OnAnswer) -> None:
    """Ask on a separate channel; the answer is an exception if the server closed the channel."""
    answered: list[bool] = []

    def once(value: object) -> None:
        if not answered:
            answered.append(True)
            answer(value)

    def opened(channel: Channel) -> None:
        def finished(value: object) -> None:
            once(value)
            if channel.is_open:
                channel.close()

        channel.add_on_close_callback(lambda _, error: once(error))
        try:
            question(channel, finished)
        except Exception as error:  # what cannot be asked is answered all the same
            finished(error)

    try:
        connection.channel(on_open_callback=opened)
    except Exception as error:
        once(error)


def made(look: Question | None, make: Question) -> Need:
    """Return a need that is created only if a look finds it missing.

    The look comes first because creation may need a permission. `look` None: create in any case.
    """

    def ask(connection: PikaConnection, done: Done) -> None:
        def told(value: object) -> None:
            done(refusal(value) if isinstance(value, BaseException) else None)

        def looked(value: object) -> None:
            if getattr(value, "reply_code", None) == NOT_FOUND:
                on_channel(connection, make, told)
            else:
                told(value)

        on_channel(connection, look or make, looked if look else told)

    return Need(ask)


def _declared(name: str, arguments: Table) -> Question:
    """Return the declaration of a durable queue."""
    return lambda channel, answer: channel.queue_declare(
        name, durable=True, arguments=arguments, callback=answer
    )


def _looked_up(name: str) -> Question:
    """Return the question whether a queue exists."""
    return lambda channel, answer: channel.queue_declare(name, passive=True, callback=answer)


@functools.lru_cache(maxsize=REMEMBERED)
def queue_exists(queue: str, kind: str) -> Need:
    """Return the need of a durable queue, which is created with type `kind` if missing.

    Names that only the server may give are never created.
    """
    if queue.startswith(_SERVERS_OWN):
        return made(None, _looked_up(queue))
    arguments: Table = {
        "x-queue-type": kind,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_queue(queue),
    }
    return made(_looked_up(queue), _declared(queue, arguments))


@functools.lru_cache(maxsize=REMEMBERED)
def dead_letters_exist(queue: str) -> Need:
    """Return the need of the dead letter queue of a queue, which is created if missing."""
    name = dead_letter_queue(queue)
    return made(_looked_up(name), _declared(name, {"x-queue-type": "quorum"}))


@functools.lru_cache(maxsize=REMEMBERED)
def exchange_exists(topic: str) -> Need:
    """Return the need of the exchange of a topic, which is created if missing."""
    if topic.startswith(_SERVERS_OWN):
        return exchange_is_there(topic)

    def look(channel: Channel, answer: OnAnswer) -> None:
        channel.exchange_declare(topic, passive=True, callback=answer)

    def make(channel: Channel, answer: OnAnswer) -> None:
        channel.exchange_declare(topic, exchange_type="fanout", durable=True, callback=answer)

    return made(look, make)


class QueueDeclaration(NamedTuple):
    """A queue with the properties and bindings that its owner wants."""

    name: str
    passive: bool = False
    """True if the queue must exist already, with any arguments."""
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    arguments: Mapping[str, object] = {}
    bindings: Sequence[tuple[str, str]] = ()
    """Exchange and routing key of each binding."""

    def declare(self, channel: Channel, answer: OnAnswer) -> None:
        """Declare the queue, then bind it."""
        bindings = iter(self.bindings)

        def bind(frame: object) -> None:
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
    """Return the need of a queue that is declared and bound in any case."""
    return made(None, queue.declare)


@functools.lru_cache(maxsize=REMEMBERED)
def exchange_is_there(name: str) -> Need:
    """Return the need of an exchange that is never created here."""
    return made(
        None,
        lambda channel, answer: channel.exchange_declare(name, passive=True, callback=answer),
    )


def count(queue: str, what: str = "message_count") -> Question:
    """Return the question for the exact number of ready messages, or another count, of a queue."""

    def question(channel: Channel, answer: OnAnswer) -> None:
        channel.queue_declare(
            queue, passive=True, callback=lambda frame: answer(getattr(frame.method, what))
        )

    return question
