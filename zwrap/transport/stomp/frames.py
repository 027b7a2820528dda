"""Frames of STOMP 1.1, and the types of what ActiveMQ says in an ERROR frame."""

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
"""Classes of Java exceptions: the body of an ERROR frame of ActiveMQ is a stack trace.

Source: activemq.apache.org, ProtocolConverter.handleException, and the exceptions of javax.jms.
"""


class Frames(PendingWork):
    """Frames, the last of which asks for a receipt."""

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
    """Return a frame; values are escaped as STOMP 1.1 wants it, which knows no carriage return."""
    escaped = {
        key: value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n").replace(":", "\\c")
        for key, value in headers.items()
    }
    return Frame(command, escaped, body)


def refusal(headers: dict[str, str], body: object) -> ZwrapError:
    """Return what an ERROR frame says; its type is that of the exception in the body."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    exception = re.match(r"\s*([\w.$]+)", text)
    kind = (
        _KINDS.get(exception[1].rpartition(".")[2], TransportError) if exception else TransportError
    )
    first_line = text.strip().partition("\n")[0] or "an error without a text"
    return kind(headers.get("message") or first_line)
