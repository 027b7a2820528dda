"""One connection to RabbitMQ on a thread of its own: confirms, reconnects, keeps heart-beats.

Other threads hand over work (`submit`) and are told of what comes (`on_message`). Everything else
happens on the thread: work that takes hours elsewhere never costs a heart-beat.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
from pika.adapters.select_connection import IOLoop

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.transport.rabbitmq.faults import explained
from zwrap.transport.rabbitmq.publisher import Messages, Publisher
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.rabbitmq.topology import Need, Question, on_channel

log = logging.getLogger(__name__)

if logging.getLogger("pika").level == logging.NOTSET:
    # It logs each lost connection as a dozen errors; what matters is said here, in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
CONNECT_S = 30.0
"""So long the first connection may take, over all hosts."""

Channel = Any
"""pika's channel; pika has no types."""


class Consumer:
    """A queue that is read, over all connections that there will be."""

    def __init__(
        self,
        start: Callable[[Channel, Callable[..., None]], None],
        received: Callable[..., None],
        prefetch: int,
        name: str,
    ) -> None:
        self.start = start
        """Begins to consume on a fresh channel."""
        self.received = received
        self.prefetch = prefetch
        self.name = name
        self.channel: Channel = None
        self.starting = False
        self.ready = threading.Event()
        self.failure: ZwrapError | None = None

    def reset(self) -> None:
        """Forget that it could not begin."""
        self.ready.clear()
        self.failure = None


class Connection:
    """Keeps one connection to a server; all public methods may be called from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._addresses = list(server.addresses)
        random.shuffle(self._addresses)
        self._parameters = {each: server.parameters(*each) for each in self._addresses}
        self._ioloop = IOLoop()
        self._connection: Any = None
        self._publisher = Publisher(self.where, self._ioloop.call_later, self._ready)
        self._tried = 0
        self._pause_s = BACKOFF_FIRST_S
        self._inbox: deque[Callable[[], None]] = deque()
        self._woken = False
        self._consumers: list[Consumer] = []
        self._closing = False
        self._down = False
        self._complained = ""
        self._first = threading.Event()
        self._failure: ZwrapError | None = None
        self._thread = threading.Thread(target=self._run, name="rabbitmq", daemon=True)
        self._thread.start()
        if not self._first.wait(CONNECT_S):
            self._failure = TransportError(f"{self.where} does not answer within {CONNECT_S:g} s.")
        if self._failure:
            self.close()
            raise self._failure

    @property
    def where(self) -> str:
        """The server, for a sentence to begin with."""
        hosts = ", ".join(f"{host}:{port}" for host, port in self._server.addresses)
        return f"RabbitMQ at {hosts} (vhost {self._server.vhost!r})"

    @property
    def state(self) -> str:
        """Why nothing is confirmed at present."""
        return self._publisher.state

    # -- for other threads -----------------------------------------------------------------------

    def submit(self, work: Messages) -> None:
        """Hand over work; it is done in the order in which it came."""
        self.call(lambda: self._publisher.take(work))

    def consume(self, consumer: Consumer) -> None:
        """Begin to read; ZwrapError if that is not possible."""
        self.call(lambda: self._add(consumer))
        if not consumer.ready.wait(CONNECT_S):
            raise TransportError(f"{self.where}: {consumer.name} cannot be read: {self.state}.")
        if consumer.failure:
            raise consumer.failure

    def ask(self, question: Question, wait_s: float) -> Any:
        """Ask on a channel of its own and wait; an error that closed the channel is an answer."""
        return self._wait_for(lambda c, answer: on_channel(c, question, answer), wait_s)

    def ensure(self, need: Need, wait_s: float) -> None:
        """Wait until something exists; TransportError says why it does not."""
        if failure := self._wait_for(need.ask, wait_s):
            raise TransportError(f"{self.where}: {failure}.")

    def _wait_for(self, ask: Callable[[Any, Callable[[Any], None]], None], wait_s: float) -> Any:
        answered = threading.Event()
        answers: list[Any] = []

        def answer(value: Any) -> None:
            answers.append(value)
            answered.set()

        def begin() -> None:
            if self._connection is not None and self._connection.is_open:
                ask(self._connection, answer)
            else:
                self._ioloop.call_later(0.2, begin)

        self.call(begin)
        if not answered.wait(wait_s):
            raise TransportError(f"{self.where} did not answer within {wait_s:g} s: {self.state}.")
        return answers[0]

    def call(self, function: Callable[[], None]) -> None:
        """Run a function on the thread."""
        self._inbox.append(function)
        if not self._woken:
            self._woken = True
            self._ioloop.add_callback_threadsafe(self._drain)

    def close(self) -> None:
        """End the connection; what was delivered and not settled goes back to its queue."""
        if self._thread.is_alive():
            self.call(self._end)
            self._thread.join(10)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        self._connect()
        while True:
            try:
                self._ioloop.start()
                self._ioloop.close()
                return
            except Exception:  # a fault of ours or pika's must not end the connection for good
                log.exception("%s: the connection's thread failed and goes on", self.where)

    def _drain(self) -> None:
        self._woken = False
        while self._inbox:
            self._inbox.popleft()()

    def _end(self) -> None:
        self._closing = self._publisher.closing = True
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        else:
            self._ioloop.stop()

    def _connect(self) -> None:
        if self._closing:
            self._ioloop.stop()
            return
        host, port = self._addresses[self._tried % len(self._addresses)]
        self._tried += 1
        pika.SelectConnection(
            self._parameters[host, port],
            on_open_callback=self._opened,
            on_open_error_callback=functools.partial(self._refused, host, port),
            on_close_callback=self._lost,
            custom_ioloop=self._ioloop,
        )

    def _refused(self, host: str, port: int, connection: Any, error: BaseException) -> None:
        del connection
        reason = explained(error, host, port, self._server)
        if not self._first.is_set():
            if self._tried >= len(self._addresses) or isinstance(reason, ConfigurationError):
                self._failure = reason
                self._first.set()
                return
            self._connect()
            return
        if str(reason) != self._complained:
            self._complained = str(reason)
            log.warning("%s It is tried again.", reason)
        self._again()

    def _again(self) -> None:
        """Try the next host: at once while there are others, then with back-off and jitter."""
        if self._closing:
            self._ioloop.stop()
        elif self._tried % len(self._addresses):
            self._connect()
        else:
            self._ioloop.call_later(self._pause_s * random.uniform(0.5, 1.0), self._connect)
            self._pause_s = min(self._pause_s * 2, BACKOFF_LAST_S)

    def _opened(self, connection: Any) -> None:
        self._connection = connection
        self._publisher.connected(connection)

    def _ready(self) -> None:
        """One can publish, so all is well; consumers that have no channel get one."""
        if self._down:
            self._down = False
            self._complained = ""
            log.warning("%s: connected again", self.where)
        self._tried = 0
        self._pause_s = BACKOFF_FIRST_S
        self._first.set()
        for consumer in self._consumers:
            self._start(consumer)

    def _lost(self, connection: Any, error: BaseException) -> None:
        del connection
        self._connection = None
        for consumer in self._consumers:
            consumer.channel = None
            consumer.starting = False
        self._publisher.lost(str(error))
        if self._closing:
            self._ioloop.stop()
            return
        if not self._down:
            log.warning("%s: the connection was lost (%s)", self.where, error)
        self._down = True
        self._ioloop.call_later(random.uniform(0.05, 0.5), self._connect)

    # -- consumers ----------------------------------------------------------------

    def _add(self, consumer: Consumer) -> None:
        self._consumers.append(consumer)
        if self._publisher.is_ready:
            self._start(consumer)

    def _start(self, consumer: Consumer) -> None:
        if self._connection is None or not self._connection.is_open or self._closing:
            return
        if consumer.starting or consumer.channel is not None:
            return  # a second channel would hold messages that nobody takes
        consumer.starting = True

        def opened(channel: Channel) -> None:
            consumer.starting = False
            consumer.channel = channel
            channel.add_on_close_callback(functools.partial(self._consumer_closed, consumer))
            channel.add_on_cancel_callback(lambda _: self._consumer_cancelled(consumer))
            if consumer.prefetch:
                channel.basic_qos(
                    prefetch_count=consumer.prefetch,
                    callback=lambda _: consumer.start(channel, self._started(consumer)),
                )
            else:
                consumer.start(channel, self._started(consumer))

        self._connection.channel(on_open_callback=opened)

    def _started(self, consumer: Consumer) -> Callable[..., None]:
        return lambda *_: consumer.ready.set()

    def _consumer_closed(self, consumer: Consumer, channel: Channel, error: BaseException) -> None:
        if consumer.channel is not channel:
            return
        consumer.channel = None
        if self._closing or self._connection is None or not self._connection.is_open:
            return
        if not consumer.ready.is_set():
            self._consumers.remove(consumer)
            consumer.failure = explained(error, *self._server.addresses[0], self._server)
            consumer.ready.set()
            return
        log.warning(
            "%s: %s is read again soon, it was cut off: %s", self.where, consumer.name, error
        )
        self._ioloop.call_later(1.0, lambda: self._start(consumer))

    def _consumer_cancelled(self, consumer: Consumer) -> None:
        """The server ended it: the queue was deleted, or its leader is gone."""
        log.warning("%s: the server ended the reading of %s", self.where, consumer.name)
        channel, consumer.channel = consumer.channel, None
        if channel is not None and channel.is_open:
            channel.close()
        self._ioloop.call_later(1.0, lambda: self._start(consumer))
