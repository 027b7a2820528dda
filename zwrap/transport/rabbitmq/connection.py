"""One connection to RabbitMQ on its own thread, which confirms, reconnects and sends heart-beats.

Other threads submit work (`submit`, `call`), and consumers are called with messages. All the rest
happens on the thread, so that work which takes hours elsewhere never delays a heart-beat.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import pika
from pika.adapters.select_connection import IOLoop

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.consumers import Consumers
from zwrap.transport.rabbitmq.faults import explained
from zwrap.transport.rabbitmq.publication import Messages
from zwrap.transport.rabbitmq.publisher import Publisher
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.rabbitmq.topology import Need, on_channel

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import PikaConnection
    from zwrap.transport.rabbitmq.topology import Question

log = logging.getLogger(__name__)

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
"""First and longest pause between rounds over all hosts, in seconds."""

CONNECT_S = 30.0
"""Longest time for the first connection, over all hosts, in seconds."""


class Connection:
    """A lasting connection to a server. Public methods may be called from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._addresses = list(server.addresses)
        random.shuffle(self._addresses)
        self._parameters = {each: server.parameters(*each) for each in self._addresses}
        self._ioloop = IOLoop()
        self._connection: PikaConnection | None = None
        self.publisher = Publisher(self.where, self._ioloop.call_later, self._ready)
        self._tried = 0
        self._backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_LAST_S, jitter=True)
        self._inbox: deque[Callable[[], None]] = deque()
        self._woken = False
        self._consumers = Consumers(
            self.where,
            lambda error: explained(error, *self._server.addresses[0], self._server),
            self._ioloop.call_later,
        )
        self._closing = False
        self._down = False
        self._complained = ""
        self._first = threading.Event()
        self._failure: ZwrapError | None = None
        self._thread = threading.Thread(target=self._run, name="rabbitmq", daemon=True)

    @classmethod
    def open(cls, server: Server) -> Connection:
        """Connect to a server, and stay connected from now on.

        Raises ConfigurationError if the server refuses this user, TransportError if none answers.
        """
        made = cls(server)
        made._begin()
        return made

    def _begin(self) -> None:
        """Start the thread, and wait for the first connection."""
        self._thread.start()
        if not self._first.wait(CONNECT_S):
            self._failure = TransportError(f"{self.where} does not answer within {CONNECT_S:g} s.")
        if self._failure:
            self.close()
            raise self._failure

    @property
    def where(self) -> str:
        """Name of the server, with which a sentence may begin."""
        hosts = ", ".join(f"{host}:{port}" for host, port in self._server.addresses)
        return f"RabbitMQ at {hosts} (vhost {self._server.vhost!r})"

    @property
    def state(self) -> str:
        """Reason why nothing is confirmed at present."""
        return self.publisher.state

    # -- for other threads -----------------------------------------------------------------------

    def submit(self, work: Messages) -> None:
        """Submit work, which is done in the order of submission."""
        self.call(lambda: self.publisher.take(work))

    def consume(self, consumer: Consumer) -> None:
        """Begin to consume; ZwrapError if that is not possible."""
        self.call(lambda: self._consumers.add(consumer))
        if not consumer.ready.wait(CONNECT_S):
            self.call(lambda: self._consumers.end(consumer, lambda: None))
            raise TransportError(f"{self.where}: {consumer.name} cannot be read: {self.state}.")
        if consumer.failure:
            raise consumer.failure

    def end(self, consumer: Consumer, queue: str, wait_s: float) -> None:
        """End a consumer, whose unsettled messages go back to their queue.

        `queue`: the queue that it has alone; empty: there is none. Raises TransportError if the
        server does not answer within `wait_s` seconds.
        """
        ended = threading.Event()
        self.call(lambda: self._consumers.end(consumer, ended.set, queue))
        if not ended.wait(wait_s):
            raise TransportError(f"{self.where} did not answer within {wait_s:g} s: {self.state}.")

    def ask(self, question: Question, wait_s: float) -> object:
        """Ask on a separate channel and return the answer.

        An exception that closed the channel is an answer, too. Raises TransportError if there is
        none within `wait_s` seconds.
        """
        return self._answer(
            lambda connection, answer: on_channel(connection, question, answer), wait_s
        )

    def ensure(self, need: Need, wait_s: float) -> None:
        """Wait up to `wait_s` seconds until something exists; TransportError if it does not."""
        if failure := self._answer(need.ask, wait_s):
            raise TransportError(f"{self.where}: {failure}.")

    def _answer(
        self, ask: Callable[[PikaConnection, Callable[[object], None]], None], wait_s: float
    ) -> object:
        """Call `ask` on the thread as soon as there is a connection; return the answer."""
        answered = threading.Event()
        answers: list[object] = []

        def answer(value: object) -> None:
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
        """Let the thread run a function."""
        self._inbox.append(function)
        if not self._woken:
            self._woken = True
            self._ioloop.add_callback_threadsafe(self._drain)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function after a number of seconds; only for this connection's thread."""
        self._ioloop.call_later(seconds, function)

    def close(self) -> None:
        """End the connection; unsettled messages go back to their queues."""
        if self._thread.is_alive():
            self.call(self._end)
            self._thread.join(10)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        """Connect, and run the event loop until the connection is closed."""
        self._connect()
        while True:
            try:
                self._ioloop.start()
                self._ioloop.close()
                return
            except Exception:  # a fault of ours or pika's must not end the connection for good
                log.exception("%s: the connection's thread failed and goes on", self.where)

    def _drain(self) -> None:
        """Run the functions that other threads passed to `call`."""
        self._woken = False
        while self._inbox:
            self._inbox.popleft()()

    def _end(self) -> None:
        """Close the connection, and end the event loop."""
        self._closing = self.publisher.closing = True
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        else:
            self._ioloop.stop()

    def _connect(self) -> None:
        """Begin to connect to the next host."""
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

    def _refused(self, host: str, port: int, connection: object, error: BaseException) -> None:
        """Try another host; the first connection is given up after all hosts were tried once."""
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
        """Try the next host, after a pause if all were tried."""
        if self._closing:
            self._ioloop.stop()
        elif self._tried % len(self._addresses):
            self._connect()
        else:
            self._ioloop.call_later(self._backoff.next_s(), self._connect)

    def _opened(self, connection: PikaConnection) -> None:
        """Let the publisher prepare its channel."""
        self._connection = connection
        self.publisher.connected(connection)

    def _ready(self) -> None:
        """Note that the publisher is ready, and start each consumer that has no channel."""
        if self._down:
            self._down = False
            self._complained = ""
            log.warning("%s: connected again", self.where)
        self._tried = 0
        self._backoff.reset()
        self._first.set()
        if self._connection is not None and not self._closing:
            self._consumers.connected(self._connection)

    def _lost(self, connection: object, error: BaseException) -> None:
        """Reconnect after the connection was lost, unless it was closed."""
        del connection
        self._connection = None
        self._consumers.lost()
        self.publisher.lost(error)
        if self._closing:
            self._ioloop.stop()
            return
        if not self._down:
            log.warning("%s: the connection was lost (%s)", self.where, error)
        self._down = True
        self._ioloop.call_later(random.uniform(0.05, 0.5), self._connect)
