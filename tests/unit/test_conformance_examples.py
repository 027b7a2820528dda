"""The script that compares examples under python-zocalo and under zwrap (scripts/conformance)."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("conformances.examples")


def way(script: Any, name: str, seen: dict[str, list[str]]) -> Any:
    made = script.Way(name, Path("python"), Path("packages"), Path("place"))
    made.seen["Follower"] = seen
    return made


SAME = {"Follower.every": ["2", "4"], "Follower.last": ["5"]}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (SAME, "service Follower, ours: the same (messages: 3)"),
        ({**SAME, "Follower.every": ["4", "2"]}, "Follower.every, ours: DIFFERS: expected 2, came"),
        ({**SAME, "Follower.every": ["2"]}, "DIFFERS: expected 2 of them, came 1"),
        ({**SAME, "dead letters of q": ["x"]}, "Follower dead letters of q, ours: DIFFERS"),
    ],
)
def test_each_difference_is_told_and_counted(
    script: Any, seen: dict[str, list[str]], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [script.Example("services", "Follower", {"messages": 3})]
    number = script.report(parts, way(script, "theirs", SAME), [way(script, "ours", seen)])
    assert number == (seen != SAME)
    assert told in capsys.readouterr().out


def test_a_listed_difference_is_told_with_its_reason_and_does_not_count(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        script,
        "reasons",
        lambda: {"Follower Follower.last, ours": "Because.", "Follower x, ours": "Why."},
    )
    parts = [script.Example("services", "Follower", {"messages": 3})]
    other = way(script, "ours", {**SAME, "Follower.last": ["6"]})
    assert script.report(parts, way(script, "theirs", SAME), [other]) == 0
    told = capsys.readouterr().out
    assert "Follower Follower.last, ours: Because." in told
    assert "Follower x, ours is listed, and does not differ" in told
    assert script.report(
        parts, way(script, "theirs", SAME), [way(script, "others", other.seen["Follower"])]
    )


def test_an_example_that_does_less_under_python_zocalo_than_it_should_counts(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [script.Example("services", "Follower", {"messages": 4})]
    assert script.report(parts, way(script, "theirs", SAME), [way(script, "ours", SAME)]) == 1
    assert "Follower: 3 messages under python-zocalo, and not 4" in capsys.readouterr().out


def test_the_rule_of_the_docs_leaves_no_import_of_the_old_packages(
    script: Any, tmp_path: Path
) -> None:
    old = re.compile(r"^\s*(from|import) (zocalo|workflows)\b", re.MULTILINE)
    originals = script.sources(tmp_path / "original", changed=False)
    assert sum(len(old.findall(file.read_text())) for file in originals.rglob("*.py")) > 10
    for file in script.sources(tmp_path / "changed", changed=True).rglob("*.py"):
        assert not old.findall(file.read_text()), file


def test_every_installed_example_is_given_something(script: Any) -> None:
    project = tomllib.loads((script.EXAMPLES / "pyproject.toml").read_text())["project"]
    groups = project["entry-points"]
    given = {each.name for each in script.examples() if each.kind != "tools"}
    assert given == {*groups["workflows.services"], *groups["zocalo.wrappers"]}


def test_each_listed_difference_is_that_of_an_example_and_has_a_reason(script: Any) -> None:
    names = {each.name for each in script.examples()}
    for where, reason in script.reasons().items():
        assert where.partition(" ")[0] in names
        assert reason.endswith(".")
