"""Queues of a RabbitMQ server on which a message could be delivered without end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.management.models import QueueInfo
from zwrap.transport.rabbitmq.topology import DELAY, is_internal

LIMITED_SINCE = 4
"""First major version in which quorum queues have a delivery-limit (20) by default."""

HARMFUL = {"dead-letter-routing-key", "expires", "max-length", "max-length-bytes", "message-ttl"}
"""Settings that a queue of delayed messages must not have: these have their own routing keys and
times, and nobody consumes the queue."""


def audited(api: RabbitMQAPI, vhost: str) -> list[str]:
    """Return a sentence for each queue of a vhost that may lose or keep a message for ever."""
    version = str(api.get("overview").json().get("rabbitmq_version", "0"))
    limited = version.split(".")[0].isdecimal() and int(version.split(".")[0]) >= LIMITED_SINCE
    found = api.queues(vhost)
    queues = sorted(found, key=lambda queue: queue.name) if isinstance(found, list) else []
    return [
        *(
            sentence
            for queue in queues
            if not is_internal(queue.name) and not queue.exclusive
            for sentence in _complaints(queue, limited)
        ),
        *(
            sentence
            for queue in queues
            if queue.name.startswith(DELAY)
            for sentence in _losses(queue)
        ),
    ]


def _complaints(queue: QueueInfo, limited: bool) -> Iterator[str]:
    """Yield the faults of one queue; `limited`: quorum queues have a limit by default."""
    told = _in_force(queue)
    if told.get("queue-type") != "quorum":
        yield (
            f"Queue {queue.name!r} is a classic one, which does not count: a message that kills "
            "consumers that are not zwrap's is delivered for ever. A quorum queue counts."
        )
        return
    if "delivery-limit" not in told and not limited:
        yield (
            f"Queue {queue.name!r} has no delivery-limit: a message that kills its consumers is "
            "delivered for ever. A policy with delivery-limit: 5 ends that."
        )
    elif "dead-letter-exchange" not in told:
        yield (
            f"Queue {queue.name!r} has no dead-letter-exchange: a message that was delivered too "
            "often is thrown away. Exchange '' with routing key "
            f"'dlq.{queue.name}' keeps it."
        )


def _losses(queue: QueueInfo) -> Iterator[str]:
    """Yield the ways in which a queue of delayed messages loses them, or leads them elsewhere."""
    told = _in_force(queue)
    step = re.fullmatch(rf"{re.escape(DELAY)}[0-9]+s(?:\.(.+))?", queue.name)
    if step is None and "dead-letter-exchange" in told:
        return  # one of an older version, with further settings of its own
    wanted = (step[1] or "") if step else ""
    found = told.get("dead-letter-exchange")
    if found != wanted:
        what = "loses each when it is due: no dead-letter-exchange is in force for it"
        if found is not None:
            what = f"gives each to exchange {found!r} when it is due"
        yield (
            f"Queue {queue.name!r} delays messages, and {what}. A policy with "
            f"dead-letter-exchange: {wanted!r} is needed ('zwrap check --broker --declare', "
            "docs/brokers.md)."
        )
    for key in sorted(HARMFUL & told.keys()):
        yield (
            f"Queue {queue.name!r} delays messages, and has {key}: {told[key]!r}, by which they "
            "are lost or go elsewhere. Take it out of the policy that matches this queue."
        )


def _in_force(queue: QueueInfo) -> dict[str, object]:
    """Return the settings of a queue; its arguments go before its policy."""
    return {
        **(queue.effective_policy_definition or {}),
        **{key.removeprefix("x-"): value for key, value in (queue.arguments or {}).items()},
    }
