"""Publishing on one channel of a connection, on its thread only; unconfirmed messages are kept.

Source: www.rabbitmq.com/confirms.html (publisher confirms).
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pika
import pika.exceptions

from zwrap.errors import ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.transport.failures import EncodingError, LostError, NoRouteError, RefusedError
from zwrap.transport.rabbitmq.faults import refused_message
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.topology import Need

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import (
        Blocked,
        Channel,
        Confirmation,
        Frame,
        PikaConnection,
        Properties,
        Returned,
    )

log = logging.getLogger(__name__)

REFUSED_AGAIN_S = 0.5
"""Pause before a refused message is sent again, in seconds."""

CONFIRM_S = 10.0
"""Longest first wait for a confirmation, in seconds; doubled each time it is exceeded.

Measured with RabbitMQ 3.10: a message that reaches a quorum queue without a leader is neither
confirmed nor refused.
"""

TRIES = 3
"""Number of times that the server may close the channel before a message that was unconfirmed each
time counts as the reason."""


class Publisher:
    """Publisher of work, in order, over all connections to come."""

    def __init__(
        self,
        where: str,
        call_later: Callable[[float, Callable[[], None]], object],
        ready: Callable[[], None],
        clock: Clock = elapsed,
    ) -> None:
        self._where = where
        self._call_later = call_later
        """Function that calls another one on this thread after a number of seconds."""
        self._ready = ready
        """Function that is called whenever there is a channel to publish on."""
        self._clock = clock
        self.closing = False
        self._connection: PikaConnection | None = None
        self._channel: Channel | None = None
        self._sequence = itertools.count(1)
        self._unconfirmed: dict[int, tuple[Messages, Publication]] = {}
        self._returned: dict[str, ZwrapError] = {}
        self._queue: deque[Messages] = deque()
        self._known: set[Need] = set()
        self._ensuring = False
        self._blocked = ""
        self._unblocked_at = 0.0
        self._confirm_s = CONFIRM_S
        self._checking = False

    @property
    def is_ready(self) -> bool:
        """True if there is a channel to publish on."""
        return self._channel is not None

    @property
    def state(self) -> str:
        """Reason why nothing is confirmed at present."""
        if self._blocked:
            return f"the server takes no messages at present: {self._blocked}"
        return "no answer" if self.is_ready else "the connection is lost"

    def take(self, work: Messages) -> None:
        """Publish work as soon as all work before it is published."""
        self._queue.append(work)
        self._pump()

    # -- the channel -----------------------------------------------------------------------------

    def connected(self, connection: PikaConnection) -> None:
        """Open a channel on a fresh connection."""
        self._connection = connection
        connection.add_on_connection_blocked_callback(self._is_blocked)
        connection.add_on_connection_unblocked_callback(self._is_unblocked)
        self._open()

    def lost(self, reason: str) -> None:
        """Keep unfinished work for the next connection."""
        self._connection = self._channel = None
        self._blocked = ""
        self._known.clear()
        self._ensuring = False
        self._recover_unconfirmed(LostError(reason))

    def _is_blocked(self, connection: object, frame: Frame[Blocked]) -> None:
        """Note that the server blocks publishers, and why."""
        del connection
        self._blocked = str(frame.method.reason)
        log.warning("%s takes no messages at present: %s", self._where, self._blocked)

    def _is_unblocked(self, connection: object, frame: object) -> None:
        """Note that the server no longer blocks publishers."""
        del connection, frame
        self._blocked = ""
        self._unblocked_at = self._clock()
        log.warning("%s takes messages again", self._where)

    def _open(self) -> None:
        """Open a channel, if there is a connection."""
        if self._connection is not None and self._connection.is_open and not self.closing:
            self._connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Channel) -> None:
        """Ask for confirmations on a new channel."""
        self._sequence = itertools.count(1)
        channel.add_on_return_callback(self._came_back)
        channel.add_on_close_callback(self._closed)
        confirmed = functools.partial(self._confirmed, channel)
        channel.confirm_delivery(confirmed, lambda _: self._confirming(channel))

    def _confirming(self, channel: Channel) -> None:
        """Begin to publish on a channel, after the server's agreement to confirm."""
        self._channel = channel
        self._ready()
        self._pump()

    def _closed(self, channel: Channel, error: BaseException) -> None:
        """Open another channel after the server closed this one, usually because of a message.

        The message is known for certain only if a single piece of work was unconfirmed.
        """
        if channel is not self._channel:
            return
        self._channel = None
        self._known.clear()
        alone = len({id(work) for work, _ in self._unconfirmed.values()}) == 1
        self._recover_unconfirmed(refused_message(error) if alone else LostError(str(error)), TRIES)
        self._open()

    def _recover_unconfirmed(self, failure: ZwrapError, tries: int | None = None) -> None:
        """Queue unconfirmed work again, in order; finish work that is no longer to be done."""
        works = dict.fromkeys(work for work, _ in self._unconfirmed.values())
        self._unconfirmed.clear()
        self._returned.clear()
        for work in reversed(works):
            work.open = 0
            work.missing = work.needs
            work.tries += tries is not None
            if self.closing or not work.valid() or (tries is not None and work.tries >= tries):
                work.failure = work.failure or failure
                self._finish(work)
            else:
                self._queue.appendleft(work)

    def _check(self) -> None:
        """Publish again on another channel if a confirmation is overdue."""
        self._checking = False
        if not self._unconfirmed:
            return
        oldest, _ = next(iter(self._unconfirmed.values()))
        waited_s = self._clock() - max(oldest.published_at, self._unblocked_at)
        channel = self._channel
        if channel is not None and not self._blocked and waited_s > self._confirm_s:
            log.warning(
                "%s confirmed nothing for %.0f s; %d message(s) are sent again, under the same ids",
                self._where, waited_s, len(self._unconfirmed),
            )  # fmt: skip
            self._confirm_s *= 2  # it may just be slow
            self._unblocked_at = self._clock()
            self._channel = None
            if channel.is_open:
                channel.close()
            self._recover_unconfirmed(LostError("it was never confirmed"))
            self._open()
        self._check_later()

    def _check_later(self) -> None:
        """Check for overdue confirmations in a second."""
        if not self._checking:
            self._checking = True
            self._call_later(1.0, self._check)

    # -- work ------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Publish work in order, up to the first that needs something not known to exist."""
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
            self._publish(self._channel, work)

    def _ensure(self, need: Need, work: Messages) -> None:
        """Make sure that a need of the next work exists; all work waits meanwhile."""
        self._ensuring = True
        asked = self._connection
        assert asked is not None  # there is a channel

        def told(failure: ZwrapError | None) -> None:
            if self._connection is not asked:
                return  # asked again on the next connection
            self._ensuring = False
            if failure is None:
                work.missing.remove(need)
                if need.lasting:
                    self._known.add(need)
            else:
                self._queue.remove(work)  # other work may have been put before it
                work.failure = failure
                self._finish(work)
            self._pump()

        need.ask(asked, told)

    def _publish(self, channel: Channel, work: Messages) -> None:
        """Publish the messages of one piece of work."""
        work.published_at = self._clock()
        self._check_later()
        for publication in work.publications:
            try:
                channel.basic_publish(
                    publication.exchange,
                    publication.routing_key,
                    publication.body,
                    publication.properties,
                    mandatory=publication.mandatory,
                )
            except (pika.exceptions.AMQPChannelError, pika.exceptions.AMQPConnectionError) as error:
                work.failure = work.failure or LostError(str(error))
                continue
            except (ValueError, TypeError, UnicodeError, pika.exceptions.AMQPError) as error:
                # Nothing of the message was written: pika encodes all of it first.
                work.failure = work.failure or EncodingError(
                    f"it cannot be written as AMQP: {error}"
                )
                continue
            work.open += 1
            self._unconfirmed[next(self._sequence)] = (work, publication)
        if not work.open:
            self._finish(work)

    def _came_back(
        self, channel: Channel, method: Returned, properties: Properties, body: bytes
    ) -> None:
        """Note that the server could not route a message; its confirmation follows."""
        del channel, body
        identity = str((properties.headers or {}).get("zwrap-id"))
        place = method.routing_key or method.exchange
        self._returned[identity] = NoRouteError(
            f"queue {place!r} does not exist ({method.reply_text})"
        )

    def _confirmed(self, channel: Channel, frame: Frame[Confirmation]) -> None:
        """Note confirmations or refusals; finish work without unconfirmed messages."""
        if channel is not self._channel:
            return
        method = frame.method
        self._confirm_s = CONFIRM_S
        refused = isinstance(method, pika.spec.Basic.Nack)
        for tag in self._tags(method.delivery_tag, method.multiple):
            work, publication = self._unconfirmed.pop(tag)
            if returned := self._returned.pop(publication.identity, None):
                work.failure = work.failure or returned
            elif refused:
                work.failure = work.failure or RefusedError("the server refused the message")
            work.open -= 1
            if not work.open:
                self._finish(work)

    def _tags(self, last: int, multiple: bool) -> Iterator[int]:
        """Yield the unconfirmed tags that a confirmation covers."""
        if not multiple:
            if last in self._unconfirmed:
                yield last
            return
        for tag in list(self._unconfirmed):
            if tag > last:
                break
            yield tag

    def _finish(self, work: Messages) -> None:
        """Finish work; publish it again later if the server refused it."""
        if isinstance(work.failure, RefusedError) and work.valid() and not self.closing:
            work.failure = None  # as while a quorum queue has no leader
            self._call_later(REFUSED_AGAIN_S, lambda: self.take(work))
            return
        work.finish(work.failure)
