"""Rules of the chains of scripts/conformance: what counts as a difference."""

from __future__ import annotations

import importlib
import uuid
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("conformances.frames")


def differences(frames: Any, *both: Any) -> list[str]:
    found: list[str] = frames.Comparison({"/tmp/x": "SITE"}).differences([both[0]], [both[1]])
    return found


def test_order_of_keys_uuids_and_directories_do_not_count(frames: Any) -> None:
    body = b'{"id": "%s", "file": "/tmp/x/f", "n": 1.0}'
    one = frames.Frame("q", body % str(uuid.uuid4()).encode(), {"h": "v"}, {"p": 1})
    body = b'{"n":1.0,"file":"SITE/f","id":"%s"}'
    other = frames.Frame("q", body % str(uuid.uuid4()).encode(), {"h": "v"}, {"p": 1})
    assert differences(frames, one, other) == []


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (("p", b"1"), ("q", b"1"), "there are messages in ['p'], not in ['q']"),
        (("q", b"1"), ("q", b"1.0"), "body is 1, not 1.0"),
        (("q", b"1"), ("q", b"true"), "body is 1, not True"),
        (("q", b'{"a": [{"b": 1}]}'), ("q", b'{"a": [{"c": 1}]}'), "body.a.0.c is missing"),
        (("q", b"[1, 2]"), ("q", b"[1]"), "body is [1, 2], not [1]"),
        (("q", b"1", {"h": True}), ("q", b"1", {"h": "True"}), "header h is True, not 'True'"),
        (("q", b"1", {}, {"p": 1}), ("q", b"1"), "property p is added"),
    ],
)
def test_what_counts_is_told(
    frames: Any, one: tuple[Any, ...], other: tuple[Any, ...], told: str
) -> None:
    found = differences(frames, frames.Frame(*one), frames.Frame(*other))
    assert told in found
    assert not any(frames.reason("chains/x/ours::go", each) for each in found)


def test_a_message_too_many_is_a_difference(frames: Any) -> None:
    frame = frames.Frame("q", b"1")
    found = frames.Comparison({}).differences([frame, frame], [frame])
    assert found == ["there are messages in ['q', 'q'], not in ['q']"]


def test_headers_of_zwrap_are_listed(frames: Any) -> None:
    frame = frames.Frame("q", b"1", {"zwrap-id": "x"})
    [found] = differences(frames, frame, frames.Frame("q", b"1"))
    assert frames.reason("chains/x/ours::go", found)
    assert not frames.reason("chains/x/ours::go", found.replace("added", "missing"))
