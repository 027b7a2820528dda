"""Saved real runs of xia2, replayed inside `zocalo.wrap`: how each is judged, and what is sent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site

TESTS = Path(__file__).parents[1]
SAVED = TESTS / "data/xia2/v3.12.0"
STAND_IN = TESTS / "programs/xia2"
CHANNELS = (
    "starting", "success", "failure", "completed", "ispyb", "result-individual-file",
    "result-all-files",
)  # fmt: skip


class Xia2:
    """A recipe step that runs xia2, each output of which leads to a queue of its own name."""

    def __init__(self, site: Site, tmp_path: Path) -> None:
        self.site = site
        self.working = tmp_path / "tmp" / "run" / "17"
        self.run_directory = self.working / "xia2-dials"
        self.attempts = 0

    def run(self, saved: Path, exit_status: int = 0, **parameters: Any) -> tuple[int, str]:
        """Run a step; exit status and log of the wrapper."""
        self.attempts += 1
        nodes = {str(number): {"queue": name} for number, name in enumerate(CHANNELS, 2)}
        step = {
            "queue": "cluster.submission",
            "job_parameters": {
                "working_directory": str(self.working),
                "xia2": {
                    "executable": str(STAND_IN),
                    "pipeline": "dials",
                    "images": "/a_1.cbf:1:60",
                },
                **parameters,
            },
            "output": {name: number for number, name in enumerate(CHANNELS, 2)},
        }
        self.working.mkdir(parents=True, exist_ok=True)
        file = self.working / "rw.json"
        file.write_text(
            json.dumps(
                {
                    "recipe": {"start": [[1, []]], "1": step, **nodes},
                    "recipe-pointer": 1,
                    "recipe-path": [],
                    "environment": {"ID": "guid"},
                    "payload": [],
                }
            )
        )
        environment = {"XIA2_REPLAY": str(saved), "XIA2_EXIT": str(exit_status)}
        done = self.site.run(
            "zocalo.wrap", "--wrap", "xia2", "--recipewrapper", str(file),
            env={**environment, "ZWRAP_LOCAL_JOB_ID": str(self.attempts)}, cwd=self.working,
        )  # fmt: skip
        return done.returncode, done.stderr

    def sent(self, channel: str) -> list[Any]:
        count = self.site.transport().inspector().waiting(channel)
        return [body["payload"] for body in self.site.take(channel, count)]


@pytest.fixture
def xia2(site: Site, tmp_path: Path) -> Xia2:
    return Xia2(site, tmp_path)


@pytest.fixture
def saved_run(tmp_path: Path) -> Path:
    """Return a copy of the successful run that a test may change."""
    return Path(shutil.copytree(SAVED / "success_insulin_sad", tmp_path / "saved"))


def test_a_good_run_sends_its_files_and_its_results(xia2: Xia2) -> None:
    status, log = xia2.run(SAVED / "success_insulin_sad")
    assert status == 0, log
    assert xia2.sent("success") == ["Finished processing"]
    command = json.loads((xia2.run_directory / "command-line.json").read_text())
    assert command == ["pipeline=dials", "image=/a_1.cbf:1:60"]

    [ispyb] = xia2.sent("ispyb")
    kinds = [command["ispyb_command"] for command in ispyb["ispyb_command_list"]]
    assert kinds[:3] == ["write_autoproc", "insert_scaling", "upsert_integration"]
    assert set(kinds[3:]) == {"add_program_message"}
    oracle = json.loads((SAVED / "success_insulin_sad/zocalo_object.json").read_text())
    scaling = ispyb["ispyb_command_list"][1]
    assert {shell: scaling[shell] for shell in ("overall", "innerShell", "outerShell")} == (
        oracle["scaling_statistics"]
    )

    records = {record["file_name"]: record for record in xia2.sent("result-individual-file")}
    listed = (SAVED / "success_insulin_sad/LISTING.txt").read_text().splitlines()[1:]
    names = {Path(line.split()[1]).name for line in listed}
    own = {"ispyb.json", "ispyb.xml", "zocalo_object.json"}  # written by other programs
    assert set(records) == names - own | {"xia2.log", "xia2.err"}
    kind = {name: (r["file_type"], r["importance_rank"]) for name, r in records.items()}
    assert kind["xia2.html"] == ("log", 1)
    assert kind["cm0001v1_xinsu1_free.mtz"] == ("result", 1)
    assert kind["cm0001v1_xinsu1_scaled.sca"] == ("result", 2)
    assert kind["cm0001v1_xinsu1_SAD_merging-statistics.json"] == ("graph", 2)
    assert kind["Xtriage.log"] == ("log", 2)
    [everything] = xia2.sent("result-all-files")
    assert set(everything) == {"filelist"}
    assert len(everything["filelist"]) == len(records)
    assert all(Path(name).is_absolute() for name in everything["filelist"])


def test_results_are_copied_and_linked_where_the_step_says(xia2: Xia2, tmp_path: Path) -> None:
    results = tmp_path / "processed" / "run" / "17"
    final = tmp_path / "final"
    status, log = xia2.run(
        SAVED / "success_insulin_sad",
        results_directory=str(results),
        create_symlink="latest",
        **{"pipeline-final": {"path": str(final), "patterns": ["*_free.mtz", "xia2.html"]}},
    )
    assert status == 0, log
    [everything] = xia2.sent("result-all-files")
    assert all(name.startswith(str(results / "xia2-dials")) for name in everything["filelist"])
    assert all(Path(name).is_file() for name in everything["filelist"])
    assert os.readlink(tmp_path / "processed" / "latest") == "run/17"
    assert os.readlink(tmp_path / "tmp" / "latest") == "run/17"
    assert sorted(path.name for path in final.iterdir()) == [
        "cm0001v1_xinsu1_free.mtz", "xia2.html",
    ]  # fmt: skip
    assert not list(results.rglob(".*"))


def test_a_place_for_results_that_cannot_be_written_is_a_failure(
    xia2: Xia2, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    status, _ = xia2.run(
        SAVED / "success_insulin_sad", results_directory=str(tmp_path / "file" / "x")
    )
    assert status == 1
    [failure] = xia2.sent("failure")
    assert "cannot be made: Not a directory" in failure
    assert xia2.sent("ispyb") == []


@pytest.mark.parametrize(
    ("saved", "cause", "words"),
    [
        (
            "fail_environment", "CCP4 is not set up (CCP4 is not defined)",
            ["it exited with status 1", "xia2.txt says: Error setting up xia2 environment: CCP4",
             "it left xia2-error.txt, which ends with: RuntimeError: CCP4 not defined - is CCP4"],
        ),
        (
            "fail_image_not_found_no_error_file",
            "the image /data/cm0001-1/raw/insulin/absent_1_0001.cbf was not found",
            ["xia2.txt says: Error: Could not find /data/cm0001-1/raw/insulin/absent_1_0001.cbf"],
        ),
    ],
)  # fmt: skip
def test_real_failures_say_what_xia2_said(
    xia2: Xia2, saved: str, cause: str, words: list[str]
) -> None:
    status, _ = xia2.run(SAVED / saved, exit_status=1)
    assert status == 1
    [failure] = xia2.sent("failure")
    assert failure.startswith(f"xia2: {cause}; xia2.txt says: Error")
    assert failure.count("; ") <= 4, "the cause, its marks, and one consequence"
    for word in words:
        assert word in failure
    assert xia2.sent("ispyb") == []
    records = xia2.sent("result-individual-file")
    assert {record["file_name"] for record in records} >= {"xia2.txt", "xia2-debug.txt"}
    assert not any("partial" in record for record in records)
    assert xia2.sent("completed") == ["Finished processing"]


def test_an_error_file_of_either_age_is_a_failure_whatever_the_exit_status(
    xia2: Xia2, saved_run: Path
) -> None:
    for name in ("xia2.error", "xia2-error.txt"):
        (saved_run / name).write_text("Traceback\n")
        assert xia2.run(saved_run)[0] == 1
        assert f"it left {name}" in xia2.sent("failure")[0]
        (saved_run / name).unlink()


def test_a_run_that_stops_after_integration_is_a_failure_with_partial_results(
    xia2: Xia2, saved_run: Path
) -> None:
    """A missing CCP4 program has this effect: xia2.json is there, without scaling results."""
    document = json.loads((saved_run / "xia2.json").read_text())
    document["_crystals"]["xinsu1"]["_scaler"] = None
    (saved_run / "xia2.json").write_text(json.dumps(document))
    status, _ = xia2.run(saved_run)
    assert status == 1
    assert "holds no scaling results (_scaler is null)" in xia2.sent("failure")[0]
    assert xia2.sent("ispyb") == []
    records = {record["file_name"]: record for record in xia2.sent("result-individual-file")}
    assert records["cm0001v1_xinsu1_free.mtz"]["partial"] is True
    assert "partial" not in records["xia2.txt"]
    assert xia2.sent("result-all-files")[0]["partial"] is True


@pytest.mark.parametrize("content", ["", "{", '{"_crystals": {}}', "[" * 10000, "\x00\xff"])
def test_a_damaged_xia2_json_is_a_failure_that_names_it(
    xia2: Xia2, saved_run: Path, content: str
) -> None:
    (saved_run / "xia2.json").write_text(content)
    assert xia2.run(saved_run)[0] == 1
    assert "xia2.json" in xia2.sent("failure")[0]


def test_files_of_an_earlier_run_neither_help_nor_harm(xia2: Xia2) -> None:
    assert xia2.run(SAVED / "success_insulin_sad")[0] == 0
    for channel in CHANNELS:
        xia2.sent(channel)
    status, _ = xia2.run(SAVED / "fail_environment", exit_status=1)
    assert status == 1
    assert "it did not write DataFiles/* (only one from before" in xia2.sent("failure")[0]
    names = {record["file_name"] for record in xia2.sent("result-individual-file")}
    assert names == {
        "xia2.txt", "xia2-error.txt", "xia2-debug.txt", "xia2.log", "xia2.err",
    }  # fmt: skip

    assert xia2.run(SAVED / "success_insulin_sad")[0] == 0, "the old xia2-error.txt is no failure"


def test_an_error_file_of_a_failed_attempt_does_not_stand_beside_later_results(
    xia2: Xia2, tmp_path: Path
) -> None:
    """Code of facilities takes a run for failed if that file is there."""
    results = tmp_path / "processed" / "run" / "17"
    assert xia2.run(SAVED / "fail_environment", exit_status=1, results_directory=str(results))[0]
    copied = results / "xia2-dials"
    assert (copied / "xia2-error.txt").is_file()
    status, log = xia2.run(SAVED / "success_insulin_sad", results_directory=str(results))
    assert status == 0, log
    assert not (copied / "xia2-error.txt").exists()
    assert f"{copied}/xia2-error.txt was removed: a failed attempt had copied it there." in log
    assert (xia2.run_directory / "xia2-error.txt").is_file()
    kept = sorted(file.name for file in xia2.working.glob(".zwrap/*/*.json"))
    assert kept == sorted(2 * ["claim.json", "envelope.json", "listing.json", "verdict.json"])
    named = {Path(name) for name in xia2.sent("result-all-files")[-1]["filelist"]}
    assert {file for file in results.rglob("*") if file.is_file()} == named


def test_a_run_that_exits_with_0_and_leaves_no_new_file_is_a_failure(
    xia2: Xia2, tmp_path: Path
) -> None:
    assert xia2.run(SAVED / "success_insulin_sad")[0] == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "LISTING.txt").write_text("# nothing\n")
    (empty / "xia2.txt").write_text("")
    xia2.sent("success")
    assert xia2.run(empty)[0] == 1
    [failure] = xia2.sent("failure")
    assert "it did not write DataFiles/* (only one from before this run is there)" in failure
    assert "xia2.txt does not hold the expected" in failure


def test_ispyb_is_spared_when_the_step_says_so(xia2: Xia2) -> None:
    assert xia2.run(SAVED / "success_insulin_sad", do_not_write_to_ispyb=True)[0] == 0
    assert xia2.sent("ispyb") == []


def test_real_runs_of_xia2_03(xia2: Xia2, elsewhere: Path, tmp_path: Path) -> None:
    """Its code of that age exited with 0 after a failure."""
    good = Path(shutil.copytree(elsewhere / "xia2/BAZ2BA_x839/3daii-run", tmp_path / "good"))
    bad = Path(shutil.copytree(elsewhere / "xia2/BAZ2BA_x839/2da-run", tmp_path / "bad"))
    for run in (good, bad):
        run.chmod(0o755)
        (run / "LISTING.txt").write_text("# nothing left out\n")
    status, log = xia2.run(good)
    assert status == 0, log
    [ispyb] = xia2.sent("ispyb")
    autoproc, scaling, integration = ispyb["ispyb_command_list"]
    assert autoproc["spacegroup"] == "C 2 2 21"
    assert scaling["overall"]["r_merge"] == 0.073
    assert integration["end_image_no"] == 1800, "from ispyb.xml"
    (good / "ispyb.xml").unlink()
    assert xia2.run(good)[0] == 0
    kinds = [c["ispyb_command"] for c in xia2.sent("ispyb")[0]["ispyb_command_list"]]
    assert kinds == ["write_autoproc", "insert_scaling"], "from xia2.txt"
    assert xia2.run(bad)[0] == 1
    [failure] = xia2.sent("failure")
    assert 'xia2.txt says: Status: error "error in indexing"' in failure
    assert "it left xia2.error" in failure
