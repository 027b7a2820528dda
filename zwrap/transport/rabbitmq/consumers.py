"""The consumers of one connection to RabbitMQ: started on each channel anew, and ended."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from zwrap.errors import ZwrapError
from zwrap.host.seldom import Seldom
from zwrap.transport.rabbitmq.alone import when_still
from zwrap.transport.rabbitmq.consumer import Consumer

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, OnAnswer, PikaConnection

log = logging.getLogger(__name__)


class Consumers:
    """The consumers of one connection, on whose thread all methods are called.

    Args:
        where: Name of the server, with which a sentence may begin.
        explained: Function that returns the error that an error of pika means.
        call_later: Function that calls another one after a number of seconds.
    """

    def __init__(
        self,
        where: str,
        explained: Callable[[BaseException], ZwrapError],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._where = where
        self._explained = explained
        self._call_later = call_later
        self._all: list[Consumer] = []
        self._connection: PikaConnection | None = None
        self._warnings = Seldom()

    def connected(self, connection: PikaConnection) -> None:
        """Start each consumer that has no channel."""
        self._connection = connection
        for consumer in self._all:
            self._start(consumer)

    def lost(self) -> None:
        """Note that the connection is gone, and with it all channels."""
        self._connection = None
        for consumer in self._all:
            consumer.channel = None
            consumer.starting = False

    def add(self, consumer: Consumer) -> None:
        """Add a consumer, and start it if there is a connection."""
        self._all.append(consumer)
        self._start(consumer)

    def end(self, consumer: Consumer, done: Callable[[], None], queue: str = "") -> None:
        """End a consumer, and call back when its unsettled messages are given back.

        If there is no connection, they are already. `queue`: the queue that it has alone, whose
        messages are to keep their order.
        """
        if consumer in self._all:
            self._all.remove(consumer)
        channel, consumer.channel = consumer.channel, None
        if channel is None or not channel.is_open:
            done()
            return
        channel.add_on_close_callback(lambda *_: done())
        if queue:
            when_still(channel, consumer, queue, self._call_later, channel.close)
        else:
            channel.close()

    def _is_open(self) -> bool:
        """Return whether channels can be opened."""
        return self._connection is not None and self._connection.is_open

    def _start(self, consumer: Consumer) -> None:
        """Open a channel for a consumer that has none, and let it consume."""
        if self._connection is None or not self._connection.is_open or consumer not in self._all:
            return
        if consumer.starting or consumer.channel is not None:
            return  # a second channel would hold messages that nobody receives
        consumer.starting = True

        def opened(channel: Channel) -> None:
            consumer.starting = False
            if consumer not in self._all:  # it was ended meanwhile
                channel.close()
                return
            consumer.channel, consumer.unsettled = channel, 0
            channel.add_on_close_callback(functools.partial(self._closed, consumer))
            channel.add_on_cancel_callback(lambda _: self._cancelled(consumer))
            if consumer.prefetch:
                channel.basic_qos(
                    prefetch_count=consumer.prefetch,
                    callback=lambda _: consumer.start(channel, self._started(consumer)),
                )
            else:
                consumer.start(channel, self._started(consumer))

        self._connection.channel(on_open_callback=opened)

    def _started(self, consumer: Consumer) -> OnAnswer:
        """Return the callback for the server's agreement."""

        def started(_: object) -> None:
            consumer.ready.set()
            consumer.pauses.reset()
            if self._warnings.over(consumer.name):
                log.warning("%s: %s is read again", self._where, consumer.name)

        return started

    def _closed(self, consumer: Consumer, channel: Channel, error: BaseException) -> None:
        """Start a consumer again whose channel was closed; one that could not start has failed."""
        if consumer.channel is not channel:
            return
        consumer.channel = None
        if not self._is_open():
            return
        elsewhere = consumer.taken(error) if consumer.taken else None
        if elsewhere or not consumer.ready.is_set():
            self._all.remove(consumer)
            consumer.failure = elsewhere or self._explained(error)
            if consumer.ready.is_set() and elsewhere:
                consumer.on_taken(elsewhere)
            consumer.ready.set()
            return
        self._cut_off(consumer, error)

    def _cancelled(self, consumer: Consumer) -> None:
        """Start a consumer again later: the queue was deleted, or its leader is gone."""
        channel, consumer.channel = consumer.channel, None
        if channel is not None and channel.is_open:
            channel.close()
        self._cut_off(consumer, "the server ended the reading; perhaps it was deleted")

    def _cut_off(self, consumer: Consumer, why: object) -> None:
        """Start a consumer again, with back-off; that it was cut off is told seldom."""
        if self._warnings.due(consumer.name):
            log.warning(
                "%s: %s cannot be read, which is tried again, less and less often: %s",
                self._where, consumer.name, why,
            )  # fmt: skip
        self._call_later(consumer.pauses.next_s(), lambda: self._start(consumer))
