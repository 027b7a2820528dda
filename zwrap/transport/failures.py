"""Reasons why a message was not sent, as types; the type tells whether another try can help.

Permanent (`MessageError`): the same message is refused however often it is sent. Temporary
(`TransportError`): the cause is outside the message. `zwrap.errors.QueueFullError` is such a type,
too: a queue holds as many messages as it may hold.
"""

from __future__ import annotations

from zwrap.errors import MessageError, TransportError


class NoRouteError(MessageError):
    """The queue or topic does not exist."""


class TooLargeError(MessageError):
    """The message is larger than the other side accepts."""


class EncodingError(MessageError):
    """The message cannot be written in the format of the wire."""


class NoPermissionError(TransportError):
    """The user of the connection lacks a permission, which an administrator can grant."""


class RefusedError(TransportError):
    """The other side refuses messages of this queue at present and gives no reason."""


class LostError(TransportError):
    """The connection ended before the other side confirmed."""
