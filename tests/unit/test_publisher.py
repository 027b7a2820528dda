"""What was handed over for RabbitMQ, when the channel dies at an awkward moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from zwrap.transport.rabbitmq.publisher import TRIES, Messages, Publication, Publisher
from zwrap.transport.rabbitmq.topology import Need


class Channel:
    """Records what is published, and keeps what it was told to call."""

    def __init__(self) -> None:
        self.is_open = True
        self.published: list[str] = []

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.returned = callback

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self._closed = callback

    def confirm_delivery(self, confirmed: Callable[..., None], ready: Callable[..., None]) -> None:
        self.confirmed = confirmed
        ready(None)

    def basic_publish(self, exchange: str, routing_key: str, *_: Any, mandatory: bool) -> None:
        self.published.append(routing_key)

    def die(self) -> None:
        self.is_open = False
        self._closed(self, RuntimeError("404"))


class Connection:
    is_open = True

    def __init__(self) -> None:
        self.channels: list[Channel] = []

    def channel(self, on_open_callback: Callable[..., None]) -> None:
        self.channels.append(Channel())
        on_open_callback(self.channels[-1])

    def add_on_connection_blocked_callback(self, _: Any) -> None: ...
    def add_on_connection_unblocked_callback(self, _: Any) -> None: ...


def publisher() -> tuple[Publisher, Connection]:
    made = Publisher("RabbitMQ", lambda seconds, function: None, lambda: None)
    connection = Connection()
    made.connected(connection)
    return made, connection


def messages(queue: str, **more: Any) -> Messages:
    properties = pika.BasicProperties()
    return Messages([Publication("", queue, b"", properties, queue, mandatory=True)], **more)


def test_a_need_that_fails_ends_its_own_work_and_no_other() -> None:
    made, connection = publisher()
    asked: list[Callable[[str | None], None]] = []
    need = Need(lambda _, done: asked.append(done))
    first, second = messages("first"), messages("second", needs=[need])
    made.take(first)
    made.take(second)
    connection.channels[0].die()  # now the first waits again, before the second
    asked[0]("no permission")
    assert (second.done, second.failure) == (True, "no permission")
    assert not first.done
    assert connection.channels[1].published == ["first"]


def test_what_the_channel_dies_of_each_time_is_given_up() -> None:
    made, connection = publisher()
    work = messages("poison")
    made.take(work)
    for _ in range(TRIES):
        assert not work.done
        connection.channels[-1].die()
    assert (work.done, work.failure) == (True, "404")


def test_what_nobody_wants_any_more_is_not_published_again() -> None:
    made, connection = publisher()
    wanted = [True]
    work = messages("q", valid=lambda: wanted[0])
    made.take(work)
    wanted[0] = False
    connection.channels[0].die()
    assert work.done
    assert connection.channels[1].published == []
