"""Rules of results elsewhere: links, copies, and the program's directory on the local disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from zwrap.errors import ProgramError
from zwrap.program.judgement import ResultRecord
from zwrap.wrapper import results
from zwrap.wrapper.scratch import ScratchDirectory


@pytest.fixture
def working(tmp_path: Path) -> Path:
    directory = tmp_path / "visit" / "run" / "17"
    (directory / "inner").mkdir(parents=True)
    return directory


def record(file: Path) -> ResultRecord:
    file.write_text(file.name)
    return {
        "file_path": str(file.parent), "file_name": file.name, "file_type": "result",
        "importance_rank": 1,
    }  # fmt: skip


def paths(records: list[ResultRecord]) -> list[Path]:
    return [Path(each["file_path"], each["file_name"]) for each in records]


def test_copies_keep_their_place_below_the_working_directory(working: Path, tmp_path: Path) -> None:
    target = tmp_path / "processed"
    files = [working / "inner" / "a.mtz", tmp_path / "elsewhere.mtz"]
    records = [record(file) for file in files]
    copied = results.copied(records, working, {"results_directory": str(target)})
    assert paths(copied) == [target / "inner" / "a.mtz", target / "elsewhere.mtz"]
    assert [file.read_text() for file in paths(copied)] == ["a.mtz", "elsewhere.mtz"]
    assert paths(records) == files, "the records given are not changed"
    assert copied[0]["importance_rank"] == 1
    assert [file.name for file in target.rglob(".*")] == []


def test_without_a_place_or_results_no_file_is_copied(working: Path, tmp_path: Path) -> None:
    target = tmp_path / "processed"
    assert results.copied([], working, {"results_directory": str(target)}) == []
    assert not target.exists()
    records = [record(working / "a")]
    assert results.copied(records, working, {}) == records


def test_final_files_are_copied_to_their_own_place_too(working: Path, tmp_path: Path) -> None:
    final = tmp_path / "final"
    records = [record(working / "a.mtz"), record(working / "a.log")]
    parameters = {"pipeline-final": {"path": str(final), "patterns": ["*.mtz", "b*"]}}
    assert results.copied(records, working, parameters) == records
    assert [file.name for file in final.iterdir()] == ["a.mtz"]


@pytest.mark.parametrize(
    ("group", "name"),
    [("P212121", "auto-P212121"), (["I23"], "auto-I23"), ("P 21/c", "auto"), ("", "auto"),
     ([], "auto"), (None, "auto"), (5, "auto")],
)  # fmt: skip
def test_a_run_in_a_space_group_that_was_asked_for_has_a_link_of_its_own(
    working: Path, group: object, name: str
) -> None:
    """The link of the automatic run stays as it is."""
    asked = {"create_symlink": "auto", "ispyb_parameters": {"spacegroup": group, "d_min": "2"}}
    results.link(working, asked)
    links = [each.name for each in working.parents[1].iterdir() if each.is_symlink()]
    assert links == [name]


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"results_directory": "processed"}, "'results_directory' is 'processed'; an absolute"),
        ({"results_directory": 17}, "'results_directory' is 17"),
        ({"pipeline-final": "x"}, "'pipeline-final' must hold 'path' and a list of 'patterns'"),
        ({"pipeline-final": {"path": "/x", "patterns": "*"}}, "a list of 'patterns'"),
        ({"pipeline-final": {"patterns": ["*"]}}, "'pipeline-final.path' is None"),
    ],
)
def test_a_place_that_is_not_usable_is_named(
    working: Path, parameters: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        results.copied([record(working / "a")], working, parameters)


def test_a_file_in_the_way_is_named(working: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProgramError, match="file/x cannot be made: Not a directory"):
        results.copied(
            [record(working / "a")], working, {"results_directory": f"{tmp_path}/file/x"}
        )


def test_the_link_is_two_levels_above_and_follows_the_last_run(working: Path) -> None:
    results.link(working, {})
    results.link(working, {"create_symlink": "latest"})
    place = working.parents[1] / "latest"
    assert place.readlink() == Path("run/17")
    other = working.parent / "18"
    other.mkdir()
    results.link(other, {"create_symlink": "latest"})
    assert place.readlink() == Path("run/18")


@pytest.mark.parametrize("name", ["a/b", "..", ".zwrap", ".", 17])
def test_a_link_of_another_form_is_refused(working: Path, name: object) -> None:
    with pytest.raises(ProgramError, match="the name of a link is expected"):
        results.link(working, {"create_symlink": name})


def test_there_must_be_two_levels_above_for_a_link() -> None:
    with pytest.raises(ProgramError, match="There is no place two levels above"):
        results.link(Path("/a"), {"create_symlink": "x"})


@pytest.mark.parametrize(
    ("rule", "failed", "kept"),
    [
        ("remove", True, False), ("remove", False, False), ("keep", False, True),
        ("keep", True, True), ("keep_on_failure", True, True), ("keep_on_failure", False, False),
    ],
)  # fmt: skip
def test_the_directory_on_the_local_disk_is_kept_by_its_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, failed: bool, kept: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch = ScratchDirectory(rule)
    with scratch.made():
        assert scratch.path.parent == tmp_path
        assert scratch.path.stat().st_mode & 0o777 == 0o700
        (scratch.path / "file").touch()
        scratch.failed = failed
    assert scratch.path.exists() is kept


def test_a_program_that_ended_in_an_exception_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch = ScratchDirectory("keep_on_failure")
    with pytest.raises(KeyError), scratch.made():
        raise KeyError
    assert scratch.path.exists()


def test_a_local_disk_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "gone"))
    with (
        pytest.raises(ProgramError, match="cannot be made: No such file"),
        ScratchDirectory("remove").made(),
    ):
        pass
