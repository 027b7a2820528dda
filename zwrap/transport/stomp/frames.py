"""Frames of STOMP 1.1, and the errors that ERROR frames of ActiveMQ mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from stomp.utils import Frame

from zwrap.errors import QueueFullError, TransportError, ZwrapError
from zwrap.host.printable import well_formed
from zwrap.transport.failures import EncodingError, NoPermissionError, NoRouteError
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

_NO_FRAME = "Unknown STOMP action"
"""What ActiveMQ says of the rest of a frame, after it gave up reading the frame in the middle."""


HEADERS, HEADER_BYTES = 900, 10_000
"""Largest number of headers, and bytes of one; ActiveMQ has 1000 and 10 KiB (StompWireFormat)."""

SHOWN = 60
"""Number of characters that are shown of a name."""

ESCAPES = (("\\", "\\\\"), ("\r", " "), ("\n", "\\n"), (":", "\\c"))

_MEANT = {"\\\\": "\\", "\\n": "\n", "\\c": ":"}
_ESCAPED = re.compile(r"\\[\\nc]")


class Frames(PendingWork):
    """Frames that are sent as one piece of work; the last one asks for a receipt.

    A COMMIT is sent when the server has read all before it: of a frame that it cannot read it says
    so, and reads on, so that a transaction would be committed without it.
    """

    __slots__ = ("commits", "frames", "suspect")

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        valid: Callable[[], bool] = lambda: True,
        after: Callable[[ZwrapError | None], None] = lambda _: None,
    ) -> None:
        super().__init__(valid=valid, after=after)
        self.frames = frames
        self.commits = False
        """True if its COMMIT waits until the server has read the other frames."""
        self.suspect = False
        """True if the server may have ended a link because of it; it is then sent while nothing
        else is unconfirmed."""


def frame(command: str, headers: dict[str, str], body: bytes = b"") -> Frame:
    """Return a frame, escaped as in STOMP 1.1; carriage returns become blanks."""
    escaped = {_escaped(key): _escaped(value) for key, value in headers.items()}
    return Frame(command, escaped, body)


def _escaped(text: str) -> str:
    """Return a name or value of a header, escaped; lone surrogates become escapes of Python."""
    if text.isalnum():
        return well_formed(text)
    for character, escape in ESCAPES:
        text = text.replace(character, escape)
    return well_formed(text)


def unescaped(text: str) -> str:
    """Return a name or value of a header of a frame that `frame` made."""
    return _ESCAPED.sub(lambda found: _MEANT[found[0]], text)


def fitting(text: str) -> str:
    """Return a text that fits into a header, shortened in the middle if it is too long."""
    text = text.replace("\0", "\\0")
    limit = len(text)
    while len(_escaped(well_formed(text, limit)).encode()) > HEADER_BYTES - 100:
        limit = min(limit // 2, HEADER_BYTES)
    return well_formed(text, limit)


def checked(made: Frame, place: str) -> Frame:
    """Return a frame with a message to `place`; EncodingError if ActiveMQ cannot read it."""
    fault = ""
    if len(made.headers) > HEADERS:
        fault = f"it has {len(made.headers)} headers; {HEADERS} are possible"
    for key, value in made.headers.items():
        size = len(key.encode()) + len(value.encode())
        if "\0" in key or "\0" in value:
            fault = f"header {key[:SHOWN]!r} has a NUL in it"
        elif not key:
            fault = "a header has no name"
        elif size > HEADER_BYTES:
            fault = f"header {key[:SHOWN]!r} has {size} bytes; {HEADER_BYTES} are possible"
    if fault:
        shown = place if len(place) <= SHOWN else f"{place[:SHOWN]}..."
        raise EncodingError(f"A message to {shown!a} cannot be written in STOMP: {fault}.")
    return made


def refusal(headers: dict[str, str], body: object) -> ZwrapError:
    """Return the error in an ERROR frame, of the type that the exception in its body means.

    ActiveMQ 5.17 shows no stack trace of a SecurityException: the body is the message alone.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    message = headers.get("message", "")
    first_line = text.strip().partition("\n")[0]
    exception = re.match(r"[\w.$]+", first_line)
    if message.startswith(_NO_FRAME):
        kind: type[ZwrapError] = EncodingError
    elif message and text.strip() == message.strip():
        kind = NoPermissionError
    else:
        name = exception[0].rpartition(".")[2] if exception else ""
        kind = _KINDS.get(name, TransportError)
    return kind(message or first_line or "an error without a text")
