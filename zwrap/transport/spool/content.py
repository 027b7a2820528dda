"""Content of a message file: ``{"headers": {...}, "message": ...}``, or a bare foreign message."""

from __future__ import annotations

from pathlib import Path

import msgspec

from zwrap.errors import MessageError
from zwrap.host.files import UnfitFileError, first_bytes
from zwrap.message.content import UNDECODABLE_HEADER, Message, Outgoing
from zwrap.message.identity import identify
from zwrap.message.jsontext import brackets_of, decode, typed
from zwrap.transport.failures import EncodingError
from zwrap.transport.spool.claimed import Claimed


class _File(msgspec.Struct):
    message: object
    headers: dict[str, object] = {}


class _Lifetime(msgspec.Struct):
    expires_s: float | None = None


LONGEST_S = 1e10
"""Longest delay or expiry of a message, in seconds: 300 years."""

REASON_BYTES = 1 << 20
"""Largest size of a reason that is read, in bytes."""

_decoder = msgspec.json.Decoder(_File)


def written(message: Outgoing) -> dict[str, object]:
    """Return the content of the file of a message, with the lifetime that its sender gives."""
    content = {"headers": message.headers, "message": message.message}
    return {**content, "expires_s": message.expires_s} if message.expires_s else content


def lifetime_s(content: bytes) -> float | None:
    """Return the lifetime in a file, in seconds; None if it tells none."""
    try:
        found = typed(decode(content), _Lifetime).expires_s
    except (MessageError, msgspec.ValidationError):
        return None
    return found if found is not None and 0 < found <= LONGEST_S else None


def read_message(content: bytes, foreign: bool, name: str, largest: int | None = None) -> Message:
    """Return the message in a file; `name` identifies a message without an id.

    Raises MessageError if the file does not hold a message, or one of more than `largest` bytes.
    """
    if foreign or (largest is not None and len(content) > largest):
        body = decode(content, largest=largest)
        return Message(body, {}, identify(body, {}, name))
    if largest is not None:
        brackets_of(content)
    try:
        file = _decoder.decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError):
        file = _read_leniently(content)
    return Message(file.message, file.headers, identify(file.message, file.headers, name))


def _read_leniently(content: bytes) -> _File:
    """Return the content of a file that has NaN and the like; MessageError for anything else."""
    value = decode(content)
    try:
        return typed(value, _File)
    except msgspec.ValidationError as error:
        raise MessageError(
            f'The file is not {{"headers": ..., "message": ...}}: {error}.'
        ) from None


def read_whatever(claimed: Claimed, name: str) -> Message:
    """Return the message in a file, or one with the file's text as its body; never fail."""
    identity = f"{name}/{claimed.base}"
    if claimed.unfit:
        return Message(claimed.unfit, {UNDECODABLE_HEADER: True}, identify(None, {}, identity))
    try:
        return read_message(claimed.content, claimed.is_foreign, identity)
    except MessageError:
        text = claimed.content.decode("utf-8", "replace")
        return Message(text, {UNDECODABLE_HEADER: True}, identify(text, {}, identity))


def read_reason(file: Path) -> str:
    """Return the reason in a file beside a dead letter; empty if none can be read."""
    try:
        return first_bytes(file, REASON_BYTES).decode("utf-8", "backslashreplace")
    except (OSError, UnfitFileError):
        return ""


def check_times(message: Outgoing) -> None:
    """Raise EncodingError if the times of a message cannot be written into a file name."""
    for what, time_s in (("delay", message.delay_s), ("expiry", message.expires_s or 0.0)):
        if not abs(time_s) <= LONGEST_S:  # "not a number" is in no order with any
            raise EncodingError(
                f"A message to {message.destination!r} has a {what} of {time_s} s; at most "
                f"{LONGEST_S:.0f} s can be written."
            )
