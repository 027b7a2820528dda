"""Rules of what a run wrote: what differs from a listing that was taken before its start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.program import listing
from zwrap.program.listing import NOT_LISTED, begun, keep, kept, taken
from zwrap.program.reading import parse_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.replay import replay
from zwrap.wrapper.step import LISTING, ProgramStep

OLD = (500_000_000, 500_000_000)
"""Times of access and change of an old file, in seconds since the epoch."""


@pytest.fixture
def working(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    return directory


def old(file: Path, text: str = "old") -> Path:
    file.write_text(text)
    os.utime(file, OLD)
    return file


def failures(working: Path, command: str, attempt: Path | None = None, **success: Any) -> list[str]:
    """Run a shell command as a step; the failures of the step."""
    given = {"command": ["/bin/sh", "-ec", command], "success": success}
    node = {"job_parameters": {"working_directory": str(working)}}
    envelope = Envelope(Recipe({"start": [[1, 0]], "1": node}), 1)
    definition = parse_definition(given, "here", "prog")
    step = ProgramStep(definition, envelope, Heartbeat("prog", "prog", {}), attempt=attempt)
    return step.run(lambda _: contextlib.nullcontext()).failures


BRINGS = [
    "tar xf {saved}/saved.tar", "cp -p {saved}/it .", "mv {saved}/it .", "ln {saved}/it it",
    "cat {saved}/it > it; touch -r {saved}/it it", "rsync -a {saved}/it .",
    "unzip -q {saved}/saved.zip",
]  # fmt: skip


@pytest.fixture(params=BRINGS)
def brings(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a command that brings a file with an old time stamp."""
    command: str = request.param
    if not shutil.which(command.split()[0]):
        pytest.skip(f"{command.split()[0]} is not installed")
    saved = tmp_path / "saved"
    saved.mkdir()
    old(saved / "it")
    for form in ("tar", "zip"):
        shutil.make_archive(str(tmp_path / "saved"), form, saved, "it")
        (tmp_path / f"saved.{form}").replace(saved / f"saved.{form}")
    return command.format(saved=saved)


def test_a_result_that_keeps_the_time_stamp_of_its_original_counts(
    working: Path, brings: str
) -> None:
    assert failures(working, brings, files=["it"]) == []


def test_an_error_file_that_keeps_the_time_stamp_of_its_original_is_a_failure(
    working: Path, brings: str
) -> None:
    assert failures(working, brings, no_files=["i*"]) == ["prog: it left it, which ends with: old"]


@pytest.mark.parametrize("stamp", [OLD, (4e9, 4e9), None])
def test_what_was_there_before_and_is_not_touched_does_not_count(
    working: Path, stamp: tuple[float, float] | None
) -> None:
    """Neither does what has a time stamp in the future, or was made just before the start."""
    (working / "it").write_text("old")
    if stamp:
        os.utime(working / "it", stamp)
    assert failures(working, "cat it", no_files=["it"]) == []
    assert failures(working, "true", files=["it"]) == [
        "prog: it did not write it (only one from before this run is there)"
    ]


@pytest.mark.parametrize(
    "command",
    [
        "printf new > it",
        "printf new > it; touch -d @500000000 it",
        "cp -p it copy; mv copy it",
        "printf new > new; touch -d @500000000 new; mv new it",
        "ln -sf other it",
    ],
)
def test_a_file_that_is_written_again_counts_whatever_its_size_and_time_stamp(
    working: Path, command: str
) -> None:
    old(working / "it")
    old(working / "other")
    assert failures(working, command, files=["it"]) == []


def test_files_below_and_elsewhere_are_told_apart_likewise(working: Path, tmp_path: Path) -> None:
    for place in (working / "inner", tmp_path / "elsewhere"):
        place.mkdir()
        (place / "it").write_text("old")
    files = ["*/it", f"{tmp_path}/elsewhere/*", f"{working}/inner/it"]
    assert len(failures(working, "true", files=files)[0].split("only one from before")) == 4
    again = f"printf new > {tmp_path}/elsewhere/it; printf new > inner/it"
    assert failures(working, again, files=files) == []


def test_only_files_that_a_pattern_matches_are_listed(working: Path) -> None:
    for name in ("a.mtz", "b.cbf"):
        (working / name).touch()
    (working / "c.mtz").mkdir()
    found = taken(working, ["*.mtz", "a*", "absent"])
    assert set(found.files) == {"a.mtz"}
    assert found.patterns == {"*.mtz", "a*", "absent"}


@pytest.mark.parametrize("limit", ["number", "time"])
def test_where_there_are_too_many_files_time_stamps_decide(
    working: Path, limit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A change that no program can hide, that of the inode, still counts."""
    if limit == "number":
        monkeypatch.setattr(listing, "LISTED_FILES", 3)
    for number in range(5):
        old(working / f"{number}.cbf")
    old(working / "it")
    times: Iterator[float] = iter([0.0, *[1.0] * 3, *[100.0] * 9])
    clock = (lambda: 0.0) if limit == "number" else (lambda: next(times))
    found = taken(working, ["*.cbf", "it"], clock)
    assert found.patterns == ({"it"} if limit == "number" else set())
    assert "Not all files that match '*.cbf' are listed" in caplog.text

    def differs(name: str, began: float) -> bool:
        return found.differs(name, "*.cbf", (working / name).stat(), began)

    changed = (working / "1.cbf").stat().st_ctime
    assert not differs("1.cbf", changed + 1)
    assert differs("1.cbf", changed)
    keep(found, working / "kept")
    assert not kept(working / "kept", working).differs(
        "1.cbf", "*.cbf", (working / "1.cbf").stat(), changed
    ), "later, everybody had time to change it"


@pytest.mark.parametrize("pattern", ["**/*.mtz", "*/*/*.mtz"])
@pytest.mark.parametrize("limit", ["number", "time"])
def test_a_search_that_finds_few_files_is_bounded_too(
    working: Path, pattern: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (working / f"{number}/in").mkdir(parents=True)
        old(working / f"{number}/in/a.cbf")
    times: Iterator[float] = iter([0.0, *[1.0] * 5, *[100.0] * 99])
    clock = (lambda: 0.0) if limit == "number" else (lambda: next(times))
    monkeypatch.setattr(listing, "MOST_VISITED", 30 if limit == "number" else 99)
    assert taken(working, [pattern, "3/in/a.cbf"], clock).patterns == (
        {"3/in/a.cbf"} if limit == "number" else set()
    )
    monkeypatch.setattr(listing, "MOST_VISITED", 60)
    assert taken(working, [pattern]).patterns == {pattern}


def test_directories_below_those_of_a_pattern_are_not_searched(
    working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (working / f"a/{number}").mkdir(parents=True)
        old(working / f"a/{number}/x.cbf")
    monkeypatch.setattr(listing, "MOST_VISITED", 25)
    assert taken(working, ["*/*", "*/*/*", "**/x"]).patterns == {"*/*"}


def test_a_pattern_that_cannot_be_listed_keeps_no_program_from_its_start(working: Path) -> None:
    assert taken(working, ["", "a"]).patterns == {"a"}


def test_a_run_begins_when_the_clock_has_passed_the_newest_file(working: Path) -> None:
    """A file that changes twice within one tick of the clock would look as it was."""
    (working / "it").touch()
    before = taken(working, ["it"])
    assert before.newest == pytest.approx((working / "it").stat().st_ctime, abs=1e-6)
    pauses: list[float] = []
    times = iter([before.newest, before.newest, before.newest + 1])
    assert begun(before, lambda: next(times), pauses.append) == before.newest + 1
    assert len(pauses) == 2


@pytest.mark.parametrize("off_s", [1.0, -100.0])
def test_a_run_does_not_wait_for_another_clock(working: Path, off_s: float) -> None:
    (working / "it").touch()
    before = taken(working, ["it"])
    assert begun(before, lambda: before.newest + off_s, pytest.fail) == before.newest + off_s
    assert begun(NOT_LISTED, lambda: 0.0, pytest.fail) == 0.0


def test_a_clock_that_stands_still_is_waited_for_a_moment_only(working: Path) -> None:
    (working / "it").touch()
    before, pauses = taken(working, ["it"]), list[float]()
    assert begun(before, lambda: before.newest, pauses.append) == before.newest
    assert sum(pauses) < 2


# -- a listing that was kept -----------------------------------------------------------------------


def test_a_listing_is_read_as_it_was_kept(working: Path, tmp_path: Path) -> None:
    (working / os.fsdecode(b"\xe9.mtz")).touch()
    (working / "null.mtz").touch()
    before = taken(working, ["*.mtz", "absent"])
    keep(before, tmp_path / LISTING)
    working.rename(tmp_path / "moved")
    found = kept(tmp_path / LISTING, tmp_path / "moved")
    assert (found.files, found.patterns) == (before.files, before.patterns)
    assert len(found.files) == 2


def test_without_a_listing_that_can_be_used_time_stamps_decide(
    working: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / LISTING
    assert kept(file, working) == NOT_LISTED
    assert caplog.text == "", "earlier releases keep none"
    for content in ("", "{", "[]", '{"files": {"a": [1]}}', '{"directory": "x"}'):
        file.write_text(content)
        assert kept(file, working) == NOT_LISTED
        assert "cannot be used" in caplog.text
        caplog.clear()
    file.unlink()
    file.symlink_to(working)
    assert kept(file, working) == NOT_LISTED
    file.unlink()
    keep(taken(working, []), file)
    copy = shutil.copytree(working, tmp_path / "copy")
    assert kept(file, copy) == NOT_LISTED
    assert "is a copy" in caplog.text


def test_a_replay_judges_by_the_listing_of_the_run(working: Path) -> None:
    attempt = working / ".zwrap" / "t-1"
    attempt.mkdir(parents=True)
    parameters = {
        "working_directory": str(working),
        "command": ["true"],
        "success": {"no_files": ["error"], "files": ["it"]},
    }
    body = {
        "recipe": {"start": [[1, []]], "1": {"job_parameters": parameters}},
        "recipe-pointer": 1, "recipe-path": [], "payload": [], "environment": {},
    }  # fmt: skip
    (attempt / "envelope.json").write_text(json.dumps(body))
    (working / "error").write_text("of an earlier run")
    source = old(working.parent / "it")
    command = f"cp -p {source} ."
    success: Any = parameters["success"]
    assert failures(working, command, attempt, **success) == []
    assert replay(working, wrapper="command", exit_status=0).failures == []
    (working / "error").write_text("of this run")
    [failure] = replay(working, wrapper="command", exit_status=0).failures
    assert "it left error" in failure


def test_a_second_run_of_an_attempt_has_a_listing_of_its_own(working: Path, tmp_path: Path) -> None:
    """The batch system requeued the job: what the first run left is of no later one."""
    attempt = tmp_path / "t-1"
    attempt.mkdir()
    assert failures(working, "echo 1 > it", attempt, files=["it"]) == []
    assert kept(attempt / LISTING, working).files == {}
    [failure] = failures(working, "true", attempt, files=["it"])
    assert "only one from before this run" in failure
    assert set(kept(attempt / LISTING, working).files) == {"it"}
