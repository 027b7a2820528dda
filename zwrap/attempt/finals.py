"""Station "transport": sends the last messages of an attempt, for wrapper and Watcher alike.

The messages in the outbox come first, in order, then the final messages of the verdict. A message
that the transport refuses for good is kept with the reason; only then does it count as sent. A full
disk, or a directory that cannot be written, does not prevent messages from being sent.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from zwrap.attempt.refusals import Ending
from zwrap.errors import TemporaryError, TransportError
from zwrap.host.modes import make_private
from zwrap.host.paths import in_state_directory
from zwrap.host.standing import real_name
from zwrap.message.content import Outgoing
from zwrap.message.jsontext import encode
from zwrap.transport import mover
from zwrap.transport.contract import Transport
from zwrap.transport.mover import Emptying
from zwrap.transport.source import PORTION, Listed, Record
from zwrap.transport.spool.own import OwnQueue
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

UNSENT = "unsent"
"""Name of a spool queue below the state directory, for refused messages of attempts without an
outbox."""


class OutboxError(TemporaryError):
    """Some messages of one attempt cannot be read, kept or sent now; the transport can be used."""


class FinalSender:
    """Sender of the messages of one attempt; after a failure, it goes on where it was.

    `outbox` holds the messages that wait; None: no outbox can be used. `done`: ids of messages
    that were sent, or refused, before, and are not sent again.
    """

    def __init__(self, outbox: SpoolQueue | None, done: Iterable[str] = ()) -> None:
        self._outbox = outbox
        self._record = Record(done)
        self._emptying = Emptying(outbox, self._record) if outbox is not None else None
        self._unclaimed: Iterator[Outgoing] | None = None
        """Messages of an outbox that cannot be written, from where they are read."""
        self._is_begun = False
        """True from the first portion of the outbox until each of its messages was tried."""
        self._is_empty = False
        """True once each message of the outbox was tried."""
        self._added = Listed((), self._record, self._keep_refused)
        self._ending: Ending | None = None
        self._finals: Listed | None = None
        """Final messages that are left; None until all others were tried."""

    @property
    def done(self) -> set[str]:
        """Ids of the messages that need not be sent again."""
        return self._record.done

    @property
    def refused(self) -> dict[str, str]:
        """Id of each message that the transport has refused for good, to the reason."""
        return self._record.refused

    @property
    def has_refused(self) -> bool:
        """True if the transport has refused a message for good."""
        return bool(self.refused)

    def add(self, messages: Iterable[Outgoing]) -> None:
        """Add messages that are sent after those in the outbox; this object does not store them."""
        self._added.add(messages)

    def end_with(self, ending: Ending) -> None:
        """Send the final messages of an attempt each time when all others were tried."""
        self._record.done |= ending.sent_before
        self._ending = ending

    def send(self, transport: Transport) -> None:
        """Send everything; each message is confirmed, or kept with the reason for its refusal.

        Raises as `send_portion` does.
        """
        while self.send_portion(transport):
            pass

    def send_portion(self, transport: Transport) -> bool:
        """Send the next messages; return True if there are others that were not tried.

        Messages to a queue that takes none at present hold up no others.

        Raises:
            TransportError: The transport cannot be used now.
            OutboxError: The outbox cannot be read now, a refused message cannot be kept anywhere
                now, or a queue takes no messages now, after each message was tried.
        """
        try:
            more = (
                self._send_outbox(transport)
                or self._added.portion(transport)
                or self._send_finals(transport)
            )
            if not more:
                for (_, name, _), error in self._record.held_up.items():
                    raise OutboxError(f"Messages to {name!r} wait: {error}")
        except BaseException as error:
            self._keep(is_certain=isinstance(error, OutboxError))
            self.rest()
            raise
        self._keep(is_certain=True)
        if not more:
            self.rest()
        return more

    def _keep(self, *, is_certain: bool) -> None:
        """Keep what was sent of the final messages."""
        if self._ending is not None:
            self._ending.keep(self._record.new, is_certain=is_certain)
        self._record.new.clear()

    def rest(self) -> None:
        """Give back what waits; the next portion is the first one again."""
        self._added.rest()
        self._record.held_up.clear()
        self._is_empty, self._is_begun, self._unclaimed, self._finals = False, False, None, None
        if self._emptying is not None:
            with contextlib.suppress(OSError):  # it is tried again with the next portion
                self._emptying.close()

    # -- the outbox --------------------------------------------------------------------------------

    def _send_outbox(self, transport: Transport) -> bool:
        """Send a portion of the outbox; return False if each message was tried."""
        if self._outbox is None or self._is_empty:
            return False
        if self._unclaimed is None and not self._is_begun:
            if not self._outbox.exists():  # it was deleted with what waited
                return False
            _check_readable(self._outbox)
        if self._unclaimed is not None:
            more = self._send_unclaimed(transport)
        else:
            more = self._empty(transport)
        self._is_empty = not more
        return more

    def _empty(self, transport: Transport) -> bool:
        """Send a portion of the outbox; without claims from now on if it cannot be written."""
        assert self._outbox is not None
        assert self._emptying is not None
        emptying = self._emptying
        try:
            if not self._is_begun:
                self._outbox.recover()
                emptying.close()
                self._is_begun = True
            return emptying.portion(transport)
        except TransportError:
            _check_readable(self._outbox)
            raise
        except OSError as error:
            place = real_name(self._outbox.path)
            log.warning("%s cannot be written, and is sent as it is: %s", place, error)
            with contextlib.suppress(OSError):
                emptying.close()
            self._unclaimed = itertools.chain(emptying.stuck(), mover.stored(self._outbox))
            return self._send_unclaimed(transport)

    def _send_unclaimed(self, transport: Transport) -> bool:
        """Send a portion of an outbox that cannot be written; its messages are not removed."""
        assert self._unclaimed is not None
        messages = [*itertools.islice(self._unclaimed, PORTION)]
        source = Listed(messages, self._record, self._keep_refused)
        while source.portion(transport):
            pass
        return len(messages) == PORTION

    # -- the others --------------------------------------------------------------------------------

    def _send_finals(self, transport: Transport) -> bool:
        """Send a portion of the final messages; return True if more are left."""
        if self._ending is None:
            return False
        if self._finals is None:
            others_wait = bool(self._record.held_up)
            finals = self._ending.finals(self.done, self.refused, others_wait=others_wait)
            self._finals = Listed(finals, self._record, self._keep_refused)
        self._ending.begin()
        return self._finals.portion(transport)

    def _keep_refused(self, message: Outgoing, reason: str) -> None:
        """Keep a message that was refused for good."""
        log.error(
            "A message to %r was refused for good and is kept in %s: %s",
            message.destination, self._put_aside(message, reason), reason,
        )  # fmt: skip

    def _put_aside(self, message: Outgoing, reason: str) -> Path:
        """Keep a refused message in the outbox, else in the state directory; return the place."""
        content = encode(message)
        if self._outbox is not None:
            try:
                return real_name(self._outbox.put_dead_letter(content, reason))
            except OSError as error:
                log.warning("%s cannot be written: %s", real_name(self._outbox.path), error)
        try:
            place = in_state_directory(UNSENT)
            make_private(place)
            unsent = OwnQueue(place, limit=0)
            return unsent.put_dead_letter(content, reason)
        except (OSError, TransportError) as error:
            raise OutboxError(
                f"A message to {message.destination!r} was refused for good ({reason}), and cannot "
                f"be kept: {error}."
            ) from None


def _check_readable(outbox: SpoolQueue) -> None:
    """Raise OutboxError if the outbox cannot be read, which is a fault of its attempt."""
    try:
        outbox.waiting()
    except TransportError as error:
        raise OutboxError(str(error)) from None
