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
from zwrap.transport.failures import LostError, NoRouteError, RefusedError
from zwrap.transport.rabbitmq.faults import refused_message, unwritable
from zwrap.transport.rabbitmq.needs import Needs
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.refusals import Refusals
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

CONFIRM_S = 10.0
"""Longest first wait for a confirmation, in seconds; doubled each time it is exceeded.

Measured with RabbitMQ 3.10: a message that reaches a quorum queue without a leader is neither
confirmed nor refused.
"""

TRIES = 3
"""Number of times that the server may close the channel, for reasons that are not of a message,
before a message that was unconfirmed each time counts as the reason."""


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
        self._alone = False
        """True while a message of suspect work is published, and no other may be."""
        self._returned: dict[str, ZwrapError] = {}
        self._queue: deque[Messages] = deque()
        self._needs = Needs(call_later, lambda: bool(self._blocked))
        self.refusals = Refusals(where, clock)
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
        if not self.is_ready:
            return "the connection is lost"
        return self.refusals.told or "no answer"

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

    def lost(self, error: BaseException) -> None:
        """Keep unfinished work for the next connection."""
        self._connection = self._channel = None
        self._blocked = ""
        self._needs.forget(question=True)
        self._judge(error, counted=False)

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
        """Open another channel after the server closed this one, usually because of a message."""
        if channel is not self._channel:
            return
        self._channel = None
        self._needs.forget(question=False)
        self._judge(error, counted=True)
        self._open()

    def _judge(self, error: BaseException, *, counted: bool) -> None:
        """Queue unconfirmed work again, after the end of the channel.

        If that was because of a message, and only one was unconfirmed, that one is refused; of
        several each is published alone the next time, and none is charged with a try.
        """
        refused = refused_message(error)
        if refused is None:
            self._recover_unconfirmed(LostError(str(error)), counted=counted)
            return
        alone = len(self._unconfirmed) == 1
        for work, publication in self._unconfirmed.values():
            if alone:
                work.fail(refused, publication)
            work.suspect = True
        self._recover_unconfirmed(LostError(str(error)), counted=False)

    def _recover_unconfirmed(self, failure: ZwrapError, *, counted: bool) -> None:
        """Queue unconfirmed work again, in order; finish work that is no longer to be done.

        `counted`: True if that is a try, of which there are `TRIES`.
        """
        works = dict.fromkeys(work for work, _ in self._unconfirmed.values())
        self._unconfirmed.clear()
        self._returned.clear()
        self._alone = False
        for work in reversed(works):
            work.open = 0
            work.missing = work.needs
            work.tries += counted
            given_up = counted and work.tries >= TRIES
            if self.closing or given_up or work.failure or not work.valid():
                work.fail(failure)
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
            self._recover_unconfirmed(LostError("it was never confirmed"), counted=False)
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
        while self._queue and not self._needs.is_asking and not self._alone:
            work = self._queue[0]
            if not work.valid():
                self._queue.popleft()
                self._finish(work)
                continue
            if self._channel is None:
                return
            work.missing = self._needs.missing(work.missing)
            if work.missing:
                self._ensure(work)
                return
            if work.suspect and self._unconfirmed:
                return
            self._queue.popleft()
            self._publish(self._channel, work)

    def _ensure(self, work: Messages) -> None:
        """Make sure that the needs of the next work exist; all work waits meanwhile."""
        assert self._connection is not None  # there is a channel

        def told(need: Need | None, failure: ZwrapError | None) -> None:
            if failure is not None:
                self._queue.remove(work)  # other work may have been put before it
                needing = (each for each in work.left if need in each.needs)
                work.fail(failure, next(needing, None))
                self._finish(work)
            self._pump()

        self._needs.ask(self._connection, work.missing, told)

    def _publish(self, channel: Channel, work: Messages) -> None:
        """Publish the messages of one piece of work, or the next one of suspect work."""
        work.published_at = self._clock()
        self._check_later()
        for publication in list(work.left):
            try:
                channel.basic_publish(
                    publication.exchange,
                    publication.routing_key,
                    publication.body,
                    publication.properties,
                    mandatory=publication.mandatory,
                )
            except (pika.exceptions.AMQPChannelError, pika.exceptions.AMQPConnectionError) as error:
                work.fail(LostError(str(error)))
                break
            except Exception as error:
                # Nothing of the message was written: pika encodes all of it first.
                work.fail(unwritable(error), publication)
                break
            work.open += 1
            self._unconfirmed[next(self._sequence)] = (work, publication)
            if work.suspect:
                self._alone = True
                break
        if not work.open:
            self._finish(work)

    def _came_back(
        self, channel: Channel, method: Returned, properties: Properties, body: bytes
    ) -> None:
        """Note that the server could not route a message; its confirmation follows."""
        del channel, body
        identity = str((properties.headers or {}).get("zwrap-id"))
        place = method.routing_key or method.exchange
        told = f"queue {place!r} does not exist ({method.reply_text})"
        if method.exchange and method.routing_key:
            told = f"exchange {method.exchange!r} leads to no queue ({method.reply_text})"
        self._returned[identity] = NoRouteError(told)

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
                work.fail(returned, publication)
            elif refused:
                work.fail(self.refusals.refused(publication.place), publication)
            else:
                del work.left[publication]
                self.refusals.taken(publication.place)
            work.open -= 1
            if not work.open and work.left and not work.failure:
                self._queue.appendleft(work)  # the next message of suspect work
            elif not work.open:
                self._finish(work)
        if not self._unconfirmed:
            self._alone = False
            self._pump()

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
        """Finish work; publish it again soon if its queue began to refuse it only just now."""
        failure, refused = work.failure, work.refused
        if isinstance(failure, RefusedError) and refused and work.valid() and not self.closing:
            again_s = self.refusals.again_s
            if again_s is not None:
                work.failure = work.refused = None
                self._call_later(again_s, lambda: self.take(work))
                return
            failure.retry_after_s = self.refusals.pause_s(refused.place)
        work.finish(failure)
