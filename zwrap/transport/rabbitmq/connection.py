"""One connection to RabbitMQ on a thread of its own: confirms, reconnects, keeps heart-beats.

Other threads hand over work (`submit`) and are told of what comes (`on_message`). Everything else
happens on the thread: work that takes hours elsewhere never costs a heart-beat.
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pika
import pika.exceptions
from pika.adapters.select_connection import IOLoop

from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.transport.pipelined import Work
from zwrap.transport.rabbitmq.faults import explained
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.rabbitmq.topology import Need, Question, on_channel

log = logging.getLogger(__name__)

if logging.getLogger("pika").level == logging.NOTSET:
    # It logs each lost connection as a dozen errors; what matters is said here, in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
REFUSED = "the server refused the message"
REFUSED_AGAIN_S = 0.5
CONFIRM_S = 10.0
"""So long a confirmation may take, at first. Measured with RabbitMQ 3.10: what reaches a quorum
queue that has no leader is neither confirmed nor refused."""
TRIES = 3
"""A message that the channel dies of so often is the reason for it."""
CONNECT_S = 30.0
"""So long the first connection may take, over all hosts."""

Channel = Any
"""pika's channel; pika has no types."""


class Publication:
    """One message on its way to the server."""

    __slots__ = ("body", "exchange", "identity", "mandatory", "properties", "routing_key")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties,
        identity: str,
        *,
        mandatory: bool,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.properties = properties
        self.identity = identity
        self.mandatory = mandatory


class Messages(Work):
    """Messages to be confirmed, and what must exist before."""

    __slots__ = ("missing", "needs", "open", "publications", "published_at", "tries")

    def __init__(
        self, publications: list[Publication], *, needs: Sequence[Need] = (), **more: Any
    ) -> None:
        super().__init__(**more)
        self.publications = publications
        self.needs = needs
        self.missing = list(needs)
        self.open = 0
        self.tries = 0
        self.published_at = 0.0


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


class Connection:
    """Keeps one connection to a server; all public methods may be called from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._addresses = list(server.addresses)
        random.shuffle(self._addresses)
        self._ioloop = IOLoop()
        self._connection: Any = None
        self._publisher: Channel | None = None
        self._tried = 0
        self._pause_s = BACKOFF_FIRST_S
        self._sequence = itertools.count(1)
        self._unconfirmed: dict[int, tuple[Messages, Publication]] = {}
        self._returned: dict[str, str] = {}
        self._queue: deque[Messages] = deque()
        self._known: set[Need] = set()
        self._ensuring = False
        self._inbox: deque[Callable[[], None]] = deque()
        self._woken = False
        self._consumers: list[Consumer] = []
        self._closing = False
        self._blocked = ""
        self._unblocked_at = 0.0
        self._patience_s = CONFIRM_S
        self._watching = False
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
        if self._blocked:
            return f"the server takes no messages at present: {self._blocked}"
        return "the connection is lost" if self._publisher is None else "no answer"

    # -- for other threads -----------------------------------------------------------------------

    def submit(self, work: Messages) -> None:
        """Hand over work; it is done in the order in which it came."""
        self.call(lambda: self._take(work))

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
        self._closing = True
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
            self._server.parameters(host, port),
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
        connection.add_on_connection_blocked_callback(self._is_blocked)
        connection.add_on_connection_unblocked_callback(self._is_unblocked)
        self._open_publisher()

    def _is_blocked(self, connection: Any, method: Any) -> None:
        del connection
        self._blocked = str(method.method.reason)
        log.warning("%s takes no messages at present: %s", self.where, self._blocked)

    def _is_unblocked(self, connection: Any, method: Any) -> None:
        del connection, method
        self._blocked = ""
        self._unblocked_at = time.monotonic()
        log.warning("%s takes messages again", self.where)

    def _publisher_opened(self, channel: Channel) -> None:
        self._sequence = itertools.count(1)
        channel.add_on_return_callback(self._came_back)
        channel.add_on_close_callback(self._publisher_closed)
        confirmed = functools.partial(self._confirmed, channel)
        channel.confirm_delivery(confirmed, lambda _: self._ready(channel))

    def _ready(self, channel: Channel) -> None:
        if self._down:
            self._down = False
            self._complained = ""
            log.warning("%s: connected again", self.where)
        self._publisher = channel
        self._tried = 0
        self._pause_s = BACKOFF_FIRST_S
        self._first.set()
        for consumer in self._consumers:
            self._start(consumer)
        self._pump()

    def _publisher_closed(self, channel: Channel, error: BaseException) -> None:
        """The server closed the channel: a message went to an exchange that is gone, say."""
        if channel is not self._publisher:
            return
        self._publisher = None
        self._known.clear()
        self._recover_unconfirmed(str(error), TRIES)
        self._open_publisher()

    def _open_publisher(self) -> None:
        if self._connection is not None and self._connection.is_open and not self._closing:
            self._connection.channel(on_open_callback=self._publisher_opened)

    def _lost(self, connection: Any, error: BaseException) -> None:
        del connection
        self._connection = self._publisher = None
        self._blocked = ""
        self._known.clear()
        self._ensuring = False
        for consumer in self._consumers:
            consumer.channel = None
            consumer.starting = False
        self._recover_unconfirmed(str(error))
        if self._closing:
            self._ioloop.stop()
            return
        if not self._down:
            log.warning("%s: the connection was lost (%s)", self.where, error)
        self._down = True
        self._ioloop.call_later(random.uniform(0.05, 0.5), self._connect)

    def _recover_unconfirmed(self, reason: str, tries: int | None = None) -> None:
        """Publish again, in order, what was not confirmed and is still to be done."""
        works = dict.fromkeys(work for work, _ in self._unconfirmed.values())
        self._unconfirmed.clear()
        self._returned.clear()
        for work in reversed(works):
            work.open = 0
            work.missing = list(work.needs)
            work.tries += tries is not None
            if self._closing or not work.valid() or (tries is not None and work.tries >= tries):
                work.failure = work.failure or reason
                self._finish(work)
            else:
                self._queue.appendleft(work)

    def _watch(self) -> None:
        """Begin anew, on another channel, when the server has forgotten to confirm."""
        self._watching = False
        if not self._unconfirmed:
            return
        oldest, _ = next(iter(self._unconfirmed.values()))
        waited_s = time.monotonic() - max(oldest.published_at, self._unblocked_at)
        publisher = self._publisher
        if publisher is not None and not self._blocked and waited_s > self._patience_s:
            log.warning(
                "%s confirmed nothing for %.0f s; %d message(s) are sent again, under the same ids",
                self.where, waited_s, len(self._unconfirmed),
            )  # fmt: skip
            self._patience_s *= 2  # it may just be slow
            self._unblocked_at = time.monotonic()
            self._publisher = None
            if publisher.is_open:
                publisher.close()
            self._recover_unconfirmed("never confirmed")
            self._open_publisher()
        self._look_after()

    def _look_after(self) -> None:
        if not self._watching:
            self._watching = True
            self._ioloop.call_later(1.0, self._watch)

    # -- work ------------------------------------------------------------------------------------

    def _take(self, work: Messages) -> None:
        self._queue.append(work)
        self._pump()

    def _pump(self) -> None:
        """Publish what can be published now; stop at what needs something that is not known yet."""
        while self._queue and not self._ensuring:
            work = self._queue[0]
            if not work.valid():
                self._queue.popleft()
                self._finish(work)
                continue
            if self._publisher is None:
                return
            work.missing = [need for need in work.missing if need not in self._known]
            if work.missing:
                self._ensure(work.missing[0], work)
                return
            self._queue.popleft()
            self._publish(work)

    def _ensure(self, need: Need, work: Messages) -> None:
        """Let everything wait until what the next work needs is there."""
        self._ensuring = True
        asked = self._connection

        def told(failure: str | None) -> None:
            if self._connection is not asked:
                return  # asked again on the next connection
            self._ensuring = False
            if failure is None:
                work.missing.remove(need)
                if need.lasting:
                    self._known.add(need)
            else:
                self._queue.popleft()
                work.failure = failure
                self._finish(work)
            self._pump()

        need.ask(self._connection, told)

    def _publish(self, work: Messages) -> None:
        publisher = self._publisher
        work.published_at = time.monotonic()
        self._look_after()
        for publication in work.publications:
            try:
                publisher.basic_publish(  # type: ignore[union-attr]  # checked in _pump
                    publication.exchange,
                    publication.routing_key,
                    publication.body,
                    publication.properties,
                    mandatory=publication.mandatory,
                )
            except (ValueError, TypeError, UnicodeError, pika.exceptions.AMQPError) as error:
                # Nothing of it was written: what AMQP cannot hold is found before.
                work.failure = work.failure or f"it cannot be written as AMQP: {error}"
                continue
            work.open += 1
            self._unconfirmed[next(self._sequence)] = (work, publication)
        if not work.open:
            self._finish(work)

    def _came_back(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        """The server could not route a message; its confirmation follows."""
        del channel, body
        identity = str((properties.headers or {}).get("zwrap-id"))
        place = method.routing_key or method.exchange
        self._returned[identity] = f"queue {place!r} does not exist ({method.reply_text})"

    def _confirmed(self, channel: Channel, frame: Any) -> None:
        if channel is not self._publisher:
            return
        method = frame.method
        self._patience_s = CONFIRM_S
        refused = isinstance(method, pika.spec.Basic.Nack)
        for tag in self._tags(method.delivery_tag, method.multiple):
            work, publication = self._unconfirmed.pop(tag)
            if reason := self._returned.pop(publication.identity, None):
                work.failure = work.failure or reason
            elif refused:
                work.failure = work.failure or REFUSED
            work.open -= 1
            if not work.open:
                self._finish(work)

    def _tags(self, last: int, multiple: bool) -> Iterator[int]:
        if not multiple:
            if last in self._unconfirmed:
                yield last
            return
        for tag in list(self._unconfirmed):
            if tag > last:
                break
            yield tag

    def _finish(self, work: Messages) -> None:
        if work.failure == REFUSED and work.waits and not self._closing:
            work.failure = None  # as while a quorum queue has no leader
            self._ioloop.call_later(REFUSED_AGAIN_S, lambda: self._take(work))
            return
        work.finish(work.failure)

    # -- consumers, and questions ----------------------------------------------------------------

    def _add(self, consumer: Consumer) -> None:
        self._consumers.append(consumer)
        if self._publisher is not None:
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
            channel.basic_qos(
                prefetch_count=consumer.prefetch,
                callback=lambda _: consumer.start(channel, self._started(consumer)),
            )

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


def now() -> int:
    """Seconds since the epoch, for a message's time stamp."""
    return int(time.time())
