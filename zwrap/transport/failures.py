"""Reasons why a message was not sent, as types; the type tells whether another try can help.

* Permanent (`MessageError`): the same message is refused however often it is sent.
* Of one destination (`HELD_UP`): messages to it cannot be sent at present; others can.
* Of all (`TransportError`): the transport is away.
"""

from __future__ import annotations

from zwrap.errors import MessageError, QueueFullError, TemporaryError, TransportError


class NoRouteError(MessageError):
    """The queue or topic does not exist."""


class TooLargeError(MessageError):
    """The message is larger than the other side accepts."""


class EncodingError(MessageError):
    """The message cannot be written in the format of the wire."""


class NoPermissionError(TemporaryError):
    """The user of the connection lacks a permission, which an administrator can grant."""


class RefusedError(QueueFullError):
    """The other side takes no messages of this queue at present; it is full, or has no leader."""


class ReadElsewhereError(TemporaryError):
    """Another connection reads the queue, which one reader has at a time.

    `foreign`: it does not read alone, as zwrap's readers do, or it has died a moment ago.
    """

    def __init__(self, queue: str, where: str, *, foreign: bool = False) -> None:
        self.foreign = foreign
        how = "shares it" if foreign else "has it alone"
        super().__init__(
            f"Queue {queue!r} of {where} is read by another connection, which {how}; it can be "
            "read when that one ends."
        )


class LostError(TransportError):
    """The connection ended before the other side confirmed."""


HELD_UP = (QueueFullError, NoPermissionError)
"""Failures of messages to one destination, which pass; messages to others can be sent meanwhile."""
