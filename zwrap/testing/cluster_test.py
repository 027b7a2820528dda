"""The contract of batch systems, run against the cluster that an option names."""

from __future__ import annotations

import pytest

from zwrap.testing.scheduler_test import SchedulerContract


class TestCluster(SchedulerContract):
    """The contract on one cluster of the site file."""

    @pytest.fixture
    def cluster(self, pytestconfig: pytest.Config) -> str:
        """Return the value of ``--cluster``."""
        name = pytestconfig.getoption("--cluster")
        if not name:
            pytest.fail("--cluster NAME is missing: a cluster of the site file is expected.")
        return str(name)

    @pytest.fixture
    def alone(self, pytestconfig: pytest.Config) -> dict[str, object] | None:
        """Return the keys and values of ``--alone``."""
        pairs = [str(given).partition("=") for given in pytestconfig.getoption("--alone")]
        return {key: value for key, _, value in pairs} or None

    @pytest.fixture
    def limit_s(self, pytestconfig: pytest.Config) -> float:
        """Return the value of ``--limit-s``."""
        return float(pytestconfig.getoption("--limit-s"))
