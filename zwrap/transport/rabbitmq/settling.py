"""Settlement of deliveries of RabbitMQ, after what follows from them is confirmed or refused.

A delivery is acknowledged only when everything that takes its place is confirmed. What cannot be
sent never becomes a bare requeue, which would be a loop, and which a quorum queue counts: the
message comes again after a pause, as a copy, or it is held for the pause where there is no delay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zwrap.errors import PermanentError, TemporaryError, ZwrapError
from zwrap.host.backoff import pause_after
from zwrap.host.seldom import Seldom
from zwrap.transport import refused
from zwrap.transport.contract import Settlement, Verb
from zwrap.transport.copies import STUB_HEADER
from zwrap.transport.delayed import Delayed
from zwrap.transport.failures import EncodingError, LostError, TooLargeError
from zwrap.transport.pipelined import PendingWork
from zwrap.transport.rabbitmq import topology
from zwrap.transport.rabbitmq.delays import Delay, bounded, delay
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.received import Received, whole

if TYPE_CHECKING:  # needed for types only: a job starts sooner without
    from zwrap.transport.rabbitmq.pika_types import Channel, Table

log = logging.getLogger(__name__)

PAUSE_S = 30.0
"""Time until a message comes again whose handling led to a message that cannot be sent at present,
in seconds, unless the failure names another time."""

HOLD_FIRST_S, HOLD_LAST_S = 1.0, 60.0
"""First and longest time for which a message is held that cannot be given back, in seconds."""

HOLD_TRIES = 6
"""Number of tries that a message counts as having had which cannot be kept anywhere: it is held for
half a minute."""


class Submitting(Protocol):
    """The part of a connection that settles deliveries."""

    @property
    def where(self) -> str:
        """Name of the server, with which a sentence may begin."""

    def submit(self, work: Messages) -> None:
        """Publish work after all work before it."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function on the connection's thread after a number of seconds."""


class Settling(NamedTuple):
    """Deliveries with the way in which they are settled, and the copies that take their place."""

    received: list[Received]
    settlement: Settlement
    copies: list[Publication]

    def is_to_come_alone(self, message: Received) -> bool:
        """Return whether a refusal may be due to any of several messages, this one included."""
        several = len(self.received) > 1 and self.settlement.verb is Verb.ACK
        return several and message.delivery_count == 1


class Settler:
    """Settler of the deliveries of one connection, on whose thread the ends of work arrive.

    Args:
        connection: The connection.
        arrived: Function that is called with a copy that may be delivered.
        added_headers: Function that returns further headers of a copy.
        unfinished: Work that is not ended, to which this object adds its own.
    """

    def __init__(
        self,
        connection: Submitting,
        arrived: Callable[[Received], None],
        added_headers: Callable[[Received], Table],
        unfinished: set[PendingWork],
    ) -> None:
        self._connection = connection
        self._arrived = arrived
        self._added_headers = added_headers
        self._unfinished = unfinished
        self.delayed = Delayed()
        self._copied: dict[tuple[Channel, str], list[Received]] = {}
        """Channel and id of a message with a copy under way, to the copies that arrived too early.

        The original must be gone when a receiver gets a copy, which may kill it immediately.
        """
        self._warnings = Seldom()

    def is_early(self, message: Received) -> bool:
        """Keep a copy whose original is not settled yet; return True if it is one."""
        if not self._copied or (early := self._copied.get(message.key)) is None:
            return False
        early.append(message)
        return True

    def count(self, message: Received) -> None:
        """Send a redelivered message back as a copy that counts the delivery."""
        copy = message.copy(message.delivery_count + 1, self._added_headers(message))
        self._expect_copy(message)
        again = Settlement(Verb.RETRY, counted=True)
        self._publish([], Settling([message], again, [copy]))

    def put_aside(self, message: Received, reason: str) -> None:
        """Make a message a dead letter."""
        self.submit([], [message], Settlement(Verb.DEAD_LETTER, reason))

    def submit(
        self, messages: Sequence[Publication], received: list[Received], settlement: Settlement
    ) -> None:
        """Submit messages and copies; the deliveries are settled when all are confirmed."""
        self._publish(messages, Settling(received, settlement, self._copies(received, settlement)))

    def _publish(self, messages: Sequence[Publication], settling: Settling) -> None:
        """Submit messages and the copies of deliveries as one piece of work."""
        work: Messages = Messages(
            [*messages, *settling.copies],
            valid=lambda: all(message.alive for message in settling.received),
            after=lambda failure: self._ended(settling, failure, work),
        )
        self._unfinished.add(work)
        self._connection.submit(work)

    # -- copies ------------------------------------------------------------------------------------

    def _copies(self, received: list[Received], settlement: Settlement) -> list[Publication]:
        """Return the copies for a retry or a dead letter; none for an acknowledgement."""
        if settlement.verb is Verb.ACK:
            return []
        if settlement.verb is Verb.DEAD_LETTER:
            reason = settlement.reason
            return [message.dead_copy(reason, self._added_headers(message)) for message in received]
        return [
            message.back() if message.kind == "dead" else self._retry_copy(message, settlement)
            for message in received
        ]

    def _retry_copy(
        self, message: Received, settlement: Settlement, *, delayed: bool = True
    ) -> Publication:
        """Return the copy for a retry, in a step of the delays if there is a delay."""
        self._expect_copy(message)
        delivery_count = message.delivery_count + settlement.counted
        way: Delay | None = None
        if settlement.delay_s and delayed:
            way = delay(longest := bounded(settlement.delay_s))
            self.delayed.add(message.source, longest)
        return message.copy(delivery_count, self._added_headers(message), delay=way)

    def _expect_copy(self, message: Received) -> None:
        """Note that a copy of a message is under way; forget those of closed channels."""
        for key in list(self._copied):
            if not key[0].is_open:  # its connection is gone, and with it the early copies
                self._copied.pop(key, None)
        self._copied.setdefault(message.key, [])

    def _hand_out_copies(self, original: Received) -> None:
        """Release early copies when the server has certainly seen the original settled."""

        def settled(_: object) -> None:
            for copy in self._copied.pop(original.key, ()):
                self._arrived(copy)

        if original.key not in self._copied:
            return
        if original.alive:  # the server answers on this channel only after that
            prefetch = original.consumer.prefetch
            original.channel.basic_qos(prefetch_count=prefetch, callback=settled)
        else:
            settled(None)

    # -- the end of work, on the connection's thread -------------------------------------------

    def _ended(self, settling: Settling, failure: ZwrapError | None, work: Messages) -> None:
        """Settle deliveries after confirmation or failure."""
        self._unfinished.discard(work)
        lost = sum(not message.alive for message in settling.received)
        if lost:
            log.info("%d message(s) are no longer ours and will come again", lost)
            if failure is None and not work.left:
                failure = LostError("the connection to a message of the same unit is lost")
        for number, message in enumerate(settling.received):
            if not message.alive:
                self._hand_out_copies(message)
            elif failure is None:
                self._acknowledge(message)
            else:
                copy = settling.copies[number] if settling.copies else None
                self._after(failure, message, settling, copy, work)

    def _acknowledge(self, message: Received) -> None:
        """Acknowledge a message whose successors are confirmed."""
        message.acknowledge()
        self._hand_out_copies(message)

    def _after(
        self,
        failure: ZwrapError,
        message: Received,
        settling: Settling,
        copy: Publication | None,
        work: Messages,
    ) -> None:
        """Settle a message in another way than was asked for, after a failure."""
        settlement, copies = settling.settlement, settling.copies
        if copy is not None and copy not in work.left:
            self._acknowledge(message)  # its copy is there, whatever became of other messages
        elif copy is not work.refused and work.refused in copies:
            self.submit([], [message], settlement)  # the fault is that of another message
        elif copy is None or work.refused not in (None, copy):
            self._instead(failure, message, settling, work)
        elif isinstance(failure, (TooLargeError, EncodingError)):
            self._shorten(failure, message, settlement, copy)
        elif settlement.verb is Verb.DEAD_LETTER:
            self._tell(
                f"dead {message.source}",
                f"A dead letter of queue {message.source!r} cannot be kept, and comes again until "
                f"it can: {failure}. Queue {topology.dead_letter_queue(message.source)!r} is "
                "needed; 'zwrap check --broker --declare' tells how.",
            )
            self._again(message, HOLD_LAST_S)
        else:
            self._hold(failure, message, settlement, 1)

    def _instead(
        self,
        failure: ZwrapError,
        message: Received,
        settling: Settling,
        work: Messages,
    ) -> None:
        """Settle a message from which another one follows that cannot be sent.

        Of several messages in a unit it may follow from any: each comes again, to be handled alone,
        as services do with what was delivered before.
        """
        settlement = settling.settlement
        if not isinstance(failure, PermanentError):
            pause_s = failure.retry_after_s if isinstance(failure, TemporaryError) else None
            pause_s = PAUSE_S if pause_s is None else pause_s
            self._tell(
                f"{message.source} {failure}",
                f"A message of queue {message.source!r} comes again in {pause_s:g} s, because a "
                f"message that follows from it cannot be sent: {failure}.",
            )
            self._again(message, pause_s)
            return
        if settling.is_to_come_alone(message):
            log.warning(
                "A message of queue %r comes again, to be handled alone, because what follows from "
                "one of %d cannot be sent: %s", message.source, len(settling.received), failure,
            )  # fmt: skip
            self.submit([], [message], Settlement(Verb.RETRY))
            return
        reason = f"A message that follows from it cannot be sent: {failure}."
        if work.refused is not None:
            work.kept = work.kept or refused.keep(whole(work.refused), str(failure)).sentence
            reason = f"{reason} {work.kept}"
        if settlement.verb is Verb.DEAD_LETTER:
            reason = f"{settlement.reason}\n{reason}"
        log.error("A message of queue %r becomes a dead letter: %s", message.source, reason)
        self.put_aside(message, reason)

    def _again(self, message: Received, delay_s: float) -> None:
        """Give a message back for a later delivery; this one does not count."""
        again = Settlement(Verb.RETRY, delay_s=delay_s, counted=False)
        if message.kind == "dead":  # which goes back to its queue without a delay
            self._connection.call_later(delay_s, partial(self._give_back, message, again, 1))
        else:
            self.submit([], [message], again)

    def _shorten(
        self, failure: ZwrapError, message: Received, settlement: Settlement, copy: Publication
    ) -> None:
        """Keep a message in a file that the server does not take back, with a short dead letter."""
        if STUB_HEADER in (copy.properties.headers or {}):
            log.error(
                "A dead letter of queue %r is in its file only, the server refuses the short one, "
                "too: %s", message.source, failure,
            )  # fmt: skip
            self._acknowledge(message)
            return
        reason = f"The message cannot be kept on the server: {failure}."
        if settlement.verb is Verb.DEAD_LETTER:
            reason = f"{settlement.reason}\n{reason}"
        kept = refused.keep(message.whole(), reason)
        if not kept.in_file:
            self._hold(failure, message, settlement, HOLD_TRIES)
            return
        dead = Settlement(Verb.DEAD_LETTER, reason)
        self._publish([], Settling([message], dead, [message.stub(reason, kept.sentence)]))

    # -- holding -------------------------------------------------------------------------------

    def _hold(
        self, failure: ZwrapError, message: Received, settlement: Settlement, tries: int
    ) -> None:
        """Hold a message for a pause, then give it back as a copy that needs no delay."""
        pause_s = min(settlement.delay_s, HOLD_LAST_S) if tries == 1 else 0.0
        pause_s = pause_s or pause_after(tries, HOLD_FIRST_S, HOLD_LAST_S)
        self._tell(
            "held",
            f"{self._connection.where}: messages cannot be delayed there and are held here, "
            f"unsettled, until they are given back: {failure}. 'zwrap check --broker --declare' "
            "tells what is missing.",
        )
        self._connection.call_later(pause_s, partial(self._give_back, message, settlement, tries))

    def _give_back(self, message: Received, settlement: Settlement, tries: int) -> None:
        """Give a held message back, or hold it longer."""
        if not message.alive:
            self._hand_out_copies(message)
            return
        copy = (
            message.back()
            if message.kind == "dead"
            else self._retry_copy(message, settlement, delayed=False)
        )

        def ended(failure: ZwrapError | None) -> None:
            self._unfinished.discard(work)
            if not message.alive:
                self._hand_out_copies(message)
            elif failure is None:
                self._acknowledge(message)
            elif isinstance(failure, (TooLargeError, EncodingError)):
                self._shorten(failure, message, settlement, copy)
            else:
                self._hold(failure, message, settlement, tries + 1)

        work = Messages([copy], valid=lambda: message.alive, after=ended)
        self._unfinished.add(work)
        self._connection.submit(work)

    def _tell(self, what: str, sentence: str) -> None:
        """Log a warning, but none about the same thing again soon."""
        if self._warnings.due(what):
            log.warning("%s", sentence)
