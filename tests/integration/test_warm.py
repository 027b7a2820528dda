"""The program that starts commands for the tests."""

from __future__ import annotations

import os

from zwrap.host.processes import processes

from .warm import warm


def test_a_wrapper_in_the_process_of_the_tests_does_not_end_it() -> None:
    """Such a wrapper ends all children of its process."""
    session = warm().session
    parents = [each.parent for each in processes() if each.session == session]
    assert parents
    assert os.getpid() not in parents
