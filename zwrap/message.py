"""Messages and their identity: what travels between all stations."""

from __future__ import annotations

import enum
import os
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from zwrap.errors import MessageError

JSON = Any
"""Whatever a JSON text can hold: dict, list, str, int, float, bool or None."""

ID_HEADER = "zwrap-id"
"""Identity of a message, kept by every repeat of it."""

ATTEMPT_HEADER = "zwrap-attempt"
"""Number of the attempt that a person started (1 unless a dead letter was put back)."""

REINJECTED_HEADER = "dlq-reinjected"
"""Marks a dead letter that was put back, as the tools of python-zocalo do."""

UNDECODABLE_HEADER = "zwrap-undecodable"
"""Marks a dead letter whose content is no message; its body is the text that was found."""

RECIPE_HEADER = "workflows-recipe"
"""Marks a recipe message; python-workflows accepts True, "True", "true" and 1."""

STATUS_TOPIC = "transient.status"
"""Where services and wrappers tell how they are, as in python-workflows."""

STATUS_EXPIRES_S = 15.0
"""Age in seconds at which a status message means nothing any more."""

NAMESPACE = uuid.UUID("6f2b44a4-5d0c-5a58-9d5a-2c1d3f0e8a77")
"""Root of all derived message ids."""

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_canonical = msgspec.json.Encoder(decimal_format="number", enc_hook=str, order="deterministic")


class Status(enum.Enum):
    """Codes and texts of status messages, as in python-workflows (CommonService)."""

    STARTING = 1, "starting"
    IDLE = 2, "idle"
    PROCESSING = 4, "processing"
    SHUTDOWN = 5, "shutting down"
    END = 6, "shutdown"
    ERROR = 7, "error"

    @property
    def intval(self) -> int:
        """The code."""
        return self.value[0]

    @property
    def description(self) -> str:
        """The text."""
        return self.value[1]


LAST_STATUSES = (Status.END.intval, Status.ERROR.intval)
"""Codes after which a sender of status messages is gone."""


class Message(msgspec.Struct, frozen=True):
    """One received message."""

    body: JSON
    headers: Mapping[str, JSON]
    id: str

    @property
    def is_recipe(self) -> bool:
        """Whether the body is a recipe message (envelope) rather than a plain one."""
        return self.headers.get(RECIPE_HEADER) in (True, "True", "true", 1)


class Outgoing(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message on its way out."""

    destination: str
    message: JSON
    headers: dict[str, JSON] = {}
    topic: bool = False
    """True: broadcast to whoever listens now. False: sent to one queue."""
    delay_s: float = 0.0
    expires_s: float | None = None
    replaces: str | None = None
    """On a topic: only the latest message of this sender matters."""

    def with_id(self, identity: str) -> Outgoing:
        """The same message under `identity`, unless it has one."""
        if ID_HEADER in self.headers:
            return self
        return msgspec.structs.replace(self, headers={**self.headers, ID_HEADER: identity})


def encode(value: JSON) -> bytes:
    """JSON text of `value`; decimals become numbers, other foreign types their text."""
    return _encoder.encode(value)


def decode(data: bytes, what: str = "message") -> JSON:
    """The value of a JSON text, or MessageError that says where it is malformed."""
    if not data.strip():
        raise MessageError(f"The {what} is empty; a JSON text is expected.")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        begin = data[:60].decode("utf-8", "replace")
        raise MessageError(f"The {what} is not valid JSON: {error}. It begins {begin!r}.") from None


def copied(value: JSON) -> JSON:
    """A copy that shares no object and no array with `value`."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [copied(each) for each in value]
    return value


def new_id() -> str:
    """A fresh message id: a random UUID (RFC 9562), made without the detour over an object."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def child_id(parent: str, position: int | str) -> str:
    """Id of the message at `position` among those that handling `parent` produces.

    Derived, so handling the same message again produces the same ids.
    """
    return str(uuid.uuid5(NAMESPACE, f"{parent}/{position}"))


def identify(body: JSON, headers: Mapping[str, JSON], broker_id: str | None = None) -> str:
    """Id of a received message.

    In this order: the header `zwrap-id`; a stable id that the broker gave; for a recipe
    message its content; else a fresh one.
    """
    own = headers.get(ID_HEADER)
    if isinstance(own, str) and own:
        return own
    if broker_id:
        return child_id("broker", broker_id)
    if headers.get(RECIPE_HEADER) in (True, "True", "true", 1):
        return str(uuid.uuid5(NAMESPACE, _canonical.encode(body).decode()))
    return new_id()


def attempt_of(headers: Mapping[str, JSON]) -> int:
    """Which attempt a message is; putting a dead letter back starts a new one."""
    attempt = headers.get(ATTEMPT_HEADER)
    if isinstance(attempt, int):
        return attempt
    return 2 if headers.get(REINJECTED_HEADER) else 1


def token_of(message: Message) -> str:
    """Name of the one job that this message may become: its id and the attempt."""
    return f"{uuid.uuid5(NAMESPACE, message.id).hex}-{attempt_of(message.headers):d}"
