"""Frames of STOMP 1.1, and the errors that ERROR frames of ActiveMQ mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from stomp.utils import Frame

from zwrap.errors import QueueFullError, TransportError, ZwrapError
from zwrap.transport.failures import NoPermissionError, NoRouteError
from zwrap.transport.pipelined import PendingWork

_KINDS: dict[str, type[ZwrapError]] = {
    "InvalidDestinationException": NoRouteError,
    "JMSSecurityException": NoPermissionError,
    "ResourceAllocationException": QueueFullError,
    "SecurityException": NoPermissionError,
}
"""Class of a Java exception to the error that it means.

The body of an ERROR frame of ActiveMQ is a stack trace. Source: ProtocolConverter.handleException
of ActiveMQ 5.17, and the exceptions of javax.jms.
"""


class Frames(PendingWork):
    """Frames that are sent as one piece of work; the last one asks for a receipt."""

    __slots__ = ("frames",)

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[ZwrapError | None], None] = lambda _: None,
    ) -> None:
        super().__init__(valid=valid, after=after)
        self.frames = frames


def frame(command: str, headers: dict[str, str], body: bytes = b"") -> Frame:
    """Return a frame, its values escaped as in STOMP 1.1; carriage returns become blanks."""
    escaped = {
        key: value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n").replace(":", "\\c")
        for key, value in headers.items()
    }
    return Frame(command, escaped, body)


def refusal(headers: dict[str, str], body: object) -> ZwrapError:
    """Return the error in an ERROR frame, of the type that the exception in its body means.

    ActiveMQ 5.17 shows no stack trace of a SecurityException: the body is the message alone.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    message = headers.get("message", "")
    first_line = text.strip().partition("\n")[0]
    exception = re.match(r"[\w.$]+", first_line)
    if message and text.strip() == message.strip():
        kind: type[ZwrapError] = NoPermissionError
    else:
        name = exception[0].rpartition(".")[2] if exception else ""
        kind = _KINDS.get(name, TransportError)
    return kind(message or first_line or "an error without a text")
