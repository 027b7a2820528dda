"""Command line ``python -m zwrap.testing``: the contract of batch systems on a site's cluster."""

from __future__ import annotations

import sys

import pytest


def main(arguments: list[str]) -> int:
    """Run the contract with options of pytest and `zwrap.testing.options`; return the status."""
    suite = ["-p", "zwrap.testing.options", "--pyargs", "zwrap.testing.cluster_test"]
    return int(pytest.main([*suite, *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
