"""Messages that travel between all stations: bodies, headers, status codes."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

JSON = object
"""Former name of the type of a JSON value, for annotations in plug-ins."""

ID_HEADER = "zwrap-id"
"""Identity of a message, kept by every repeat of it."""

ATTEMPT_HEADER = "zwrap-attempt"
"""Number of the attempt at a step: 1, raised by a retry, `resubmit` and `dlq_reinject`."""

CORRECTED = "zwrap-corrected"
"""Key of corrections in the environment of an envelope, which all messages after them carry."""

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


def marks_recipe(headers: Mapping[str, object]) -> bool:
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
        return marks_recipe(self.headers)


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


def trace_of(headers: Mapping[str, object]) -> dict[str, object]:
    """Return the context of the trace to which a message belongs; empty if it has none."""
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}
