"""`zwrap program`: definitions are listed, shown, tried on saved files, run, and drafted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zwrap.cli.zwrap import main
from zwrap.program.checks.checking import check_file
from zwrap.program.keys.expectation import Expectation, disappointments

COUNT = r"""
description: Count the words of a text
command: [wc, -w, "{text}"]
inputs:
  text: {required: true, file: true, description: the text}
  language: {default: en}
success:
  files: [done]
  no_text: [{file: stderr, pattern: '^wc: .*'}]
  text: [{file: stdout, pattern: '^ *\d+'}]
outputs:
  words: {file: stdout, parser: regex, options: {pattern: '(?P<number>\d+)'}, channel: counts}
files:
  - {pattern: "*.txt", type: result}
  - {pattern: stdout, type: log}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of definitions of a site, which has one."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "count.yaml").write_text(COUNT)
    (tmp_path / "site.yml").write_text(
        "version: 1\nenvironments: {default: [s]}\n"
        f"s: {{plugin: storage, zwrap.program_directory: {programs}}}\n"
    )
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    return programs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a directory as a run of the program leaves it."""
    place = tmp_path / "saved"
    place.mkdir()
    for name, text in {
        "count.log": "12 a.txt\n", "count.err": "", "a.txt": "a", "done": "x", "extra": "",
    }.items():  # fmt: skip
        (place / name).write_text(text)
    return place


def judged(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Run a command with --json; return its exit status, and what it says."""
    status = main(["program", *map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


# -- list and show -------------------------------------------------------------------------------


def test_the_list_tells_source_status_and_what_is_hidden(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "xia2.yaml").write_text("command: [mine]\nstatus: untried\n")
    (site / "odd.yaml").write_text("comand: [mine]\n")
    assert main(["program", "list", "--json"]) == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    named = {row["program"]: row for row in rows}
    assert {"count", "xia2", "fast_dp"} <= set(named)
    mine, ours = [row for row in rows if row["program"] == "xia2"]
    assert (mine["status"], mine["source"]) == ("untried", str(site / "xia2.yaml"))
    assert "goes before definition" in mine["note"]
    assert ours["source"] == "zwrap"
    assert ours["note"].startswith(f"not used: definition {site}/xia2.yaml goes before it")
    assert "odd.yaml:1, key 'comand'" in shown.err


def test_a_program_is_shown_with_what_it_takes_and_leaves(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["program", "show", "count"]) == 0
    out = capsys.readouterr().out
    for line in (
        "  wc -w {text}",
        f"  defined in {site}/count.yaml",
        "  text (file, required): the text",
        "  language (default en)",
        "  words: stdout, parser regex on channel counts",
        "  *.txt: result, rank 1",
        r"  stdout holds ^ *\d+",
    ):
        assert line in out.splitlines()


def test_known_errors_rules_and_files_of_a_program_are_shown(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "two.yaml").write_text(
        "command: [a]\nthen: [{command: [b], success: {files: [x]}}]\n"
        "errors: [{pattern: No text, cause: no-text, says: there is no text, remedy: Name one.}]\n"
        "write: [{file: run.inp, template: x}]\nlink: {a.pdb: model}\n"
    )
    assert main(["program", "show", "two"]) == 0
    out = capsys.readouterr().out
    assert "known errors\n  no-text: there is no text. Name one.\n" in out
    assert "success of b\n  exit status 0\n  writes x\n" in out
    assert "files before the start\n  run.inp: from a template\n  a.pdb: link to model\n" in out


def test_the_schema_of_the_parameters_is_printed(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["program", "schema", "count"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["text"]
    assert schema["properties"]["text"]["description"] == "the text"


def test_an_unknown_program_is_answered_with_the_nearest(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["program", "show", "cuont"]) == 100
    assert "Did you mean 'count'?" in capsys.readouterr().err


# -- test ----------------------------------------------------------------------------------------


def test_saved_files_are_judged_rule_by_rule(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = judged(capsys, "test", "count", saved, "text=a.txt")
    assert (status, said["failures"]) == (0, [])
    assert [(rule["rule"], rule["holds"], rule["said"]) for rule in said["rules"]] == [
        ("exit status is 0", True, "it is 0"),
        ("files done", True, "done"),
        (r"text '^ *\d+' in stdout", True, "count.log:1: 12 a.txt"),
        ("no text '^wc: .*' in stderr", True, "not in count.err"),
    ]
    [output] = said["outputs"]
    assert (output["file"], output["value"]) == ("count.log", {"number": 12})
    assert [files["files"] for files in said["files"]] == [["a.txt"], ["count.log"]]
    assert said["untaken"] == ["count.err", "done", "extra"]
    sent = {message["channel"]: message["content"] for message in said["messages"]}
    assert sent["counts"] == {"number": 12}
    assert sent["success"]
    assert sent["result-all-files"] == {
        "filelist": [str(saved / "a.txt"), str(saved / "count.log")]
    }


def test_a_rule_that_does_not_hold_is_told_with_file_and_line(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "count.err").write_text("a\nwc: gone: No such file\n")
    (saved / "done").unlink()
    assert main(["program", "test", "count", str(saved), "text=a", "--exit-status", "1"]) == 1
    shown = capsys.readouterr()
    assert "FAILED  no text '^wc: .*' in stderr: count.err:2: wc: gone: No such file" in shown.out
    assert "FAILED  exit status is 0: it is 1" in shown.out
    assert "FAILED  files done: it did not write done" in shown.out
    assert "failure: " in shown.out
    assert "stderr says: wc: gone" in shown.err


@pytest.mark.parametrize(("out", "err"), [
    ("stdout", "stderr"), ("count.stdout", "count.stderr"), ("count.out", "count.error"),
    ("count.log", "count-error.log"),
])  # fmt: skip
def test_output_that_others_have_kept_is_found_by_its_usual_names(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str], out: str, err: str
) -> None:
    (saved / "count.log").rename(saved / out)
    (saved / "count.err").unlink()
    (saved / err).write_text("wc: gone: No such file\n")
    assert main(["program", "test", "count", str(saved), "text=a"]) == 1
    shown = capsys.readouterr().out
    assert f"in stderr: {err}:1: wc: gone: No such file" in shown
    assert f"{out}:1:" in shown
    (saved / "count.err").touch()  # zwrap's own goes first
    assert main(["program", "test", "count", str(saved), "text=a"]) == 0


def test_a_log_without_an_error_output_is_the_programs_own(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "count.log").rename(saved / "stdout")
    (saved / "count.log").write_text("as DIALS writes dials.index.log\n")
    assert main(["program", "test", "count", str(saved), "text=a"]) == 1
    (saved / "count.err").unlink()
    assert main(["program", "test", "count", str(saved), "text=a"]) == 0
    assert "stdout:1:" in capsys.readouterr().out


def test_of_many_files_the_first_are_shown(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(100):
        (saved / f"b{number:03}.txt").touch()
        (saved / f"x{number:03}").touch()
    assert main(["program", "test", "count", str(saved), "text=a"]) == 0
    out = capsys.readouterr().out
    assert "b028.txt, and 71 more\n" in out
    assert "  and 73 more\n" in out
    assert "x099" not in out


def test_files_of_any_age_count_and_none_is_changed(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in saved.iterdir()}
    saved.chmod(0o500)
    assert judged(capsys, "test", "count", saved, "text=a.txt")[0] == 0
    assert {file: file.stat().st_mtime_ns for file in saved.iterdir()} == before


def test_a_directory_of_the_run_may_be_named_itself(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "count.yaml").write_text(COUNT + 'directory: "of-{language}"\n')
    assert judged(capsys, "test", "count", saved, "text=a")[0] == 0
    saved.rename(saved.parent / "of-en")
    status, said = judged(capsys, "test", "count", saved.parent, "text=a")
    assert (status, said["directory"]) == (0, str(saved.parent / "of-en"))


def test_a_file_may_be_named_in_place_of_a_program(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(capsys, "test", site / "count.yaml", saved, "text=a")[0] == 0


def test_a_fault_of_the_definition_is_permanent(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "count.yaml").write_text(COUNT.replace("{text}", "{txet}"))
    assert main(["program", "test", "count", str(saved), "text=a"]) == 100
    assert f"{site}/count.yaml:3, key 'command.2': Unknown placeholder 'txet'. Did you mean " in (
        capsys.readouterr().err
    )
    assert main(["program", "test", "count", "text=a"]) == 100
    assert main(["program", "test", "zwrap:xia2"]) == 100


def test_each_of_several_commands_is_reported(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "two.yaml").write_text(
        "command: [first]\nsuccess: {files: [done]}\n"
        "then: [{command: [second], success: {files: [b.txt]}}]\n"
    )
    status, said = judged(capsys, "test", "two", saved)
    assert status == 1
    rules = {rule["rule"]: rule["holds"] for rule in said["rules"]}
    assert rules["command 1 of 2 (two): files done"]
    assert not rules["command 2 of 2 (second): files b.txt"]
    assert main(["program", "run", "two", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "command 1 of 2 (two), command: first\n" in shown
    assert "command 2 of 2 (second), command: second\n" in shown


def test_the_known_error_that_explains_a_failure_is_told(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "count.yaml").write_text(
        COUNT + "errors:\n"
        "  - pattern: 'wc: (?P<file>.*): No such file'\n"
        "    cause: no-text\n"
        "    says: there is no text {file}\n"
        "    remedy: Name another text.\n"
        "    retry: {set: {language: de}}\n"
    )
    (saved / "count.err").write_text("wc: gone: No such file\n")
    assert main(["program", "test", "count", str(saved), "text=a", "--exit-status", "1"]) == 1
    shown = capsys.readouterr()
    for line in (
        "  no-text: there is no text gone",
        "  remedy: Name another text.",
        '  correction, where the retry policy allows it: {"language": "de"}',
    ):
        assert line in shown.out.splitlines()
    assert "count: there is no text gone; " in shown.err


TESTS = """
tests:
  - directory: ../saved
    job_parameters: {text: a.txt}
    values: {words.number: 12, words: {number: 12}}
  - {directory: ../saved, job_parameters: {text: a.txt}, exit_status: 1, outcome: failure}
"""


def test_expectations_beside_the_definition_are_held_against_it(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "count.yaml").write_text(COUNT + TESTS)
    assert main(["program", "test", "count"]) == 0
    assert capsys.readouterr().out.count("good: count, test ../saved") == 2
    (saved / "count.log").write_text("13 a.txt\n")
    assert main(["program", "test", "count"]) == 1
    assert "words.number was expected to be 12, and it is 13." in capsys.readouterr().err
    (saved / "done").unlink()
    assert main(["program", "test", "count"]) == 1
    assert "a success was expected, and it is a failure." in capsys.readouterr().err


def test_another_cause_than_expected_is_told() -> None:
    expected = Expectation(directory="d", outcome="failure", cause="no_spots")
    said = disappointments(expected, failed=True, cause="", outputs={})
    assert said == ["cause 'no_spots' was expected, and 'none' was found."]
    assert disappointments(expected, failed=True, cause="no_spots", outputs={}) == []


# -- run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    ["count text=a --directory W --dry-run", "count --directory W --dry-run text=a",
     "--dry-run --directory W count text=a", "--dry-run count text=a --directory W"],
)  # fmt: skip
def test_values_stand_before_and_behind_options(
    site: Path, saved: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["program", "run", *words.replace("W", str(saved)).split()]) == 0
    assert "command: wc -w a\n" in capsys.readouterr().out


def test_a_program_runs_here_and_is_judged(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "a.txt").write_text("three words here\n")
    status, said = judged(capsys, "run", "count", "text=a.txt")
    assert status == 1
    assert said["failures"] == ["count: it did not write done; its last words: 3 a.txt"]
    (site / "count.yaml").write_text(COUNT.replace("files: [done]", "exit_status: [0]"))
    status, said = judged(capsys, "run", "count", "text=a.txt")
    assert (status, said["outputs"][0]["value"]) == (0, {"number": 3})
    assert (here / "count.log").exists()
    assert main(["program", "run", "count", "text=gone"]) == 100
    assert "Input 'text' of program 'count' is 'gone', which does not exist" in (
        capsys.readouterr().err
    )


def test_a_failure_of_what_is_not_required_is_told_as_such(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "two.yaml").write_text(
        "command: ['true']\nthen: [{name: b, command: ['false'], required: false}]\n"
    )
    assert main(["program", "run", "two", "--directory", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "  FAILED (not required)  command 2 of 2 (b): exit status is 0: it is 1\n" in shown
    assert "  holds   command 1 of 2 (two): exit status is 0: it is 0\n" in shown


def test_a_signal_ends_the_program_and_not_the_judgement(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "slow.yaml").write_text("command: [sh, -c, 'kill -TERM $PPID; exec sleep 60']\n")
    status, said = judged(capsys, "run", "slow", "--directory", tmp_path)
    assert status == 1
    [failure] = said["failures"]
    assert re.fullmatch(r"slow: it was stopped after \d s by SIGTERM", failure)


def test_tables_of_errors_beside_a_file_are_found(
    site: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "errors").mkdir()
    (site / "errors" / "mine.yaml").write_text("errors: [{pattern: 'wc: .*', cause: no-text}]\n")
    (site / "count.yaml").write_text(COUNT + "errors_of: [mine]\n")
    (saved / "count.err").write_text("wc: gone\n")
    monkeypatch.chdir(site)
    status, said = judged(capsys, "test", "./count.yaml", saved, "text=a", "--exit-status", "1")
    assert (status, said["known"]["cause"]) == (1, "no-text")


def test_a_dry_run_shows_the_command_and_writes_no_file(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    words = ["run", "count", "text=a b.txt", "--directory", str(place), "--dry-run"]
    assert main(["program", *words]) == 0
    assert "command: wc -w 'a b.txt'" in capsys.readouterr().out
    assert not place.exists()
    assert main(["program", "run", "xia2", 'xia2={"spotfinder.x": 1}', "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "file spots.phil:\n  spotfinder.x=1" in out


def test_job_parameters_are_json_or_text_and_a_repeated_key_is_a_list(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "say.yaml").write_text(
        'command: [echo, "{a}", "{b[c]}", "{payload[d]}"]\ninputs: {a: {}, b: {}}\n'
    )
    words = ["run", "say", "a=1", "a=x y", 'b={"c": true}', "--payload", '{"d": 5}', "--dry-run"]
    assert main(["program", *words]) == 0
    assert "command: echo 1 'x y' True 5" in capsys.readouterr().out
    assert main(["program", "run", "say", "a=Infinity", "a=NaN", "--dry-run"]) == 0
    assert "command: echo Infinity NaN" in capsys.readouterr().out
    assert main(["program", "run", "say", "a", "--dry-run"]) == 100
    assert main(["program", "run", "say", "--payload", "{", "--dry-run"]) == 100


def test_an_input_that_is_a_text_is_taken_as_it_is_written(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "say.yaml").write_text(
        'command: [echo, "{a}", "{b}"]\ninputs: {a: {type: text}, b: {type: list, items: text}}\n'
    )
    words = ["run", "say", "a=true", "b=1.0", "b=null", "--dry-run"]
    assert main(["program", *words]) == 0
    assert "command: echo true 1.0 null" in capsys.readouterr().out
    assert main(["program", "run", "say", "a=1", 'b=["x", "y z"]', "--dry-run"]) == 0
    assert "command: echo 1 x 'y z'" in capsys.readouterr().out


# -- new -----------------------------------------------------------------------------------------


def test_a_draft_is_a_sound_definition_by_which_the_run_is_a_success(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"scaled.mtz": "m", "found.json": "{}", "report.html": "h", "count.log": "1\n"}
    for name, text in {**files, **{f"p{number}.png": "p" for number in range(9)}}.items():
        (saved / name).write_text(text)
    assert main(["program", "new", "mine", "--from", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert main(["program", "new", "mine", "--from", str(saved), "--write"]) == 0
    capsys.readouterr()
    assert (site / "mine.yaml").read_text() == printed
    defined = check_file(site / "mine.yaml")
    assert defined.status == "untried"
    types = {file.pattern: file.type for file in defined.files}
    assert types["scaled.mtz"] == "result"
    assert (types["report.html"], types["count.log"], types["*.png"]) == ("log", "log", "graph")
    assert defined.outputs["found"].parser == "json"
    assert judged(capsys, "test", "mine", saved, "data=x")[0] == 0


def test_merging_statistics_in_a_log_are_an_output_of_a_draft(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Path(__file__).parents[1] / "data" / "dials" / "quartz.scale.log"
    (saved / "dials.scale.log").write_bytes(log.read_bytes())
    assert main(["program", "new", "mine", "--from", str(saved), "--write"]) == 0
    capsys.readouterr()
    _, said = judged(capsys, "test", "mine", saved, "data=x")
    [output] = said["outputs"]
    assert (output["name"], output["parser"]) == ("dials_scale", "merging-statistics")
    assert output["value"]["overall"]["completeness"]


def test_a_draft_replaces_no_file(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["program", "new", "count", "--from", str(saved), "--write"]) == 100
    assert "exists, and is left as it is" in capsys.readouterr().err
    assert (site / "count.yaml").read_text() == COUNT


@pytest.mark.parametrize("name", ["xia2", "command"])
def test_a_draft_hides_no_program_that_is_installed(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["program", "new", name, "--from", str(saved), "--write"]) == 100
    assert f"would run in place of what is installed under that name: wrapper {name!r} is" in (
        capsys.readouterr().err
    )
    assert not (site / f"{name}.yaml").exists()


def test_a_draft_says_where_it_is_and_that_jobs_run_it(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["program", "new", "mine", "--from", str(saved), "--write"]) == 0
    told = capsys.readouterr().out
    assert f"{site / 'mine.yaml'} written; jobs of the site run it as --wrap mine" in told


def test_a_directory_among_definitions_is_none(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.yaml", "x.yml", "errors/x.yaml"):
        (site / name).mkdir(parents=True)
    assert main(["program", "list"]) == 0
    assert main(["check"]) == 0
    told = capsys.readouterr()
    assert (told.err, "program x " in told.out) == ("", False)


def test_a_file_in_place_of_the_definitions_is_named(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.rename(site.with_name("other"))
    site.touch()
    assert main(["check"]) == 100
    assert f"The directory {site} of the site configuration is not a directory." in (
        capsys.readouterr().err
    )


def test_names_of_files_are_quoted_in_a_draft(
    site: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ('a"b.json', "c: d", "{x}.mtz", "[y].mtz", "- z.csv"):
        (saved / name).write_text("{}")
    assert main(["program", "new", "mine", "--from", str(saved), "--write"]) == 0
    capsys.readouterr()
    assert judged(capsys, "test", "mine", saved, "data=x")[0] == 0


def test_a_dry_run_and_a_listing_show_typed_inputs_and_the_files_before_the_start(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "fit.yaml").write_text(
        "command: [fit]\n"
        "inputs: {d_min: {type: number, minimum: 0.3}, a: {}, images: {type: list, items: file}}\n"
        "groups: [{together: [d_min, a]}]\n"
        "write: [{file: in.json, format: json, values: {d_min: '{d_min}'}}]\n"
        "link: {data/: '{images}'}\n"
    )
    words = ["program", "run", "fit", "d_min=2", "a=1", "images=/d/1.cbf", "dmim=3", "--dry-run"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert 'file in.json:\n  {\n    "d_min": 2\n  }\nlink data/1.cbf:\n  /d/1.cbf' in shown.out
    assert "knows no key 'dmim' (did you mean 'd_min'?)" in shown.err
    assert main(["program", "show", "fit"]) == 0
    told = capsys.readouterr().out
    assert "  d_min (a number of at least 0.3)\n" in told
    assert "  images (list: the name of a file)\n" in told
    assert "inputs that depend on each other\n  together: d_min, a\n" in told
    (site / "fit.yaml").write_text("command: [fit]\nwrite: [{file: a, template: '{{ resol }}'}]\n")
    assert main(["check"]) == 100
    assert "Unknown placeholder 'resol'" in capsys.readouterr().err


BASH = """
. <("$ZWRAP" program complete)
zwrap() { "$ZWRAP" "$@"; }
COMP_LINE="$1" COMP_POINT=${#1}
_zwrap_program
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zwrap program run fit ", ["mode=", "model="]),
        ("zwrap program run fit mode=fast --dry-run mo", ["model="]),
        ("zwrap program test fit mode=s", ["slow"]),
        ("zwrap program run fi", ["fit"]),
        ("zwrap program run fit model=/d", [""]),
        ("zwrap program run gone x", [""]),
        ("zwrap jobs fi", [""]),
    ],
)
def test_bash_completes_programs_inputs_and_choices(
    site: Path, line: str, expected: list[str]
) -> None:
    (site / "fit.yaml").write_text(
        "command: [fit]\ninputs: {mode: {type: text, choices: [fast, slow]}, model: {type: file}}\n"
    )
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", line], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "ZWRAP": str(Path(sys.executable).with_name("zwrap"))},
    )  # fmt: skip
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""
