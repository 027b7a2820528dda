"""Dead letters as files, which a person can look at and put back.

The format is that of ``zocalo.dlq_purge``: ``{"exported": ..., "header": ..., "message": ...}``,
and ``"properties"`` for what a message had besides. Files that the tools of python-zocalo wrote, on
RabbitMQ or ActiveMQ, can be read, too.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeGuard

from zwrap.errors import ConfigurationError, MessageError
from zwrap.host.files import UnfitFileError, create_once, read_regular
from zwrap.host.modes import make_readable
from zwrap.message.content import (
    ATTEMPT_HEADER,
    ID_HEADER,
    REINJECTED_HEADER,
    UNDECODABLE_HEADER,
    Outgoing,
)
from zwrap.message.identity import attempt_of
from zwrap.message.jsontext import indented
from zwrap.transport.contract import Delivery
from zwrap.transport.copies import (
    EXCHANGE_HEADER,
    EXPIRES_HEADER,
    LIFETIME_HEADER,
    REASON_HEADER,
)
from zwrap.transport.diagnosis import reason_of
from zwrap.transport.spool.directory import RELAYED_BYTES
from zwrap.transport.typed_values import from_json, in_json
from zwrap.units import LONGEST_S, whole_number

TRANSPORT_HEADERS = frozenset(
    {
        "consumer_tag", "content-length", "delivery_mode", "destination", "exchange", "expires",
        "message-id", "original-destination", EXCHANGE_HEADER, "originalExpiration",
        "redelivered", "routing_key", "subscription", "timestamp",
    }
)  # fmt: skip
"""Headers that a transport adds to a delivered message, which are not sent on with it."""

_OF_DEATH = (
    "x-death", "x-first-death", "x-delivery-count", "dlqDelivery", EXPIRES_HEADER, LIFETIME_HEADER,
    REASON_HEADER,
)  # fmt: skip
"""Beginnings of headers that tell how a message died; a message that is put back has none."""

LIFETIME = "lifetime_s"
"""Key beside the properties of a message: the lifetime that its sender gave, in seconds."""

LATEST_S = 253_402_214_400.0
"""Latest time of sending that is believed, in seconds since the epoch: the end of year 9999."""

EXPORTED_BYTES = 4 * RELAYED_BYTES
"""Largest size of an exported dead letter that is read, in bytes: line breaks add to a message."""

ID_CHARACTERS = 150
"""Number of characters of an id that the name of an exported file shows."""

_PREFIX = re.compile(r"^dlq\.", re.IGNORECASE)


class Exported(NamedTuple):
    """A dead letter that was written to a file."""

    file: Path
    died: time.struct_time
    """Local time of sending."""


def queue_name(name: str) -> str:
    """Return the name of a queue, given it or the name of its dead letter queue."""
    return _PREFIX.sub("", name)


def export(delivery: Delivery, directory: Path, prefix: str = "") -> Exported:
    """Write a dead letter to a file below `directory`, durably and never over another one.

    `prefix`: beginning of the names of queues on the other side, where other tools look for them.
    Raises ConfigurationError if that is not possible.
    """
    sent_at = delivery.sent_at
    if sent_at is None or not 0 <= sent_at <= LATEST_S:  # any sender may write any time
        sent_at = time.time()
    moment = time.localtime(sent_at)
    header = {
        **delivery.message.headers,
        ID_HEADER: delivery.message.id,
        "message-id": delivery.message.id,
        "timestamp": int(sent_at * 1000),
        "original-destination": f"/queue/{prefix}{delivery.source}",
        "destination": f"/queue/DLQ.{prefix}{delivery.source}",
        REASON_HEADER: reason_of(delivery),
    }
    content: dict[str, object] = {
        "exported": {"date": time.strftime("%Y-%m-%d"), "time": time.strftime("%H:%M:%S")},
        "header": header,
        "message": delivery.message.body,
    }
    if properties := _properties(delivery):
        content["properties"] = properties
    data = indented(content, ordered=True) + b"\n"
    stamp = f"{time.strftime('%Y%m%d-%H%M%S', moment)}-{int(sent_at * 1000) % 1000:03d}"
    identity = re.sub(r"[^a-zA-Z0-9._-]+", "_", delivery.message.id)[:ID_CHARACTERS]
    place = directory / time.strftime("%Y-%m-%d", moment)
    try:
        make_readable(place)
        file = place / f"msg-{stamp}-{identity}"
        number = 1
        while not create_once(file, data):
            number += 1
            file = place / f"msg-{stamp}-{identity}-{number}"
    except OSError as error:
        raise ConfigurationError(
            f"Dead letters cannot be written to {place}: {error.strerror}. They stay where they "
            "are."
        ) from None
    return Exported(file, moment)


def _properties(delivery: Delivery) -> dict[str, object]:
    """Return what a file holds of a dead letter besides header and body.

    Under ``headers`` are those of the sender that the header of the file cannot hold, because their
    value is none of JSON's, or their name is one that a transport uses.
    """
    original = delivery.original
    given = original.properties.get("headers")
    typed = given if isinstance(given, dict) else {}
    headers = delivery.message.headers
    own = {key: typed.get(key, headers[key]) for key in headers if key in TRANSPORT_HEADERS}
    own |= {key: value for key, value in typed.items() if not key.startswith(_OF_DEATH)}
    found = {key: in_json(each) for key, each in original.properties.items() if key != "headers"}
    if own:
        found["headers"] = {key: in_json(value) for key, value in own.items()}
    if original.expires_s is not None:
        found[LIFETIME] = original.expires_s
    return found


def read(file: Path) -> dict[str, object]:
    """Return the content of an exported dead letter.

    Raises MessageError if the file does not hold a dead letter.
    """
    try:
        content = json.loads(read_regular(file, EXPORTED_BYTES, follow=True))
    except UnfitFileError as error:
        raise MessageError(str(error)) from None
    except OSError as error:
        raise MessageError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{file} is not valid JSON: {error}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("header"), dict):
        raise MessageError(
            f"{file} is not an exported dead letter: it has no object under 'header'."
        )
    if "message" not in content:
        raise MessageError(
            f"{file} is not an exported dead letter: it has nothing under 'message'."
        )
    if content["header"].get(UNDECODABLE_HEADER):
        raise MessageError(
            f"{file} holds what was never a message (its content is not JSON). Correct it, and "
            f"remove {UNDECODABLE_HEADER!r} from its header, if it is to be sent."
        )
    return content


def reinjected(
    content: Mapping[str, object], file: Path, destination: str | None, prefix: str = ""
) -> Outgoing:
    """Return the message of an exported dead letter, to be sent again as a new attempt.

    Its destination is the queue `destination`, else the original one without the `prefix` that
    names have on the other side; MessageError if `file` does not name it. Its lifetime, if it had
    one, begins anew.
    """
    header = content["header"]
    if not isinstance(header, Mapping):
        raise MessageError(f"{file} has no object under 'header'.")
    kept = {
        key: value
        for key, value in header.items()
        if key not in TRANSPORT_HEADERS and not key.startswith(_OF_DEATH)
    }
    identity = header.get(ID_HEADER) or header.get("message-id")
    topic, name = _destination(header, file, prefix)
    exchange = header.get(EXCHANGE_HEADER)
    given = content.get("properties")
    properties = dict(given) if isinstance(given, dict) else {}
    lifetime_s = properties.pop(LIFETIME, None) or _lifetime_s(header)
    headers = properties.pop("headers", None)
    typed = {
        key: value
        for key, value in _untyped(headers if isinstance(headers, dict) else {}, file).items()
        if key in header or key in TRANSPORT_HEADERS  # a person may have removed one
    }
    properties = _untyped(properties, file)
    return Outgoing(
        destination or name,
        content["message"],
        {
            **kept,
            **{key: value for key, value in typed.items() if key in TRANSPORT_HEADERS},
            **({ID_HEADER: identity} if isinstance(identity, str) else {}),
            ATTEMPT_HEADER: attempt_of(header) + 1,
            REINJECTED_HEADER: "True",
        },
        topic=topic,
        exchange=exchange if isinstance(exchange, str) and not destination else "",
        expires_s=lifetime_s if _is_time(lifetime_s) else None,
        properties={**properties, "headers": typed} if typed else properties,
    )


def _untyped(given: Mapping[str, object], file: Path) -> dict[str, object]:
    """Return values that `in_json` wrote; MessageError names the file if it did not."""
    try:
        return {key: from_json(value) for key, value in given.items()}
    except MessageError as error:
        raise MessageError(f"{file}, key 'properties': {error}") from None


def _lifetime_s(header: Mapping[str, object]) -> float | None:
    """Return the lifetime that a broker's own history of a dead letter tells, in seconds."""
    death = _first_death(header.get("x-death"))
    given = header.get(LIFETIME_HEADER) or death.get("original-expiration")
    lifetime_ms = whole_number(str(given or ""))
    if lifetime_ms is None and REASON_HEADER not in header:
        end = whole_number(str(header.get("originalExpiration", "")))
        begin = whole_number(str(header.get("timestamp", "")))
        lifetime_ms = end - begin if end and begin else None
    return None if lifetime_ms is None else lifetime_ms / 1000


def _is_time(given: object) -> TypeGuard[float]:
    """Return True if a lifetime is a number of seconds that a message may have."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return False
    return 0 < given <= LONGEST_S


def _destination(header: Mapping[str, object], file: Path, prefix: str) -> tuple[bool, str]:
    """Return whether a message was broadcast, and the topic or queue to which it was sent."""
    queue = _first_death(header.get("x-death")).get("queue")
    if isinstance(queue, str) and queue:
        return False, queue
    given = header.get("original-destination") or header.get("destination")
    match = re.fullmatch(r"/(queue|topic)/(.+)", given) if isinstance(given, str) else None
    if not match:
        raise MessageError(
            f"{file} does not say where its message was going: 'original-destination' "
            "(/queue/NAME) or 'x-death' is expected in its header. Name a queue with -d."
        )
    return match[1] == "topic", queue_name(match[2]).removeprefix(prefix)


def _first_death(deaths: object) -> Mapping[str, object]:
    """Return the latest of RabbitMQ's x-death header, which some tools have turned into text."""
    if isinstance(deaths, str):
        try:
            deaths = ast.literal_eval(deaths)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return {}
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return {}
