"""What is in a message file: ``{"headers": {...}, "message": ...}``, or a bare foreign message."""

from __future__ import annotations

from typing import Any

import msgspec

from zwrap.errors import MessageError
from zwrap.message import UNDECODABLE_HEADER, Message, decode, identify
from zwrap.transport.spool.queue import Claimed


class _File(msgspec.Struct):
    message: Any
    headers: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(_File)


def read_message(content: bytes, foreign: bool, name: str) -> Message:
    """The message in a file; `name` identifies a file without an id."""
    if foreign:
        body = decode(content)
        return Message(body, {}, identify(body, {}, name))
    try:
        file = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        decode(content)  # says what is wrong when it is no JSON at all
        raise MessageError(
            f'The file is not {{"headers": ..., "message": ...}}: {error}.'
        ) from None
    return Message(file.message, file.headers, identify(file.message, file.headers, name))


def read_whatever(claimed: Claimed, name: str) -> Message:
    """The message in a file if it can be read, else its text as the body; never an error."""
    identity = f"{name}/{claimed.base}"
    try:
        return read_message(claimed.content, claimed.is_foreign, identity)
    except MessageError:
        text = claimed.content.decode("utf-8", "replace")
        return Message(text, {UNDECODABLE_HEADER: True}, identify(text, {}, identity))
