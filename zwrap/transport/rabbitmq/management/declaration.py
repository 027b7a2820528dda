"""What zwrap needs on a RabbitMQ server beside the work queues: the list, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from zwrap.errors import MessageError
from zwrap.transport.rabbitmq import delays
from zwrap.transport.rabbitmq.management.api import RabbitMQAPI
from zwrap.transport.rabbitmq.management.models import PermissionSpec
from zwrap.transport.rabbitmq.topology import dead_letter_queue, is_internal

HEAD = """\
# What zwrap needs in vhost {vhost} beside the work queues: dead letter queues of the work queues
# that are there now, exchanges of topics, and the steps of the delays, each with the policy without
# which it loses its messages. Add it to the site's file of zocalo.configure_rabbitmq, zwrap's or
# python-zocalo's, which removes what its file does not name. A user of zwrap then needs
#   configure: {configure}
#   write:     {write}
#   read:      {read}
"""

POLICY: dict[str, Any] = {
    "name": "zwrap.delay",
    "pattern": r"^zwrap\.delay\.[0-9]+s$",
    "definition": {"dead-letter-exchange": ""},
    "priority": 100,
    "apply-to": "queues",
}
"""Policy by which messages come back from the steps of the delays. Of the policies that match a
queue only that of the highest priority holds."""

CONFIGURE = r"^amq\.gen-.*$"
"""Permission for the queues, named by the server, in which broadcasts are received."""


class Names(NamedTuple):
    """Names of what zwrap needs, in one vhost."""

    work: list[str]
    """Work queues that exist."""
    dead: list[str]
    """Their dead letter queues."""
    topics: list[str]
    steps: list[str]
    """Steps of the delays, each an exchange and a queue."""
    there: set[str]
    """Names of all queues and exchanges that exist."""


def names(api: RabbitMQAPI, vhost: str, topics: Sequence[str]) -> Names:
    """Return the names of what zwrap needs."""
    found = api.queues(vhost)
    queues = {each.name: each for each in found} if isinstance(found, list) else {}
    exchanges = api.exchanges(vhost)
    there = {each.name for each in exchanges} if isinstance(exchanges, list) else set()
    work = sorted(
        name for name, queue in queues.items() if not is_internal(name) and not queue.exclusive
    )
    dead = [dead_letter_queue(name) for name in work]
    return Names(work, dead, list(topics), delays.names(), there | set(queues))


def declaration(found: Names, vhost: str) -> str:
    """Return the list as a part of a file for `zocalo.configure_rabbitmq`."""
    fanout = {"type": "fanout", "vhost": vhost, "durable": True}
    groups: list[dict[str, object]] = [
        {"names": found.steps, "vhost": vhost, "settings": {"queues": {"type": "classic"}}}
    ]
    if found.dead:
        dead: dict[str, object] = {
            "names": found.dead,
            "vhost": vhost,
            "settings": {"queues": {"type": "quorum"}},
        }
        groups.insert(0, dead)
    content = {
        "policies": [{"vhost": vhost, **POLICY}],
        "exchanges": [{"name": name, **fanout} for name in (*found.topics, *found.steps)],
        "groups": groups,
        "bindings": [
            {"source": name, "destination": name, "vhost": vhost, "routing_key": ""}
            for name in found.steps
        ],
    }
    head = HEAD.format(vhost=vhost, configure=CONFIGURE, write=".*", read=".*")
    return head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)


def missing(api: RabbitMQAPI, vhost: str, user: str, found: Names) -> Iterator[str]:
    """Yield a sentence for each permission that a user lacks; none if they cannot be asked."""
    try:
        given = api.permissions(vhost, user)
    except MessageError:
        return  # the user of the management API may not see them
    if not isinstance(given, PermissionSpec):
        return
    wanted = {
        "write": ["amq.default", "amq.gen-x", *found.topics, *found.steps],
        "read": ["amq.gen-x", *found.work, *found.dead, *found.topics],
        "configure": ["amq.gen-x"],
    }
    for kind, resources in wanted.items():
        lacking = [name for name in resources if not _allows(getattr(given, kind), name)]
        if lacking:
            yield (
                f"User {user!r} has no {kind} permission in vhost {vhost!r} for {_listed(lacking)}."
            )
    absent = [
        name for name in (*found.dead, *found.topics, *found.steps) if name not in found.there
    ]
    lacking = [name for name in absent if not _allows(given.configure, name)]
    if lacking:
        yield (
            f"{_listed(lacking)} of vhost {vhost!r} do not exist, and user {user!r} may not make "
            "them (configure): messages that fail are held by their services meanwhile. 'zwrap "
            "check --broker --declare' prints what zocalo.configure_rabbitmq is to make."
        )


def _allows(pattern: str, name: str) -> bool:
    """Return whether a permission covers a name; one that Python cannot read is taken to do so."""
    try:
        return re.search(pattern or "^$", name) is not None
    except re.error:
        return True


def _listed(found: list[str]) -> str:
    """Return the first names, and how many there are."""
    shown = ", ".join(repr(name) for name in found[:3])
    return shown if len(found) <= 3 else f"{shown} and {len(found) - 3} more"
