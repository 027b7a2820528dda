"""Options of pytest for the contract of batch systems on a site's cluster."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options to pytest."""
    group = parser.getgroup("zwrap", "contract of batch systems")
    group.addoption("--cluster", help="name of a cluster that the site file describes")
    group.addoption(
        "--alone", action="append", default=[], metavar="KEY=VALUE",
        help="key of a cluster block for a job beside which no other job of the user can start",
    )  # fmt: skip
    group.addoption(
        "--limit-s",
        type=float,
        default=60.0,
        help="longest wait for the start of a job, in seconds",
    )
