"""The references of keys and commands: the pages hold what the types and tables say."""

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


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("programs.md", ("keys", "parsers")), ("ispyb-commands.md", ("pipelines", "commands"))],
)
def test_the_page_holds_what_the_types_say(
    reference: ModuleType, name: str, blocks: tuple[str, ...]
) -> None:
    page = (ROOT / "docs" / name).read_text()
    for block in blocks:
        marks = reference.BEGIN.format(block), reference.END.format(block)
        assert [page.count(mark) for mark in marks] == [1, 1]
    assert reference.replaced(page, name) == page, "run scripts/reference"


def test_each_key_of_a_definition_has_a_meaning(reference: ModuleType) -> None:
    without = [
        f"{kind.__name__}.{field.name}"
        for _, kind in reference.every()
        for field in msgspec.structs.fields(kind)
        if not reference.docstrings(kind).get(field.name)
    ]
    assert without == []
