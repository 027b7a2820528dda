"""Rules of what is found by name: own parts first, then those of every installed distribution."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
import zwrap_schedulers.local
import zwrap_schedulers.slurm.slurm  # noqa: F401 - before a test changes the path

from zwrap.plugins import registry
from zwrap.plugins.entrypoints import entries
from zwrap.wrapper.python import DummyWrapper

from .installed import install

GROUP = registry.WRAPPERS


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two directories that are all of the path."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    monkeypatch.setattr(sys, "path", [*map(str, places), str(tmp_path / "absent")])
    return places


def found() -> list[str]:
    """Names in the group, which must be those that Python's own reader finds."""
    own = registry.OWN[GROUP]
    names = [name for name in registry.names(GROUP) if name not in own]
    assert names == sorted({entry.name for entry in metadata.entry_points(group=GROUP)})
    return names


def test_distributions_with_the_same_beginning_of_their_names_are_different_ones(
    path: list[Path],
) -> None:
    install(path[0], "mysite.wrappers-1.0.dist-info", f"[{GROUP}]\nalpha = a:A")
    install(path[0], "mysite.services-1.0.dist-info", f"[{GROUP}]\nbeta = b:B")
    install(path[1], "mysite-1.0.dist-info", f"[{GROUP}]\ngamma = c:C")
    install(path[1], "mysite_tools-1.0.dist-info", f"[{GROUP}]\ndelta = d:D")
    assert found() == ["alpha", "beta", "delta", "gamma"]


def test_the_same_distribution_counts_once_as_it_is_first_on_the_path(path: list[Path]) -> None:
    install(path[0], "My.Site-2.0.dist-info", f"[{GROUP}]\nnew = a:A", "My.Site")
    install(path[1], "my_site-1.0.dist-info", f"[{GROUP}]\nold = a:B", "my-site")
    install(path[0], "bare-2.0.dist-info", "[other]\nnew = a:A")
    install(path[1], "bare-1.0.dist-info", f"[{GROUP}]\nleft-behind = a:B")
    assert found() == ["new"]


def test_what_is_installed_as_an_egg_or_has_no_version_is_found(path: list[Path]) -> None:
    for directory in ("plain.egg-info", "dotted.name.egg-info", "dotted.other-1.egg-info"):
        install(path[0], directory, f"[{GROUP}]\n{directory.partition('-')[0]} = a:A")
    assert found() == ["dotted.name.egg", "dotted.other", "plain.egg"]


def test_a_foreign_part_is_loaded_and_an_own_name_is_not_taken_away(path: list[Path]) -> None:
    entries = f"[{GROUP}]\nmine = theirs.parts:Part.inner [extra]\ndummy = theirs.parts:Part"
    install(path[0], "theirs-1.dist-info", entries)
    (path[0] / "theirs").mkdir()
    (path[0] / "theirs" / "parts.py").write_text("class Part:\n    inner = 'found'\n")
    try:
        assert registry.find(GROUP, "mine") == "found"
        assert registry.foreign(GROUP) == ["found"]
        assert registry.find(GROUP, "dummy") is DummyWrapper
        assert registry.find(GROUP, "other") is None
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
            del sys.modules[name]


def test_a_site_replaces_a_batch_system_by_its_own(
    path: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = registry.OWN[registry.SCHEDULERS]
    lines = "\n".join(f"{name} = {value}" for name, value in own.items())
    install(path[0], "zwrap-1.dist-info", f"[{registry.SCHEDULERS}]\n{lines}")
    assert registry.find_preferred(registry.SCHEDULERS, "slurm").__name__ == "Slurm"
    install(path[1], "theirs-1.dist-info", f"[{registry.SCHEDULERS}]\nslurm = their_batch:Ours")
    (path[1] / "their_batch.py").write_text("class Ours:\n    pass\n")
    monkeypatch.delitem(sys.modules, "their_batch", raising=False)
    assert registry.find_preferred(registry.SCHEDULERS, "slurm").__name__ == "Ours"
    assert registry.find_preferred(registry.SCHEDULERS, "local").__name__ == "Local"
    assert registry.find_preferred(registry.SCHEDULERS, "other") is None
    del sys.modules["their_batch"]


@pytest.mark.parametrize("upstream", ["workflows.odd:Odd", "zocalo.odd:Odd"])
def test_what_is_said_to_be_used_is_used_under_a_name_that_zwrap_does_not_have(
    path: list[Path], monkeypatch: pytest.MonkeyPatch, upstream: str
) -> None:
    install(path[0], "base-1.dist-info", f"[{registry.SERVICES}]\nOdd = {upstream}")
    install(path[1], "theirs-1.dist-info", f"[{registry.SERVICES}]\nOdd = their_odd:Odd")
    (path[1] / "their_odd.py").write_text("class Odd:\n    pass\n")
    monkeypatch.delitem(sys.modules, "their_odd", raising=False)
    assert registry.choice(registry.SERVICES, "Odd", "").startswith("'Odd' is class their_odd:Odd")
    assert registry.find_preferred(registry.SERVICES, "Odd").__module__ == "their_odd"
    del sys.modules["their_odd"]


def test_an_entry_says_whose_it_is_and_the_order_is_always_the_same(path: list[Path]) -> None:
    for directory in ("zebra-1.0.dist-info", "Ant.Eater-2.0.dist-info", "mole-3.0.dist-info"):
        install(path[0], directory, f"[{GROUP}]\nsame = a:A [extra]")
    install(path[1], "bee-1.dist-info", f"[{GROUP}]\nsame = a:A")
    assert [(each.distribution, each.version) for each in entries(GROUP)] == [
        ("ant_eater", "2.0"), ("mole", "3.0"), ("zebra", "1.0"), ("bee", "1"),
    ]  # fmt: skip
    assert str(entries(GROUP)[1]) == f"class a:A of distribution mole 3.0 in {path[0]}"
    assert [each.distribution for each in entries(GROUP, [str(path[1])])] == ["bee"]


def test_parts_are_not_registered_where_other_programs_make_objects_of_them() -> None:
    """python-workflows makes an object of each transport without arguments, to ask its options."""
    groups = {entry.group for entry in metadata.distribution("zwrap").entry_points}
    assert groups == {registry.PROGRAMS, registry.SCHEDULERS, registry.INSIDE}
    assert groups == set(registry.PUBLISHED)
