"""Station "transport": sends the last messages of an attempt, for wrapper and Watcher alike.

The messages in the outbox come first, in order, then the final messages of the verdict. A message
that the transport refuses for good is kept with the reason; only then does it count as sent. A full
disk, or a directory that cannot be written, does not prevent messages from being sent.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from zwrap.errors import PermanentError, TemporaryError, TransportError
from zwrap.host.paths import state_directory
from zwrap.message import ID_HEADER, Outgoing, encode
from zwrap.transport import mover
from zwrap.transport.contract import Transport
from zwrap.transport.spool.queue import SpoolQueue

log = logging.getLogger(__name__)

UNSENT = "unsent"
"""Name of a spool queue below the state directory, for refused messages of attempts without an
outbox."""


class OutboxError(TemporaryError):
    """The outbox cannot be read, or a refused message cannot be kept anywhere now."""


class FinalSender:
    """Sender of the messages of one attempt; after a failure, `send` goes on where it was.

    `outbox` holds the messages that wait; None: no outbox can be used.
    """

    def __init__(self, outbox: SpoolQueue | None) -> None:
        self._outbox = outbox
        self._left: deque[Outgoing] = deque()
        self._sent: set[str] = set()
        """Ids of messages that came from the outbox, and may come again."""
        self.has_refused = False
        """True if the transport has refused a message for good."""

    def add(self, messages: Iterable[Outgoing]) -> None:
        """Add messages that are sent after those in the outbox; this object does not store them."""
        self._left.extend(messages)

    def send(self, transport: Transport) -> None:
        """Send everything; each message is confirmed, or kept with the reason for its refusal.

        Raises:
            TransportError: The transport cannot be used now.
            OutboxError: The outbox cannot be read now, or a refused message cannot be kept
                anywhere now.
        """
        if self._outbox is not None:
            self._send_outbox(self._outbox, transport)
        while self._left:
            message = self._left[0]
            if message.headers.get(ID_HEADER) not in self._sent:
                self._send(message, transport)
            self._left.popleft()

    def _send_outbox(self, outbox: SpoolQueue, transport: Transport) -> None:
        """Send the messages in the outbox; without claiming them if the disk cannot be written."""
        if not outbox.exists():  # it was deleted with what waited
            return
        try:
            outbox.waiting()
        except TransportError as error:  # a fault of this attempt, and not of the transport
            raise OutboxError(str(error)) from None
        try:
            sent = mover.deliver(outbox, transport)
        except OSError as error:
            log.warning("%s cannot be written, and is sent as it is: %s", outbox.path, error)
            for message in mover.stored(outbox):
                identity = str(message.headers.get(ID_HEADER))
                if identity not in self._sent:
                    self._send(message, transport)
                    self._sent.add(identity)
        else:
            self._sent |= sent.ids & {message.headers.get(ID_HEADER) for message in self._left}
            self.has_refused |= bool(sent.refused)

    def _send(self, message: Outgoing, transport: Transport) -> None:
        """Send a message; keep it if the transport refuses it for good."""
        try:
            transport.commit([message])
        except PermanentError as error:
            self.has_refused = True
            place = self._keep(message, str(error))
            log.error(
                "A message to %r was refused for good and is kept in %s: %s",
                message.destination, place, error,
            )  # fmt: skip

    def _keep(self, message: Outgoing, reason: str) -> Path:
        """Keep a refused message in the outbox, else in the state directory; return the place."""
        content = encode(message)
        if self._outbox is not None:
            try:
                return self._outbox.put_dead_letter(content, reason)
            except OSError as error:
                log.warning("%s cannot be written: %s", self._outbox.path, error)
        try:
            unsent = SpoolQueue(state_directory() / UNSENT, limit=0)
            return unsent.put_dead_letter(content, reason)
        except (OSError, TransportError) as error:
            raise OutboxError(
                f"A message to {message.destination!r} was refused for good ({reason}), and cannot "
                f"be kept: {error}."
            ) from None
