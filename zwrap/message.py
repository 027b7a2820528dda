"""Messages that travel between all stations, and their identity."""

from __future__ import annotations

import enum
import os
import re
import uuid
from collections.abc import Mapping

import msgspec

from zwrap.errors import MessageError
from zwrap.jsontext import copied as copied
from zwrap.jsontext import decode as decode
from zwrap.jsontext import encode as encode
from zwrap.jsontext import encode_as

JSON = object
"""Former name of the type of a JSON value, for annotations in plug-ins."""

ID_HEADER = "zwrap-id"
"""Identity of a message, kept by every repeat of it."""

ATTEMPT_HEADER = "zwrap-attempt"
"""Number of the attempt at a step: 1, raised by a retry, `resubmit` and `dlq_reinject`."""

ORIGIN_HEADER = "zwrap-origin"
"""Content from which a message follows: `content-` and its own digest, or `from-` and the digest of
the origin of the message whose handling produced it. With the id it tells whose attempt it is."""

FOLLOWS_HEADER = "zwrap-follows"
"""Proof that a message is the next attempt at what a service of the site has submitted."""

RETRIES_HEADER, CONTINUED_HEADER = "zwrap-retries", "zwrap-continued"
"""Number of retries so far; number of jobs so far that continued the step from what its program had
saved."""

CLUSTER_HEADER = "zwrap-cluster"
"""Header of another attempt at a step that names no cluster: the one of the attempt before, which
zwrap has written into the step."""

SIGNATURE_HEADER = "zwrap-signature"
"""Proof that a service of the site gave a message its id and origin (`zwrap.transport.signing`)."""

REINJECTED_HEADER = "dlq-reinjected"
"""Mark of a dead letter that was put back, as the tools of python-zocalo set it."""

UNDECODABLE_HEADER = "zwrap-undecodable"
"""Mark of a dead letter whose content is not a message; its body is the text that was found."""

RECIPE_HEADER = "workflows-recipe"
"""Mark of a recipe message; python-workflows accepts True, "True", "true" and 1."""

TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
"""Context of a trace, which the tracing of python-workflows adds (www.w3.org/TR/trace-context and
www.w3.org/TR/baggage)."""

STATUS_TOPIC = "transient.status"
"""Topic of the heartbeats of services and wrappers, as in python-workflows."""

STATUS_EXPIRES_S = 15.0
"""Age at which a status message expires, in seconds."""

NAMESPACE = uuid.UUID("6f2b44a4-5d0c-5a58-9d5a-2c1d3f0e8a77")
"""Root of all derived message ids."""


LONGEST_ID_BYTES = 255
"""Length of the longest id that is taken over from a header, in bytes."""

LARGEST_ATTEMPT = 10**6
"""Largest number of an attempt that is taken from a header."""


def _is_recipe(headers: Mapping[str, object]) -> bool:
    """Return True if headers mark a recipe message."""
    return headers.get(RECIPE_HEADER) in (True, "True", "true", 1)


class Status(enum.Enum):
    """Codes and texts of status messages, as in python-workflows (CommonService)."""

    NONE = -1, "no service loaded"
    TEARDOWN = -2, "shutdown"
    NEW = 0, "constructing"
    STARTING = 1, "starting"
    IDLE = 2, "idle"
    TIMER = 3, "timer event"
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
    exchange: str = ""
    """Exchange of RabbitMQ whose bindings decide where a message to a queue goes, by the queue's
    name; empty: it goes to that queue. Transports without exchanges send it to the queue."""
    properties: Mapping[str, object] = {}
    """Properties that a message which is passed on had on its transport, which gives it those that
    it knows (`zwrap.transport.delivery.Original`)."""

    def with_id(self, identity: str) -> Outgoing:
        """Return the same message under an identity, unless it has one."""
        if ID_HEADER in self.headers:
            return self
        return msgspec.structs.replace(self, headers={**self.headers, ID_HEADER: identity})


def identity_of(message: Outgoing) -> str:
    """Return the id of a message that is to be sent, as text."""
    return str(message.headers.get(ID_HEADER))


def trace_of(headers: Mapping[str, object]) -> dict[str, object]:
    """Return the context of the trace to which a message belongs; empty if it has none."""
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}


def new_id() -> str:
    """Return a fresh message id: a random UUID (RFC 9562), in half the time of `uuid.uuid4`."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _derived(text: str) -> uuid.UUID:
    """Return the name-based UUID (RFC 9562, version 5) of any text.

    That is `uuid.uuid5`, which fails for the name of a file that is not UTF-8 (PEP 383).
    """
    import hashlib  # which loads OpenSSL: 3 ms that no start waits for

    name = NAMESPACE.bytes + text.encode("utf-8", "surrogatepass")
    return uuid.UUID(bytes=hashlib.sha1(name, usedforsecurity=False).digest()[:16], version=5)


def child_id(parent: str, position: int | str) -> str:
    """Return the id of the message at a position among those that handling `parent` produces.

    The id is derived, so handling the same message again produces the same ids.
    """
    return str(_derived(f"{parent}/{position}"))


def recipe_id_of(identity: str) -> str:
    """Return the ID of the recipe that the Dispatcher starts for a request without parameter guid.

    It is derived from the id of the request, so that a repeat starts the same recipe.
    """
    return child_id(identity, "recipe")


def identify(body: object, headers: Mapping[str, object], broker_id: str | None = None) -> str:
    """Return the id of a received message.

    The id is, in this order: that in header `zwrap-id`, or one derived from it if it is longer than
    `LONGEST_ID_BYTES`; one derived from a stable id of the broker; for a recipe message, one
    derived from its content; else a fresh one.
    """
    own = headers.get(ID_HEADER)
    if isinstance(own, str) and own:
        short = len(own) <= LONGEST_ID_BYTES and len(own.encode(errors="backslashreplace"))
        return own if short and short <= LONGEST_ID_BYTES else child_id("long", own)
    if broker_id:
        return child_id("broker", broker_id)
    if _is_recipe(headers):
        return str(_derived(encode_as(body, ordered=True).decode()))
    return new_id()


def attempt_of(headers: Mapping[str, object]) -> int:
    """Return the number of the attempt; putting a dead letter back starts a new one.

    Raises:
        MessageError: The number in the header is above `LARGEST_ATTEMPT`.
    """
    attempt = headers.get(ATTEMPT_HEADER)
    if isinstance(attempt, int):
        if abs(attempt) <= LARGEST_ATTEMPT:
            return attempt
        raise MessageError(
            f"Header {ATTEMPT_HEADER!r} holds a number that no attempt has; one up to "
            f"{LARGEST_ATTEMPT} is expected."
        )
    return 2 if headers.get(REINJECTED_HEADER) else 1


def digest_of(body: object) -> str:
    """Return the SHA-256 digest of a decoded JSON value, whatever the order of its keys."""
    return _sha256(encode_as(body, ordered=True))


def _sha256(data: bytes) -> str:
    """Return the SHA-256 digest of bytes, as hexadecimal text."""
    import hashlib  # as in `_derived`

    return hashlib.sha256(data).hexdigest()


def origin_of_content(digest: str) -> str:
    """Return the origin of a message that no service of the site has made, by its digest."""
    return f"content-{digest}"


def origin_after(origin: str) -> str:
    """Return the origin of what handling a message of that origin produces."""
    return f"from-{_sha256(origin.encode())}"


def stated_origin(headers: Mapping[str, object]) -> str | None:
    """Return the origin that headers state, which anybody may write; None: they state none."""
    stated = headers.get(ORIGIN_HEADER)
    valid = isinstance(stated, str) and re.fullmatch(r"(content|from)-[0-9a-f]{64}", stated)
    return stated if valid and isinstance(stated, str) else None


def token_from(identity: str, origin: str, number: int) -> str:
    """Return the token of an attempt at what a message with an id and an origin asks for."""
    return f"{_derived(f'{identity}/{origin}').hex}-{number:d}"


def former_token(identity: str, number: int) -> str:
    """Return the token as earlier releases made it, from the id alone."""
    return f"{_derived(identity).hex}-{number:d}"


def token_of(message: Message, proven: str | None = None) -> str:
    """Return the name of the one job that a message may become: its id, its origin, the attempt.

    `proven`: origin that a signature proves. Else it is that of the message's content; for another
    attempt, whose content may be changed, that which its headers state.
    """
    number = attempt_of(message.headers)
    stated = stated_origin(message.headers) if number > 1 else None
    origin = proven or stated or origin_of_content(digest_of(message.body))
    return token_from(message.id, origin, number)
