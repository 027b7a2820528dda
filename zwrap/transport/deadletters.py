"""Dead letters as files, which a person can look at and put back.

The format is that of ``zocalo.dlq_purge``: ``{"exported": ..., "header": ..., "message": ...}``.
Files that the tools of python-zocalo wrote, on RabbitMQ or ActiveMQ, can be read, too.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import ConfigurationError, MessageError
from zwrap.host.files import UnfitFileError, create_once, read_regular
from zwrap.host.modes import make_readable
from zwrap.jsontext import indented
from zwrap.message import (
    ATTEMPT_HEADER,
    ID_HEADER,
    REINJECTED_HEADER,
    UNDECODABLE_HEADER,
    Outgoing,
    attempt_of,
)
from zwrap.transport.contract import Delivery
from zwrap.transport.copies import EXCHANGE_HEADER, REASON_HEADER
from zwrap.transport.diagnosis import reason_of
from zwrap.transport.mover import TRANSPORT_HEADERS
from zwrap.transport.spool.directory import RELAYED_BYTES

_OF_DEATH = ("x-death", "x-first-death", "x-delivery-count", "dlqDelivery", REASON_HEADER)
"""Beginnings of headers that tell how a message died; a message that is put back has none."""

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


def export(delivery: Delivery, directory: Path) -> Exported:
    """Write a dead letter to a file below `directory`, durably and never over another one.

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
        "original-destination": f"/queue/{delivery.source}",
        "destination": f"/queue/DLQ.{delivery.source}",
        REASON_HEADER: reason_of(delivery),
    }
    content = {
        "exported": {"date": time.strftime("%Y-%m-%d"), "time": time.strftime("%H:%M:%S")},
        "header": header,
        "message": delivery.message.body,
    }
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


def reinjected(content: Mapping[str, object], file: Path, destination: str | None) -> Outgoing:
    """Return the message of an exported dead letter, to be sent again as a new attempt.

    Its destination is the queue `destination`, else the original one; MessageError if `file` does
    not name it.
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
    topic, name = _destination(header, file)
    exchange = header.get(EXCHANGE_HEADER)
    return Outgoing(
        destination or name,
        content["message"],
        {
            **kept,
            **({ID_HEADER: identity} if isinstance(identity, str) else {}),
            ATTEMPT_HEADER: attempt_of(header) + 1,
            REINJECTED_HEADER: "True",
        },
        topic=topic,
        exchange=exchange if isinstance(exchange, str) and not destination else "",
    )


def _destination(header: Mapping[str, object], file: Path) -> tuple[bool, str]:
    """Return whether a message was broadcast, and the topic or queue to which it was sent."""
    if queue := _first_death(header.get("x-death")):
        return False, queue
    given = header.get("original-destination") or header.get("destination")
    match = re.fullmatch(r"/(queue|topic)/(.+)", given) if isinstance(given, str) else None
    if not match:
        raise MessageError(
            f"{file} does not say where its message was going: 'original-destination' "
            "(/queue/NAME) or 'x-death' is expected in its header. Name a queue with -d."
        )
    return match[1] == "topic", queue_name(match[2])


def _first_death(deaths: object) -> str | None:
    """Return the queue in RabbitMQ's x-death header, which some tools have turned into text."""
    if isinstance(deaths, str):
        try:
            deaths = ast.literal_eval(deaths)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        queue = deaths[0].get("queue")
        return queue if isinstance(queue, str) and queue else None
    return None
