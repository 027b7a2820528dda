"""The order of tests, for workers that each run a stretch of them.

Tests on the same real server stand together, so that few workers start one of their own, and the
unit tests, which take no time, are spread among them, so that all workers have as much to wait for.
"""

from __future__ import annotations

import pytest

SERVERS = (
    "activemq", "mariadb", "postgresql", "rabbitmq", "sge", "slurm", "slurm_accounting",
    "slurm_cgroup", "slurm_torque",
)  # fmt: skip
"""Fixtures that start a real server."""

MEANT = {"quorum": "rabbitmq", "classic": "rabbitmq", "declared": "rabbitmq"}
"""Other words for a server, in the parameters of tests."""


def in_stretches(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests sorted by server, with the unit tests spread among them."""
    short = [item for item in items if "unit" in item.path.parts]
    long = sorted((item for item in items if "unit" not in item.path.parts), key=_servers)
    places = [
        (number / len(each), item) for each in (long, short) for number, item in enumerate(each)
    ]
    return [item for _, item in sorted(places, key=lambda place: place[0])]


def _servers(item: pytest.Item) -> list[str]:
    """Return the names of the servers that a test uses, sorted."""
    call = getattr(item, "callspec", None)
    given = [value for value in call.params.values() if isinstance(value, str)] if call else []
    words = {*getattr(item, "fixturenames", ()), *given}
    return sorted({MEANT.get(word, word) for word in words}.intersection(SERVERS))
