"""Content of a message file: ``{"headers": {...}, "message": ...}``, or a bare foreign message."""

from __future__ import annotations

import msgspec

from zwrap.errors import MessageError
from zwrap.message import UNDECODABLE_HEADER, Message, decode, identify
from zwrap.transport.spool.claimed import Claimed


class _File(msgspec.Struct):
    message: object
    headers: dict[str, object] = {}


_decoder = msgspec.json.Decoder(_File)


def read_message(content: bytes, foreign: bool, name: str) -> Message:
    """Return the message in a file; `name` identifies a message without an id.

    Raises MessageError if the file does not hold a message.
    """
    if foreign:
        body = decode(content)
        return Message(body, {}, identify(body, {}, name))
    try:
        file = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        decode(content)  # raises a better error if it is not JSON at all
        raise MessageError(
            f'The file is not {{"headers": ..., "message": ...}}: {error}.'
        ) from None
    return Message(file.message, file.headers, identify(file.message, file.headers, name))


def read_whatever(claimed: Claimed, name: str) -> Message:
    """Return the message in a file, or one with the file's text as its body; never fail."""
    identity = f"{name}/{claimed.base}"
    try:
        return read_message(claimed.content, claimed.is_foreign, identity)
    except MessageError:
        text = claimed.content.decode("utf-8", "replace")
        return Message(text, {UNDECODABLE_HEADER: True}, identify(text, {}, identity))
