"""Publishes on one channel of a connection and keeps what is not confirmed; on its thread only.

Publisher confirms: www.rabbitmq.com/confirms.html.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pika
import pika.exceptions

from zwrap.transport.pipelined import PendingWork
from zwrap.transport.rabbitmq.topology import Need

log = logging.getLogger(__name__)

REFUSED = "the server refused the message"
REFUSED_AGAIN_S = 0.5
CONFIRM_S = 10.0
"""So long a confirmation may take, at first. Measured with RabbitMQ 3.10: what reaches a quorum
queue that has no leader is neither confirmed nor refused."""
TRIES = 3
"""A message that the channel dies of so often is the reason for it."""

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


class Messages(PendingWork):
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


class Publisher:
    """Publishes work in order, over all connections that there will be."""

    def __init__(
        self,
        where: str,
        call_later: Callable[[float, Callable[[], None]], Any],
        ready: Callable[[], None],
    ) -> None:
        self._where = where
        self._call_later = call_later
        self._ready = ready
        """Called whenever a channel is there to publish on."""
        self.closing = False
        self._connection: Any = None
        self._channel: Channel | None = None
        self._sequence = itertools.count(1)
        self._unconfirmed: dict[int, tuple[Messages, Publication]] = {}
        self._returned: dict[str, str] = {}
        self._queue: deque[Messages] = deque()
        self._known: set[Need] = set()
        self._ensuring = False
        self._blocked = ""
        self._unblocked_at = 0.0
        self._patience_s = CONFIRM_S
        self._watching = False

    @property
    def is_ready(self) -> bool:
        """Whether there is a channel to publish on."""
        return self._channel is not None

    @property
    def state(self) -> str:
        """Why nothing is confirmed at present."""
        if self._blocked:
            return f"the server takes no messages at present: {self._blocked}"
        return "no answer" if self.is_ready else "the connection is lost"

    def take(self, work: Messages) -> None:
        """Publish work as soon as all before it is published."""
        self._queue.append(work)
        self._pump()

    # -- the channel -----------------------------------------------------------------------------

    def connected(self, connection: Any) -> None:
        """A connection is there: open a channel on it."""
        self._connection = connection
        connection.add_on_connection_blocked_callback(self._is_blocked)
        connection.add_on_connection_unblocked_callback(self._is_unblocked)
        self._open()

    def lost(self, reason: str) -> None:
        """The connection is gone; what is still to be done waits for the next."""
        self._connection = self._channel = None
        self._blocked = ""
        self._known.clear()
        self._ensuring = False
        self._recover_unconfirmed(reason)

    def _is_blocked(self, connection: Any, method: Any) -> None:
        del connection
        self._blocked = str(method.method.reason)
        log.warning("%s takes no messages at present: %s", self._where, self._blocked)

    def _is_unblocked(self, connection: Any, method: Any) -> None:
        del connection, method
        self._blocked = ""
        self._unblocked_at = time.monotonic()
        log.warning("%s takes messages again", self._where)

    def _open(self) -> None:
        if self._connection is not None and self._connection.is_open and not self.closing:
            self._connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Channel) -> None:
        self._sequence = itertools.count(1)
        channel.add_on_return_callback(self._came_back)
        channel.add_on_close_callback(self._closed)
        confirmed = functools.partial(self._confirmed, channel)
        channel.confirm_delivery(confirmed, lambda _: self._confirming(channel))

    def _confirming(self, channel: Channel) -> None:
        self._channel = channel
        self._ready()
        self._pump()

    def _closed(self, channel: Channel, error: BaseException) -> None:
        """The server closed the channel: a message went to an exchange that is gone, say."""
        if channel is not self._channel:
            return
        self._channel = None
        self._known.clear()
        self._recover_unconfirmed(str(error), TRIES)
        self._open()

    def _recover_unconfirmed(self, reason: str, tries: int | None = None) -> None:
        """Publish again, in order, what was not confirmed and is still to be done."""
        works = dict.fromkeys(work for work, _ in self._unconfirmed.values())
        self._unconfirmed.clear()
        self._returned.clear()
        for work in reversed(works):
            work.open = 0
            work.missing = list(work.needs)
            work.tries += tries is not None
            if self.closing or not work.valid() or (tries is not None and work.tries >= tries):
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
        channel = self._channel
        if channel is not None and not self._blocked and waited_s > self._patience_s:
            log.warning(
                "%s confirmed nothing for %.0f s; %d message(s) are sent again, under the same ids",
                self._where, waited_s, len(self._unconfirmed),
            )  # fmt: skip
            self._patience_s *= 2  # it may just be slow
            self._unblocked_at = time.monotonic()
            self._channel = None
            if channel.is_open:
                channel.close()
            self._recover_unconfirmed("never confirmed")
            self._open()
        self._look_after()

    def _look_after(self) -> None:
        if not self._watching:
            self._watching = True
            self._call_later(1.0, self._watch)

    # -- work ------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Publish what can be published now; stop at what needs something that is not known yet."""
        while self._queue and not self._ensuring:
            work = self._queue[0]
            if not work.valid():
                self._queue.popleft()
                self._finish(work)
                continue
            if self._channel is None:
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
                self._queue.remove(work)  # others may have been put before it
                work.failure = failure
                self._finish(work)
            self._pump()

        need.ask(self._connection, told)

    def _publish(self, work: Messages) -> None:
        channel = self._channel
        work.published_at = time.monotonic()
        self._look_after()
        for publication in work.publications:
            try:
                channel.basic_publish(  # type: ignore[union-attr]  # checked in _pump
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
        if channel is not self._channel:
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
        if work.failure == REFUSED and work.valid() and not self.closing:
            work.failure = None  # as while a quorum queue has no leader
            self._call_later(REFUSED_AGAIN_S, lambda: self.take(work))
            return
        work.finish(work.failure)
