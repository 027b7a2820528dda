"""Rules of judgement: what is a success, and what of the files is recorded and parsed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from zwrap.program import judgement, run as run_module
from zwrap.program.definition import Definition
from zwrap.program.parsers import table
from zwrap.program.reading import parse_definition
from zwrap.program.run import Run

XIA2 = Path(__file__).parents[1] / "data/xia2/v3.12.0/success_insulin_sad"
BEGAN = 1_000_000.0


def definition(**values: Any) -> Definition:
    return parse_definition({"command": ["run"], **values}, "test.yaml", "prog")


def run_in(directory: Path, exit_status: int = 0) -> Run:
    for name in ("out", "err"):
        (directory / name).touch()
    return Run(
        directory=directory,
        stdout=directory / "out",
        stderr=directory / "err",
        began=BEGAN,
        exit_status=exit_status,
    )


def write(directory: Path, name: str, text: str = "x", *, stale: bool = False) -> None:
    (directory / name).write_text(text)
    if stale:
        os.utime(directory / name, (900_000, 900_000))


def test_the_exit_status_must_be_an_accepted_one(tmp_path: Path) -> None:
    assert judgement.failures(definition(), run_in(tmp_path)) == []
    assert judgement.failures(definition(), run_in(tmp_path, 3)) == ["it exited with status 3"]
    assert judgement.failures(definition(), run_in(tmp_path, -9)) == ["it was killed by signal 9"]
    lenient = definition(success={"exit_status": [0, 3]})
    assert judgement.failures(lenient, run_in(tmp_path, 3)) == []
    assert judgement.failures(definition(success={"exit_status": []}), run_in(tmp_path, 7)) == []
    inverse = definition(success={"exit_status": [1]})
    assert judgement.failures(inverse, run_in(tmp_path)) == ["it exited with status 0"]


def test_required_files_must_be_of_this_run_and_not_empty(tmp_path: Path) -> None:
    defined = definition(success={"files": ["*.mtz"]})
    run = run_in(tmp_path)
    assert judgement.failures(defined, run) == ["it did not write *.mtz"]
    write(tmp_path, "old.mtz", stale=True)
    assert judgement.failures(defined, run) == [
        "it did not write *.mtz (only one from before this run is there)"
    ]
    write(tmp_path, "new.mtz", "")
    assert judgement.failures(defined, run) == ["it left *.mtz empty"]
    write(tmp_path, "new.mtz")
    assert judgement.failures(defined, run) == []


def test_an_error_file_of_this_run_is_a_failure_and_a_stale_one_is_not(tmp_path: Path) -> None:
    defined = definition(success={"no_files": ["fast_dp.error"]})
    write(tmp_path, "fast_dp.error", stale=True)
    assert judgement.failures(defined, run_in(tmp_path)) == []
    write(tmp_path, "fast_dp.error")
    assert judgement.failures(defined, run_in(tmp_path)) == [
        "it left fast_dp.error, which ends with: x"
    ]


def test_texts_are_searched_line_by_line_and_quoted(tmp_path: Path) -> None:
    rule = {"file": "stdout", "pattern": "^Giving up"}
    run = run_in(tmp_path)
    write(tmp_path, "out", "a\nGiving up: no model\nb\n")
    assert judgement.failures(definition(success={"no_text": [rule]}), run) == [
        "stdout says: Giving up: no model"
    ]
    assert judgement.failures(definition(success={"text": [rule]}), run) == []
    write(tmp_path, "out", "Giving up at last")
    assert judgement.failures(definition(success={"no_text": [rule]}), run) == [
        "stdout says: Giving up at last"
    ]
    write(tmp_path, "out", "fine")
    assert judgement.failures(definition(success={"text": [rule]}), run) == [
        "stdout does not hold the expected '^Giving up'", "its last words: fine",
    ]  # fmt: skip
    other = {"file": "not there", "pattern": "x"}
    assert judgement.failures(definition(success={"no_text": [other]}), run) == []


def test_a_required_output_that_cannot_be_read_is_a_complaint(tmp_path: Path) -> None:
    outputs = {
        "good": {"file": "good.json", "parser": "json"},
        "bad": {"file": "bad.json", "parser": "json"},
        "gone": {"file": "gone.json", "parser": "json"},
        "optional": {"file": "gone.json", "parser": "json", "required": False},
        "stale": {"file": "stale.json", "parser": "json"},
    }
    write(tmp_path, "good.json", '{"a": 1}')
    write(tmp_path, "bad.json", "{")
    write(tmp_path, "stale.json", "{}", stale=True)
    found, complaints = judgement.parsed_outputs(definition(outputs=outputs), run_in(tmp_path))
    assert found == {"good": {"a": 1}}
    assert [complaint.split(":")[0] for complaint in complaints] == [
        "output 'bad'", "output 'gone'", "output 'stale'",
    ]  # fmt: skip


def test_result_files_are_recorded_once_with_type_and_rank(tmp_path: Path) -> None:
    write(tmp_path, "a.mtz")
    write(tmp_path, "b.mtz")
    write(tmp_path, "old.mtz", stale=True)
    files = [{"pattern": "a.mtz", "rank": 1}, {"pattern": "*.mtz", "type": "other", "rank": 2}]
    records = judgement.result_files(definition(files=files), run_in(tmp_path), failed=False)
    assert [(r["file_name"], r["file_type"], r["importance_rank"]) for r in records] == [
        ("a.mtz", "result", 1),
        ("b.mtz", "other", 2),
    ]
    assert judgement.file_list(records) == [str(tmp_path / "a.mtz"), str(tmp_path / "b.mtz")]


def test_the_last_line_of_stderr_says_why_unless_a_rule_has_said_it(tmp_path: Path) -> None:
    run = run_in(tmp_path, 3)
    write(tmp_path, "err", "first\nno licence \n\n")
    assert judgement.failures(definition(), run) == [
        "it exited with status 3, its last words: no licence"
    ]
    rule = {"file": "stderr", "pattern": "^first"}
    assert judgement.failures(definition(success={"no_text": [rule]}), run) == [
        "stderr says: first",
        "it exited with status 3",
    ]
    assert judgement.failures(definition(), run_in(tmp_path, -9)) == ["it was killed by signal 9"]
    write(tmp_path, "err", "x" * 400)
    [said] = judgement.failures(definition(), run)
    assert said.endswith(f"its last words: {'x' * 300}")


def test_the_first_clause_is_the_cause_and_consequences_are_few(tmp_path: Path) -> None:
    run = run_in(tmp_path, 1)
    write(tmp_path, "out", "Error: No spots found\n")
    write(tmp_path, "error.txt", "Traceback\nRuntimeError: no spots\n\n")
    write(tmp_path, "a.mtz", stale=True)
    write(tmp_path, "empty", "")
    defined = definition(
        success={
            "files": ["*.mtz", "Logs/*", "empty"],
            "no_files": ["error.txt"],
            "text": [{"file": "stdout", "pattern": "^Normal termination"}],
            "no_text": [{"file": "stdout", "pattern": "^Error: "},
                        {"file": "stdout", "pattern": "No spots"}],
        }
    )  # fmt: skip
    assert judgement.failures(defined, run) == [
        "stdout says: Error: No spots found",
        "it exited with status 1",
        "it left error.txt, which ends with: RuntimeError: no spots",
        "it did not write *.mtz (only one from before this run is there), nor Logs/*",
        "it left empty empty",
    ]


def test_a_line_that_a_cause_quotes_is_not_quoted_again(tmp_path: Path) -> None:
    run = run_in(tmp_path, 1)
    write(tmp_path, "err", "RuntimeError: no spots\n")
    write(tmp_path, "error.txt", "Traceback\nRuntimeError: no spots\n")
    assert judgement.failures(definition(success={"no_files": ["error.txt"]}), run) == [
        "it exited with status 1, its last words: RuntimeError: no spots",
        "it left error.txt",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n \n",
        b"Traceback (most recent call last):\n",
        b"\x00\xff\x01core\x02\xfe",
        b"\xff" * 9,
    ],
)
def test_an_unwanted_file_that_says_no_reason_is_not_quoted(tmp_path: Path, content: bytes) -> None:
    run = run_in(tmp_path)
    (tmp_path / "core.1").write_bytes(content)
    assert judgement.failures(definition(success={"no_files": ["core.*"]}), run) == [
        "it left core.1"
    ]


@pytest.mark.parametrize(
    ("err", "out", "words"),
    [
        ("", "Usage: program\n\n  -h  help\n", ["its last words: Usage: program"]),
        (
            "",
            "DIALS 3.12\nFile /x not found\nusage: dials.import [options]\n\n  EOF\n",
            ["its last words: File /x not found, then its help"],
        ),
        (
            "usage: p [-h] file\np: error: no file is given\n",
            "",
            ["its last words: p: error: no file is given"],
        ),
        (
            "p: unrecognized option '--x'\nTry 'p --help' for more information.\n",
            "",
            ["its last words: p: unrecognized option '--x'"],
        ),
        (
            "Try 'p --help' for more information.\n",
            "",
            ["its last words: Try 'p --help' for more information."],
        ),
        ("", "1 of 2\n2 of 2\n", ["its last words: 2 of 2"]),
        ("no such file\n", "Usage: program\n", ["its last words: no such file"]),
        ("", "", []),
    ],
)
def test_the_last_words_of_a_program_that_exits_with_0_say_why(
    tmp_path: Path, err: str, out: str, words: list[str]
) -> None:
    run = run_in(tmp_path)
    write(tmp_path, "err", err)
    write(tmp_path, "out", out)
    text = {"file": "stdout", "pattern": r"^\d+ done\n"}
    defined = definition(success={"files": ["imported.expt", "b"], "text": [text]})
    assert judgement.failures(defined, run) == [
        "it did not write imported.expt", "it did not write b",
        r"stdout does not hold the expected '^\d+ done\n'", *words,
    ]  # fmt: skip
    outputs = {"o": {"file": "o.json", "parser": "json"}, "p": {"file": "stdout", "parser": "text"}}
    _, complaints = judgement.parsed_outputs(definition(outputs=outputs), run)
    assert complaints == ["output 'o': it did not write o.json", *words]
    assert judgement.failures(definition(), run) == []


def test_a_file_with_the_very_time_stamp_of_the_beginning_is_of_this_run(tmp_path: Path) -> None:
    """Filesystems may keep whole seconds, or less than the clock shows."""
    run = run_in(tmp_path)
    write(tmp_path, "a")
    os.utime(tmp_path / "a", (BEGAN, BEGAN))
    assert run.fresh("a") == [tmp_path / "a"]
    assert run.stale("a") == []
    os.utime(tmp_path / "a", (BEGAN - 1, BEGAN - 1))
    assert run.fresh("a") == []
    assert run.stale("a") == [tmp_path / "a"]


def test_of_several_files_of_a_pattern_one_that_is_not_empty_will_do(tmp_path: Path) -> None:
    write(tmp_path, "a.mtz", "")
    write(tmp_path, "b.mtz")
    assert judgement.failures(definition(success={"files": ["*.mtz"]}), run_in(tmp_path)) == []


def test_text_is_sought_behind_a_link_too(tmp_path: Path) -> None:
    """Results of programs may be links."""
    run = run_in(tmp_path)
    write(tmp_path, "full.log", "Normal termination\n")
    (tmp_path / "program.log").symlink_to("full.log")
    rule = {"file": "program.log", "pattern": "^Normal termination"}
    assert judgement.failures(definition(success={"text": [rule]}), run) == []


def test_a_pattern_may_be_absolute(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (tmp_path / "run").mkdir()
    write(place, "a.mtz")
    run = run_in(tmp_path / "run")
    assert run.fresh(f"{place}/*.mtz") == [place / "a.mtz"]
    rules = {"files": [f"{place}/*.mtz"], "no_files": [f"{place}/*.error"]}
    assert judgement.failures(definition(success=rules), run) == []
    [record] = judgement.result_files(
        definition(files=[{"pattern": f"{place}/a.*"}]), run, failed=False
    )
    assert (record["file_path"], record["file_name"]) == (str(place), "a.mtz")


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        ("needle" + "." * 300, "^needle", True),
        ("." * 300 + "needle", "needle$", True),
        ("." * 130 + "needle" + "." * 130, "needle", False),
        # Up to twice as much is seen whole, and no part of it twice.
        ("." * 70 + "needle" + "." * 70, "needle", True),
        ("." * 50 + "needle" + "." * 64, "needle", True),
        ("." * 50 + "needle" + "." * 64, "needle[^!]*needle", False),
        ("." * 97 + "needle" + "." * 97, "needle", True),
        ("." * 97 + "nee" + "!" * 50 + "dle" + "." * 97, "needle", False),
    ],
)
def test_of_a_large_file_beginning_and_end_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, pattern: str, found: bool
) -> None:
    monkeypatch.setattr(run_module, "SEARCHED_BYTES", 100)
    write(tmp_path, "out", text)
    defined = definition(success={"text": [{"file": "stdout", "pattern": pattern}]})
    assert (judgement.failures(defined, run_in(tmp_path)) == []) is found


def test_a_line_that_is_quoted_is_cut_and_an_empty_one_is_quoted_by_the_match(
    tmp_path: Path,
) -> None:
    rule = {"file": "stdout", "pattern": "bad|^ $"}
    defined = definition(success={"no_text": [rule]})
    write(tmp_path, "out", "fine\n" + "x" * 200 + "bad" + "y" * 200 + "\nfine\n")
    [said] = judgement.failures(defined, run_in(tmp_path))
    assert said == "stdout says: " + "x" * 200 + "bad" + "y" * 97
    write(tmp_path, "out", "fine\n \nfine\n")
    assert judgement.failures(defined, run_in(tmp_path)) == ["stdout says:  "]


def test_of_several_files_beside_an_output_the_first_by_name_is_read(tmp_path: Path) -> None:
    write(tmp_path, "out.log", "x")
    for name in ("b.dat", "a.dat"):
        write(tmp_path, name, name)
    seen = []
    outputs = {"o": {"file": "out.log", "parser": "json", "beside": {"extra": "*.dat"}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "parse", lambda _, file, options: seen.append((file, options)))
        judgement.parsed_outputs(definition(outputs=outputs), run_in(tmp_path))
    assert seen == [(tmp_path / "out.log", {"extra": tmp_path / "a.dat"})]


def test_of_the_files_of_an_output_the_first_that_this_run_wrote_is_read(tmp_path: Path) -> None:
    outputs = {"o": {"file": ["a.json", "b.json", "c.json"], "parser": "json"}}
    write(tmp_path, "a.json", "1", stale=True)
    write(tmp_path, "b.json", "2")
    write(tmp_path, "c.json", "3")
    found, complaints = judgement.parsed_outputs(definition(outputs=outputs), run_in(tmp_path))
    assert (found, complaints) == ({"o": 2}, [])


def test_a_parser_gets_the_files_beside_its_own_that_this_run_wrote(tmp_path: Path) -> None:
    shutil.copyfile(XIA2 / "xia2.json", tmp_path / "xia2.json")
    shutil.copyfile(XIA2 / "xia2-report.json", tmp_path / "report")
    outputs = {"o": {"file": "xia2.json", "parser": "xia2", "beside": {"report": "rep*"}}}

    def program_messages() -> int:
        found, complaints = judgement.parsed_outputs(definition(outputs=outputs), run_in(tmp_path))
        assert complaints == []
        commands = found["o"]["ispyb_command_list"]
        return sum(each["ispyb_command"] == "add_program_message" for each in commands)

    assert program_messages() > 0
    os.utime(tmp_path / "report", (900_000, 900_000))
    assert program_messages() == 0
    (tmp_path / "report").unlink()
    assert program_messages() == 0


def test_an_output_that_is_not_required_may_be_unreadable(tmp_path: Path) -> None:
    write(tmp_path, "bad.json", "{")
    outputs = {"o": {"file": "bad.json", "parser": "json", "required": False}}
    assert judgement.parsed_outputs(definition(outputs=outputs), run_in(tmp_path)) == ({}, [])


def test_of_a_failed_run_logs_are_recorded_and_what_may_be_partial_is_marked(
    tmp_path: Path,
) -> None:
    for name in ("a.mtz", "b.mtz", "a.log", "a.png", "b.svg"):
        write(tmp_path, name)
    files = [
        {"pattern": "a.mtz", "partial": True},
        {"pattern": "*.png", "type": "graph", "partial": True},
        {"pattern": "b.mtz"},
        {"pattern": "b.svg", "type": "graph"},
        {"pattern": "*.log", "type": "log"},
        {"pattern": "stdout", "type": "log"},
    ]

    def recorded(*, failed: bool) -> dict[str, bool]:
        records = judgement.result_files(definition(files=files), run_in(tmp_path), failed=failed)
        return {record["file_name"]: record.get("partial", False) for record in records}

    assert recorded(failed=True) == {"a.mtz": True, "a.png": True, "a.log": False, "out": False}
    everything = ("a.mtz", "b.mtz", "b.svg", "a.log", "a.png", "out")
    assert recorded(failed=False) == dict.fromkeys(everything, False)


def test_a_named_pipe_in_the_place_of_an_output_is_not_waited_for(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.stdout.unlink()
    os.mkfifo(run.stdout)
    rule = definition(success={"no_text": [{"file": "stdout", "pattern": "x"}]})
    [failure] = judgement.failures(rule, run)
    assert "is a named pipe" in failure
    for parser in ("text", "lines", "json"):
        outputs = definition(outputs={"o": {"file": "stdout", "parser": parser, "required": True}})
        found, [complaint] = judgement.parsed_outputs(outputs, run)
        assert not found
        assert "is not a regular file" in complaint
