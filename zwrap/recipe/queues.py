"""Queues of the steps that become batch jobs, and of those that run on the host of a service.

A service with a word in environment variable CUSTOM_QUEUE reads a queue with that word in its name,
so that some recipes go to services of their own. Whoever looks at the steps of a recipe knows all
queues of a kind.
"""

from __future__ import annotations

import os
import re

CLUSTER = "cluster"
"""Kind of the queues of steps that become batch jobs, which the Submitter reads."""

RUNNER = "runner"
"""Kind of the queues of steps that the Runner carries out."""

_NAMES = {
    kind: re.compile(rf"{kind}\.(?:.*\.)?submission", re.DOTALL) for kind in (CLUSTER, RUNNER)
}


def queue_of_service(kind: str, of_class: str | None = None) -> str:
    """Return the queue of a kind that a service in this process reads.

    `of_class`: the queue that its class names, which stays if it is not the usual one.
    """
    if of_class not in (None, f"{kind}.submission"):
        return str(of_class)
    word = os.environ.get("CUSTOM_QUEUE")
    return f"{kind}.{word}.submission" if word else f"{kind}.submission"


def is_of_kind(name: object, kind: str) -> bool:
    """Return True if a name is that of a queue of a kind."""
    return isinstance(name, str) and _NAMES[kind].fullmatch(name) is not None
