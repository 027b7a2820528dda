"""Messages that travel between all stations, and their identity."""

from __future__ import annotations

import enum
import os
import uuid
from collections.abc import Mapping
from typing import TypeVar, overload

import msgspec

from zwrap.errors import MessageError

K = TypeVar("K")
V = TypeVar("V")

JSON = object
"""Former name of the type of a JSON value, for annotations in plug-ins."""

ID_HEADER = "zwrap-id"
"""Identity of a message, kept by every repeat of it."""

ATTEMPT_HEADER = "zwrap-attempt"
"""Number of the attempt at a step: 1, raised by a retry, `resubmit` and `dlq_reinject`."""

REINJECTED_HEADER = "dlq-reinjected"
"""Mark of a dead letter that was put back, as the tools of python-zocalo set it."""

UNDECODABLE_HEADER = "zwrap-undecodable"
"""Mark of a dead letter whose content is not a message; its body is the text that was found."""

RECIPE_HEADER = "workflows-recipe"
"""Mark of a recipe message; python-workflows accepts True, "True", "true" and 1."""

STATUS_TOPIC = "transient.status"
"""Topic of the heartbeats of services and wrappers, as in python-workflows."""

STATUS_EXPIRES_S = 15.0
"""Age at which a status message expires, in seconds."""

NAMESPACE = uuid.UUID("6f2b44a4-5d0c-5a58-9d5a-2c1d3f0e8a77")
"""Root of all derived message ids."""

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_canonical = msgspec.json.Encoder(decimal_format="number", enc_hook=str, order="deterministic")


def _is_recipe(headers: Mapping[str, object]) -> bool:
    """Return True if headers mark a recipe message."""
    return headers.get(RECIPE_HEADER) in (True, "True", "true", 1)


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
        """Code of the status in messages."""
        return self.value[0]

    @property
    def description(self) -> str:
        """Text of the status in messages."""
        return self.value[1]


LAST_STATUSES = (Status.END.intval, Status.ERROR.intval)
"""Codes after which a sender of status messages is gone."""


class Message(msgspec.Struct, frozen=True):
    """One received message."""

    body: object
    headers: Mapping[str, object]
    id: str
    """Identity of the message, see `identify`."""

    @property
    def is_recipe(self) -> bool:
        """True if the body is a recipe message (envelope) rather than a plain one."""
        return _is_recipe(self.headers)


class Outgoing(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message on its way out."""

    destination: str
    """Name of a queue or topic."""
    message: object
    """The body."""
    headers: dict[str, object] = {}
    topic: bool = False
    """True: broadcast to all present subscribers of a topic. False: sent to one queue."""
    delay_s: float = 0.0
    """Time before the message may be received, in seconds."""
    expires_s: float | None = None
    """Time after which the message expires, in seconds; None: never."""
    replaces: str | None = None
    """Identity of the sender on a topic of whose messages only the latest matters."""

    def with_id(self, identity: str) -> Outgoing:
        """Return the same message under an identity, unless it has one."""
        if ID_HEADER in self.headers:
            return self
        return msgspec.structs.replace(self, headers={**self.headers, ID_HEADER: identity})


def encode(value: object) -> bytes:
    """Return a value as JSON text; decimals become numbers, values of other foreign types text."""
    return _encoder.encode(value)


def decode(data: bytes, what: str = "message") -> object:
    """Return the value of a JSON text; MessageError tells where it is malformed.

    `what` names the text in the error.
    """
    if not data.strip():
        raise MessageError(f"The {what} is empty; a JSON text is expected.")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        begin = data[:60].decode("utf-8", "replace")
        raise MessageError(f"The {what} is not valid JSON: {error}. It begins {begin!r}.") from None


@overload
def copied(value: dict[K, V]) -> dict[K, V]: ...
@overload
def copied(value: list[V]) -> list[V]: ...
@overload
def copied(value: object) -> object: ...
def copied(value: object) -> object:
    """Return a copy of a value that shares no dict and no list with it."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [copied(each) for each in value]
    return value


def new_id() -> str:
    """Return a fresh message id: a random UUID (RFC 9562), in half the time of `uuid.uuid4`."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def child_id(parent: str, position: int | str) -> str:
    """Return the id of the message at a position among those that handling `parent` produces.

    The id is derived, so handling the same message again produces the same ids.
    """
    return str(uuid.uuid5(NAMESPACE, f"{parent}/{position}"))


def identify(body: object, headers: Mapping[str, object], broker_id: str | None = None) -> str:
    """Return the id of a received message.

    The id is, in this order: that in header `zwrap-id`; one derived from a stable id of the broker;
    for a recipe message, one derived from its content; else a fresh one.
    """
    own = headers.get(ID_HEADER)
    if isinstance(own, str) and own:
        return own
    if broker_id:
        return child_id("broker", broker_id)
    if _is_recipe(headers):
        return str(uuid.uuid5(NAMESPACE, _canonical.encode(body).decode()))
    return new_id()


def attempt_of(headers: Mapping[str, object]) -> int:
    """Return the number of the attempt; putting a dead letter back starts a new one."""
    attempt = headers.get(ATTEMPT_HEADER)
    if isinstance(attempt, int):
        return attempt
    return 2 if headers.get(REINJECTED_HEADER) else 1


def token_of(message: Message) -> str:
    """Return the name of the one job that a message may become: its id and the attempt."""
    return f"{uuid.uuid5(NAMESPACE, message.id).hex}-{attempt_of(message.headers):d}"
