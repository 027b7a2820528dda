"""Options of pytest with which the contract of batch systems is run against a cluster."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("zwrap", "contract of batch systems")
    group.addoption("--cluster", help="name of a cluster that the site file describes")
    group.addoption(
        "--alone", action="append", default=[], metavar="KEY=VALUE",
        help="key of a cluster block of a job beside which no other of the user's can start",
    )  # fmt: skip
    group.addoption(
        "--limit-s", type=float, default=60.0, help="how long a job may wait for its start"
    )
