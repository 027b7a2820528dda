"""Bytes from ActiveMQ, in which a NUL ends a frame and stands nowhere else but in bodies.

ActiveMQ passes on a header with a NUL in it, which other protocols allow, as it is. To a reader of
STOMP (STOMP 1.1, "Body") that is the end of the frame: it cannot read this message, nor settle it,
and takes its rest for the next frame.
"""

from __future__ import annotations

import re

_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?:^|\n)content-length\s*:\s*(\d{1,18})\s*\r?(?:\n|$)", re.IGNORECASE)

REPLACEMENT = "\ufffd".encode()
"""Bytes that take the place of a NUL in a header: U+FFFD, the replacement character."""


class Incoming:
    """The bytes of one connection, which come in pieces of any size."""

    def __init__(self) -> None:
        self._head = b""
        """Beginning of a frame whose headers are not complete yet; it was returned before."""
        self._left: int | None = 0
        """Number of bytes of the body that are still to come; None: up to a NUL."""
        self._in_body = False

    def mended(self, piece: bytes) -> bytes:
        """Return the next bytes, with `REPLACEMENT` in place of each NUL in headers."""
        parts = []
        while piece:
            part, piece = self._body(piece) if self._in_body else self._headers(piece)
            parts.append(part)
        return b"".join(parts)

    def _headers(self, piece: bytes) -> tuple[bytes, bytes]:
        """Return headers from the beginning of a piece, mended, and the rest of the piece."""
        if not self._head:
            beats = len(piece) - len(piece.lstrip(b"\r\n"))
            if beats:  # line ends between frames
                return piece[:beats], piece[beats:]
        begin = max(0, len(self._head) - 3)
        known = len(self._head)
        self._head += piece
        end = _END.search(self._head, begin)
        if end is None:
            return piece.replace(b"\0", REPLACEMENT), b""
        length = _LENGTH.search(self._head, 0, end.end())
        rest = self._head[end.end() :]
        head = self._head[known : end.end()]
        self._head, self._in_body = b"", True
        self._left = int(length[1]) if length else None
        return head.replace(b"\0", REPLACEMENT), rest

    def _body(self, piece: bytes) -> tuple[bytes, bytes]:
        """Return body, and the NUL at its end, from the beginning of a piece, and the rest."""
        if self._left is None:
            size = piece.find(b"\0") + 1
            self._in_body = not size
            size = size or len(piece)
        else:
            size = min(self._left + 1, len(piece))
            self._left -= size
            self._in_body = self._left >= 0
        return piece[:size], piece[size:]
