"""A known error is a label for all who ask, and its correction is tried by a further attempt."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from .conftest import Site
from .ends import Wait, concluded, described, second_attempt, submit, told
from .jobs import run

FINDER = {
    "command": ["sh", "-c", "{script}"],
    "inputs": {"script": {"type": "text"}, "depth": {"type": "integer", "default": 1}},
    "environment": {"DEPTH": "{depth}"},
    "errors": [
        {
            "where": "stderr",
            "pattern": "no solution at depth (?P<depth>[0-9]+)",
            "cause": "too-shallow",
            "says": "no solution was found at depth {depth}",
            "remedy": "search deeper",
            "retry": {"set": {"depth": 2}},
        }
    ],
}
"""Definition of a program that finds a solution only if it searches deeply."""

SCRIPT = '[ "$DEPTH" -ge {} ] || {{ echo "no solution at depth $DEPTH" >&2; exit 1; }}'
WRAP = "zocalo.wrap --wrap finder --recipewrapper $RECIPEWRAP"


@pytest.fixture
def finder(site: Site) -> Site:
    """Return a site with the program; its jobs run on this machine."""
    programs = site.directory / "programs"
    programs.mkdir()
    (programs / "finder.yaml").write_text(yaml.safe_dump(FINDER))
    site.settings["zwrap.program_directory"] = str(programs)
    described(site, "local", {})
    site.service("Watcher")
    return site


def start(site: Site, least: int, policy: dict[str, Any]) -> None:
    """Submit a step whose search succeeds at a depth of at least so many."""
    program = {"finder": {"script": SCRIPT.format(least)}}
    submit(site, "find", "true", policy, program, commands=WRAP)


def test_without_leave_the_label_is_told_and_no_attempt_follows(
    finder: Site, wait_until: Wait
) -> None:
    start(finder, 2, {})
    job = concluded(finder, wait_until, "find")
    assert (job["outcome"], job["cause_label"]) == ("failure", "too-shallow")
    assert "no solution was found at depth 1" in job["cause"]
    assert "too-shallow" in run(finder, "jobs").stdout
    heard = told(finder)
    [failure] = heard["failure"]
    assert "no solution was found at depth 1" in str(failure)
    [error] = heard["errors"]
    assert (error["cause_label"], error["remedy"]) == ("too-shallow", "search deeper")


def test_with_leave_a_further_attempt_is_corrected(finder: Site, wait_until: Wait) -> None:
    start(finder, 2, {"retry": {"corrections": True}})
    first = concluded(finder, wait_until, "find", attempt=1)
    assert (first["outcome"], first["cause_label"]) == ("retried", "too-shallow")
    later = second_attempt(finder, wait_until)
    assert later["corrected"] == [{"step": 1, "cause": "too-shallow", "set": {"depth": 2}}]
    heard = told(finder)
    assert heard["success"] == ["Finished processing"]
    assert "failure" not in heard


def test_a_correction_that_did_not_help_is_not_made_again(finder: Site, wait_until: Wait) -> None:
    start(finder, 3, {"retry": {"corrections": ["too-shallow"], "limit": 5}})
    concluded(finder, wait_until, "find", attempt=1)
    later = second_attempt(finder, wait_until, "failure")
    assert later["cause_label"] == "too-shallow"
    assert "no solution was found at depth 2" in later["cause"]
    assert len(told(finder)["failure"]) == 1
