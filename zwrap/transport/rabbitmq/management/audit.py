"""Queues of a RabbitMQ server on which a message could be delivered without end."""

from __future__ import annotations

from collections.abc import Iterator

from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.management.models import QueueInfo
from zwrap.transport.rabbitmq.topology import is_internal

LIMITED_SINCE = 4
"""First major version in which quorum queues have a delivery-limit (20) by default."""


def audited(api: RabbitMQAPI, vhost: str) -> list[str]:
    """Return a sentence for each work queue of a vhost that may lose or keep a message for ever."""
    version = str(api.get("overview").json().get("rabbitmq_version", "0"))
    limited = version.split(".")[0].isdecimal() and int(version.split(".")[0]) >= LIMITED_SINCE
    found = api.queues(vhost)
    queues = sorted(found, key=lambda queue: queue.name) if isinstance(found, list) else []
    return [
        sentence
        for queue in queues
        if not is_internal(queue.name) and not queue.exclusive
        for sentence in _complaints(queue, limited)
    ]


def _complaints(queue: QueueInfo, limited: bool) -> Iterator[str]:
    """Yield the faults of one queue; `limited`: quorum queues have a limit by default."""
    told = {
        **(queue.effective_policy_definition or {}),
        **{key.removeprefix("x-"): value for key, value in (queue.arguments or {}).items()},
    }
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
