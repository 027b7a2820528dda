"""Where `zwrap replay` finds the attempt of a directory, and the directory of its program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import ProgramError
from zwrap.wrapper.replay import replay


def run_in(job: Path, working: str | None, outer: str | None) -> Path:
    """Leave what a job in a directory leaves whose program ran in `working`; return that."""
    place = job / (working or "")
    place.mkdir(parents=True)
    (place / "found").write_text("x")
    parameters: dict[str, Any] = {"command": ["true"], "success": {"files": ["found"]}}
    if working is not None:
        parameters["working_directory"] = str(place)
    step: dict[str, Any] = {"job_parameters": parameters}
    if outer is not None:
        step["parameters"] = {"workingdir": outer}
    attempt = job / ".zwrap" / "t-1"
    attempt.mkdir(parents=True)
    body = {
        "recipe": {"start": [[1, []]], "1": step},
        "recipe-pointer": 1, "recipe-path": [], "payload": [], "environment": {},
    }  # fmt: skip
    (attempt / "envelope.json").write_text(json.dumps(body))
    return place


def failures(directory: Path) -> list[str]:
    return replay(directory, wrapper="command", exit_status=0, copy=False).failures


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_program_that_ran_beside_its_attempt_is_judged_there(
    tmp_path: Path, is_recorded: bool
) -> None:
    job = tmp_path / "job"
    working = run_in(job, "spots", str(job) if is_recorded else None)
    below = working / "more"
    below.mkdir()
    for place in (job, job / ".zwrap" / "t-1", working, below):
        assert failures(place) == []
    (working / "found").unlink()
    for place in (job, job / ".zwrap" / "t-1", working, below):
        assert failures(place) == ["command: it did not write found"]


@pytest.mark.parametrize("working", ["spots", "", None])
def test_a_directory_that_was_moved_or_copied_is_judged_where_it_is(
    tmp_path: Path, working: str | None
) -> None:
    job = tmp_path / "job"
    run_in(job, working, str(job))
    shutil.copytree(job, tmp_path / "copy")
    job.rename(tmp_path / "moved")
    assert failures(tmp_path / "moved") == []
    (tmp_path / "copy" / (working or "") / "found").unlink()
    assert failures(tmp_path / "copy") == ["command: it did not write found"]
    (tmp_path / "moved").rename(job)
    assert failures(tmp_path / "copy") == ["command: it did not write found"]
    assert failures(job) == []


def test_a_copy_of_a_directory_whose_step_names_no_other_is_judged_itself(tmp_path: Path) -> None:
    run_in(tmp_path / "job", "", None)
    shutil.copytree(tmp_path / "job", tmp_path / "copy")
    (tmp_path / "copy" / "found").unlink()
    assert failures(tmp_path / "copy") == ["command: it did not write found"]
    assert failures(tmp_path / "job") == []


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    job = tmp_path / "job"
    working = run_in(job, "spots", str(job))
    shutil.rmtree(working)
    with pytest.raises(ProgramError, match=f"{working}, is not there"):
        failures(job)


def test_a_directory_in_which_the_program_did_not_run_is_refused(tmp_path: Path) -> None:
    job = tmp_path / "job"
    run_in(job, "spots", str(job))
    (job / "other").mkdir()
    with pytest.raises(ProgramError, match=r"other is no directory of the attempt .*t-1"):
        failures(job / "other")
