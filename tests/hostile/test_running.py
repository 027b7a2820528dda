"""Whatever one sends or writes, the next good one is handled and the services live on.

`scripts/hostile --minutes N --seed S` runs the same for longer. Real processes, each transport.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .bad import QUEUES
from .doors import AMQP, Door, Spool, Stomp
from .site import READ, Site
from .trial import Plan, Trial, report

GIVEN = {
    name: os.environ.get(f"ZWRAP_HOSTILE_{name}") or ""
    for name in ("MINUTES", "SEED", "NUMBER", "ONLY", "SERVICES")
}
"""Options of `scripts/hostile`, for the test that it runs."""

GENERATE_S, LIMIT_S = 45.0, 180.0
"""Time for which a test sends generated inputs, and longest time for those of the folder, in
seconds."""


@pytest.fixture(params=["spool", "declared", "undeclared", "activemq"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    if request.param == "spool":
        return Spool(tmp_path)
    if request.param == "activemq":
        return Stomp(request.getfixturevalue("activemq"))
    rabbitmq: dict[str, Any] = request.getfixturevalue("rabbitmq")
    declare = "quorum" if request.param == "declared" else None
    return AMQP(rabbitmq, declare, [*READ, "hostile.good", "q", "q2"])


@pytest.fixture
def site(door: Door, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, door)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_bad_one_touches_no_other(site: Site, door: Door, tmp_path: Path) -> None:
    plan = Plan(
        seed=int(GIVEN["SEED"] or 1),
        generate_s=float(GIVEN["MINUTES"] or 0) * 60 or GENERATE_S,
        limit_s=math.inf if GIVEN["MINUTES"] else LIMIT_S,
        number=int(GIVEN["NUMBER"] or 1 << 60),
        services=frozenset(GIVEN["SERVICES"].split(",") if GIVEN["SERVICES"] else QUEUES),
        chosen=GIVEN["ONLY"],
        brief=not isinstance(door, Spool) and not GIVEN["MINUTES"],
    )
    trial = Trial(site, plan, spool=isinstance(door, Spool))
    trial.run()
    told = f"seed {plan.seed}: {report(trial, tmp_path / 'failing')}"
    print(told)
    if trial.faults:
        pytest.fail(told, pytrace=False)
