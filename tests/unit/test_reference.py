"""The reference of the keys of a definition: docs/programs.md holds what the types say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module that makes the reference."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import reference as module

    return module


def test_the_page_holds_what_the_types_say(reference: ModuleType) -> None:
    page = (ROOT / "docs" / "programs.md").read_text()
    for name in ("keys", "parsers"):
        marks = reference.BEGIN.format(name), reference.END.format(name)
        assert [page.count(mark) for mark in marks] == [1, 1]
    assert reference.replaced(page) == page, "run scripts/reference"


def test_each_key_of_a_definition_has_a_meaning(reference: ModuleType) -> None:
    without = [
        f"{kind.__name__}.{field.name}"
        for _, kind in reference.every()
        for field in msgspec.structs.fields(kind)
        if not reference.docstrings(kind).get(field.name)
    ]
    assert without == []
