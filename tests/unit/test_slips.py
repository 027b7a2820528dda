"""Typical mistakes in a first definition: `zwrap check` tells each, and a job runs as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import FaultsError, PermanentError
from zwrap.program.checks.checking import check_file, check_table, checked, remarked
from zwrap.program.checks.remarks import remarks
from zwrap.program.reading import parse_definition

OF_A_TEST = """\
command: [a, '{n}']
inputs: {n: {type: number}}
tests:
  - directory: .
    job_parameters:
      n: x
"""


def complaints(data: dict[str, Any]) -> list[str]:
    """Return the sentences of a full check of a definition; none if it is right."""
    try:
        checked({"command": ["run"], **data}, "x.yaml", "x")
    except FaultsError as error:
        return [str(fault) for fault in error.faults]
    except PermanentError as error:
        return [str(error)]
    return []


def with_test(inputs: dict[str, Any], parameters: dict[str, Any], **test: Any) -> dict[str, Any]:
    """Return a definition with these inputs and one test."""
    return {
        "command": ["run", *(f"{{{name}}}" for name in inputs)],
        "inputs": inputs,
        "tests": [{"directory": ".", "job_parameters": parameters, **test}],
    }


def in_text(pattern: str, **more: Any) -> dict[str, Any]:
    """Return a definition with a rule for a text."""
    return {"success": {"text": [{"file": "stdout", "pattern": pattern}]}, **more}


def known(pattern: str, where: Any = "exit_status") -> dict[str, Any]:
    """Return a definition with one known error."""
    return {"errors": [{"where": where, "pattern": pattern, "cause": "killed"}]}


FAULTS = [
    # names of files
    (
        {"files": [{"pattern": "../x.mtz"}]},
        "files.0.pattern",
        "It is '../x.mtz', which leads out of the working directory; a pattern of files below it ",
    ),
    ({"outputs": {"o": {"file": ["a/../../f"], "parser": "json"}}}, "outputs.o.file.0", "It is "),
    (
        {"outputs": {"o": {"file": "f", "parser": "xia2", "beside": {"log": "../xia2.txt"}}}},
        "outputs.o.beside.log",
        "It is '../xia2.txt', which leads out ",
    ),
    (
        {"directory": "run", "success": {"files": ["../../x"]}},
        "success.files.0",
        "It is '../../x', which leads out ",
    ),
    ({"success": {"no_files": ["{working_directory}/../x"]}}, "success.no_files.0", "It is "),
    (
        {"then": [{"command": ["b"], "success": {"no_text": [{"file": "../a", "pattern": "x"}]}}]},
        "then.0.success.no_text.0.file",
        "It is '../a', which leads out ",
    ),
    ({**known("x", ["stderr", "../log"])}, "errors.0.where.1", "It is '../log', which leads out "),
    (
        {
            "for_each": {"sweep": "sweeps"},
            "inputs": {"sweeps": {"type": "list"}},
            "directory": "{sweep}",
            "files": [{"pattern": "../x"}],
        },
        "files.0.pattern",
        "It is '../x', which leads out ",
    ),
    (
        {"files": [{"pattern": r".*\.mtz"}]},
        "files.0.pattern",
        r"'.*\\.mtz' looks like a regular expression; a pattern of files is expected, ",
    ),
    ({"success": {"files": ["scaled.mtz$"]}}, "success.files.0", "'scaled.mtz$' looks like a "),
    (
        {"outputs": {"o": {"file": "a(b|c).json", "parser": "json"}}},
        "outputs.o.file",
        "'a(b|c).json' looks like a regular expression; ",
    ),
    (
        {"files": [{"pattern": "*.{mtz,pdb}"}]},
        "files.0.pattern",
        "'{mtz,pdb}' is a part of the name as it stands: braces are no choice in patterns of files",
    ),
    # tests
    (
        with_test({}, {}, cause="killed") | known("137"),
        "tests.0.cause",
        "A cause is that of a failure, and a success is expected; write 'outcome: failure' ",
    ),
    (
        with_test({}, {}, exit_status=3),
        "tests.0.exit_status",
        "With exit status 3 a run is no success: 'success.exit_status' is [0]. Write 'outcome: ",
    ),
    (
        with_test({"d": {"type": "number", "maximum": 50}}, {"d": 90}),
        "tests.0.job_parameters.d",
        "Input 'd' is 90; a number of at most 50 is expected.",
    ),
    (
        with_test({"mode": {"type": "text", "choices": ["fast", "slow"]}}, {"mode": "quick"}),
        "tests.0.job_parameters.mode",
        "Input 'mode' is 'quick'; one of 'fast', 'slow' is expected.",
    ),
    (
        with_test({"n": {"type": "integer"}}, {"n": "many"}, outcome="failure"),
        "tests.0.job_parameters.n",
        "Input 'n' is 'many'; a whole number is expected.",
    ),
    (
        with_test({"name": {"type": "text", "pattern": "[a-z]+"}}, {"x": {"name": "A"}}),
        "tests.0.job_parameters.name",
        "Input 'name' is 'A'; a text that matches [a-z]+ is expected.",
    ),
    (
        with_test({"images": {"required": True}}, {}),
        "tests.0.job_parameters",
        "Program 'x' needs input 'images'; give it in job_parameters.",
    ),
    (
        with_test({"a": {}, "b": {}}, {}) | {"groups": [{"any_of": ["a", "b"]}]},
        "tests.0.job_parameters",
        "Program 'x' needs at least one of the inputs 'a', 'b'; ",
    ),
    # regular expressions
    (
        known("Killed"),
        "errors.0.pattern",
        "'Killed' matches no exit status; a number from 0 to 255 is expected, or a pattern of ",
    ),
    (known("-9", ["stderr", "exit_status"]), "errors.0.pattern", "'-9' matches no exit status; "),
    (known("999"), "errors.0.pattern", "'999' matches no exit status; "),
    (
        in_text("(Success)?"),
        "success.text.0.pattern",
        "'(Success)?' matches an empty text, too, and so is found in every file; ",
    ),
    (known(".*", "stderr"), "errors.0.pattern", "'.*' matches an empty text, too, "),
    (
        {"then": [{"command": ["b"], "success": {"no_text": [{"file": "l", "pattern": ""}]}}]},
        "then.0.success.no_text.0.pattern",
        "'' matches an empty text, too, ",
    ),
    (
        in_text("wrote {hklout}", command=["run", "{hklout}"], inputs={"hklout": {}}),
        "success.text.0.pattern",
        "No value is filled in here: '{hklout}' is searched as it stands. ",
    ),
    (
        {"progress": {"pattern": r"(\d+) %", "total": 100}},
        "progress.total",
        "Key 'total' has no effect without the number that is done; write (?P<done>...) ",
    ),
    (
        {"then": [{"command": ["b"], "progress": {"pattern": r"(\d+)/(?P<total>\d+)"}}]},
        "then.0.progress.pattern",
        "Group 'total' of the pattern has no effect without the number that is done; ",
    ),
    # inputs
    (
        {"command": ["run", "{payload}"], "inputs": {"payload": {}}},
        "inputs.payload",
        "zwrap fills in '{payload}' (the message of the step); give the input another name.",
    ),
    (
        {"command": ["{working_directory}"], "inputs": {"working_directory": {}}},
        "inputs.working_directory",
        "zwrap fills in '{working_directory}' ",
    ),
    (
        {"command": ["a", "{scratch}"], "inputs": {"scratch": {}}, "scratch": "keep"},
        "inputs.scratch",
        "zwrap fills in '{scratch}' ",
    ),
    (
        {"command": ["a", "{files}"], "inputs": {"files": {}}, "messages": {"m": "{files}"}},
        "inputs.files",
        "zwrap fills in '{files}' ",
    ),
    # what is meant for a shell
    (
        {"command": ["gemmi merge", "x"]},
        "command.0",
        "'gemmi merge' is the name of one program, blanks included. Write each word as an entry ",
    ),
    ({"command": ["/opt/gemmi -v"]}, "command.0", "'/opt/gemmi -v' is the name of one program, "),
    (
        {"command": ["{gemmi} {x}"], "inputs": {"gemmi": {}, "x": {}}},
        "command.0",
        "'{gemmi} {x}' is the name of one program, ",
    ),
    (
        {"command": ["module", "load", "dials"]},
        "command.0",
        "'module' is a command of the shell, and no program. Write it into a line of 'set_up', ",
    ),
    ({"then": [{"name": "b", "command": ["cd", "x"]}]}, "then.0.command.0", "'cd' is a command "),
    (
        {"command": ["run", "$images"], "inputs": {}},
        "command.1",
        "'$images' reaches the program as it stands: no shell runs a list. Write '{name}' for ",
    ),
    ({"command": ["run", ["-l", "~/lib"]]}, "command.1.1", "'~/lib' reaches the program as it "),
    ({"command": ["run", "--lib=${HOME}/x"]}, "command.1", "'--lib=${HOME}/x' reaches the "),
    (
        {"environment": {"PATH": "/opt/bin:$PATH"}},
        "environment.PATH",
        "'$PATH' is set as it stands, because no shell reads it. Write a line of 'set_up': export ",
    ),
    (
        {"then": [{"command": ["b"], "environment": {"A": "${B}/x"}}]},
        "then.0.environment.A",
        "'${B}' is set as it stands, ",
    ),
]


@pytest.mark.parametrize(("data", "key", "said"), FAULTS)
def test_a_typical_mistake_is_a_fault_with_its_key(data: Any, key: str, said: str) -> None:
    [sentence] = complaints(data)
    assert sentence.startswith(f"x.yaml, key {key!r}: {said}")
    parse_definition({"command": ["run"], **data}, "x.yaml", "x")  # a job runs as before


@pytest.mark.parametrize(
    "data",
    [
        {"files": [{"pattern": "/data/../x"}, {"pattern": "a/../b"}, {"pattern": "{d}/../x"}],
         "inputs": {"d": {}}},
        {"directory": "run", "files": [{"pattern": "../x"}]},
        {"files": [{"pattern": "*-+[ab]?.mtz"}, {"pattern": ".log"}]},
        with_test({"n": {"type": "list", "items": "integer"}}, {"n": "5"}),
        with_test({"a": {"default": "{payload[x]}", "type": "number"}}, {}, payload={"x": 3}),
        with_test({}, {}, exit_status=3, outcome="failure"),
        with_test({}, {}, exit_status=3) | {"success": {"exit_status": []}},
        with_test({}, {}, exit_status=3)
        | {"then": [{"command": ["b"], "success": {"exit_status": [0, 3]}}]},
        known("13[79]"),
        known(r"\d+"),
        known("139|Segmentation fault", ["stderr", "exit_status"]),
        in_text("a{2}b", inputs={}),
        {"progress": {"pattern": r"(?P<done>\d+) %", "total": 100}},
        {"command": ["/opt/my tools/run", "-x"]},
        {"command": ["awk", "{print $NF}", "$1", "a~b", "x~"]},
        {"command": ["bash", "-c", "echo $HOME > x"]},
        {"command": "cd x && run $HOME/y"},
        {"environment": {"A": "5$", "B": "a$1"}},
        {"command": ["a", "{files}", "{timeout}"], "inputs": {"files": {}, "timeout": {}}},
    ],
)  # fmt: skip
def test_what_is_meant_so_is_no_fault(data: Any) -> None:
    assert complaints(data) == []


@pytest.mark.parametrize(
    ("data", "key", "said"),
    [
        (
            {"progress": {"pattern": "Integrating"}},
            "progress.pattern",
            "the pattern has no groups, so that the whole match is shown, without rate and time ",
        ),
        (
            {"command": ["a", "{d}"], "inputs": {"d": {"required": True, "default": 1}}},
            "inputs.d.required",
            "input 'd' is never missing, because it has a default: 'required' is idle.",
        ),
        (
            {"command": ["a", "{d}"], "inputs": {"d": {"default": "None"}}},
            "inputs.d.default",
            "the default of input 'd' is the text 'None', which the program gets; ",
        ),
        (
            {"command": ["a", "{timeout}"], "inputs": {"timeout": {"default": 60}}},
            "inputs.timeout.default",
            "the default of 'timeout' fills in '{timeout}' and does no more: 'limits.time' is the ",
        ),
        (
            {"command": ["a"], "inputs": {"o": {}}, "success": {"files": ["{o}.mtz"]}},
            "success.files.0",
            "a step that gives no value for 'o' fails here; give the input a default, or ",
        ),
        ({"directory": "x-{o}", "inputs": {"o": {}}}, "directory", "a step that gives no value "),
    ],
)
def test_what_may_be_meant_otherwise_is_a_remark(data: Any, key: str, said: str) -> None:
    data = {"command": ["run"], **data}
    assert complaints(data) == []
    [remark] = remarks(checked(data, "x.yaml", "x"))
    assert ".".join(remark.route) == key
    assert remark.said.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# a comment\n\ndescription: x\n", ":3: Key 'command' is missing. Known keys there: "),
        ("inputs:\n  a: {}\ncommand: []\n", ":3, key 'command' is empty; "),
        ("command: [a]\nthen:\n  - name: b\n", ":3, key 'then.0': Key 'command' is missing. "),
        ("command: [a]\ndirectory: ../x\n", ":2, key 'directory' is '../x'; "),
        ("command: [a]\ncheckpoint: {before_s: 5}\n", ":2, key 'checkpoint': one of 'signal' "),
        ("command: [a]\nfor_each: {b: c}\n", ":2, key 'for_each': Unknown input 'c'. "),
        (
            OF_A_TEST,
            ":6, key 'tests.0.job_parameters.n': Input 'n' is 'x'; a number is expected.",
        ),
    ],
)
def test_a_mistake_has_the_line_in_which_it_is(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(PermanentError) as caught:
        check_file(file)
    assert str(caught.value).startswith(f"{file}{said}")


def test_a_remark_has_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("command: [run]\nprogress:\n  pattern: Integrating\n")
    [line] = remarked(check_file(file))
    assert line.startswith(f"{file}:3, key 'progress.pattern': the pattern has no groups, ")


def test_a_table_of_errors_is_searched_for_the_same_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("errors:\n  - {where: exit_status, pattern: Killed, cause: killed}\n")
    with pytest.raises(PermanentError) as caught:
        check_table(file)
    assert str(caught.value).startswith(
        f"{file}:2, key 'errors.0.pattern': 'Killed' matches no exit status; "
    )
