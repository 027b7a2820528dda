"""Faults of program definitions that `zwrap check` and `zwrap recipe check` tell, with places."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zwrap.cli.zwrap import main
from zwrap.errors import FaultsError, PermanentError, UnknownNameError
from zwrap.program.checks.checking import check_file, checked
from zwrap.program.checks.inline import inline_faults
from zwrap.program.checks.remarks import remarks
from zwrap.program.choice import Choice
from zwrap.program.definition import SHIPPED_PROGRAMS, Definition
from zwrap.program.keys.marks import FILLED, INPUT_NAME
from zwrap.program.reading import parse_definition

SHIPPED = sorted(SHIPPED_PROGRAMS.glob("*.yaml"))


def complaints(data: dict[str, Any], further: tuple[str, ...] = ()) -> list[str]:
    """Return the sentences of a full check of a definition; none if it is right."""
    try:
        checked({"command": ["run"], **data}, "x.yaml", "x", further=further)
    except FaultsError as error:
        return [str(fault) for fault in error.faults]
    except PermanentError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.stem))
def test_each_shipped_definition_refers_to_things_that_exist(file: Path) -> None:
    assert check_file(file).name == file.stem


# -- form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"success": {"file": ["a"]}},
            "x.yaml, key 'success.file': Unknown key 'file'. Did you mean 'files'? Known keys ",
        ),
        (
            {"outputs": {"o": {"file": "f", "parser": "json", "chanel": "c"}}},
            "x.yaml, key 'outputs.o.chanel': Unknown key 'chanel'. Did you mean 'channel'? ",
        ),
        (
            {"inputs": {"i": {"requird": True}}},
            "x.yaml, key 'inputs.i.requird': Unknown key 'requird'. Did you mean 'required'? ",
        ),
        (
            {"success": {"text": [{"file": "f"}]}},
            "x.yaml, key 'success.text.0': Key 'pattern' is missing. Known keys there: file, ",
        ),
        ({"limits": {"grace_s": 0}}, "x.yaml, key 'limits.grace_s': It is 0; a whole number >= 1 "),
        ({"description": 5}, "x.yaml, key 'description': It is a whole number; a text is expected"),
        ({"scratch": "kep"}, "x.yaml, key 'scratch': Unknown word 'kep'. Did you mean 'keep'? "),
        ({"files": ["a"]}, "x.yaml, key 'files.0': It is a text; a mapping of keys to values is "),
    ],
)
def test_a_fault_of_form_names_key_and_what_is_known_there(data: Any, said: str) -> None:
    [sentence] = complaints(data)
    assert sentence.startswith(said)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"command": ["run", {"images": None}]}, "command.1"),
        ({"command": ["run", ["-i", {"images": None}]]}, "command.1.1"),
        ({"directory": {"images": None}}, "directory"),
        ({"success": {"files": [{"images": None}]}}, "success.files.0"),
        ({"outputs": {"o": {"file": {"images": None}, "parser": "json"}}}, "outputs.o.file"),
    ],
)
def test_a_placeholder_without_quotes_is_told_to_need_them(data: Any, key: str) -> None:
    [sentence] = complaints({"inputs": {"images": {}}, **data})
    assert sentence == (
        f"x.yaml, key {key!r}: It is a mapping of keys to values; a text is expected. A "
        'placeholder needs quotes: "{images}".'
    )


def test_all_faults_of_form_are_told_at_once() -> None:
    data = {"comand": 1, "success": {"file": []}, "inputs": {"a": {"fil": True}, "b": 3}}
    assert len(complaints(data)) == 4


def test_a_job_is_told_the_first_fault_and_how_many_there_are() -> None:
    with pytest.raises(PermanentError, match=r"Unknown key 'fil'.*\(2 more: zwrap check\)"):
        parse_definition({"command": ["x"], "fil": 1, "fils": 2, "success": 3}, "x.yaml", "x")


# -- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "key", "said"),
    [
        (
            {"command": ["run", "{imagse}"], "inputs": {"images": {}}},
            "command.1",
            "Unknown placeholder 'imagse'. Did you mean 'images'? ",
        ),
        ({"command": "run < {imagse}"}, "command", "Unknown placeholder 'imagse'."),
        ({"set_up": ["cd {plce}"]}, "set_up.0", "Unknown placeholder 'plce'."),
        ({"environment": {"A": "{b}"}}, "environment.A", "Unknown placeholder 'b'."),
        ({"directory": "{pipe}"}, "directory", "Unknown placeholder 'pipe'."),
        ({"files": [{"pattern": "{crystl}.mtz"}]}, "files.0.pattern", "Unknown placeholder "),
        ({"success": {"files": ["{o}"]}}, "success.files.0", "Unknown placeholder 'o'."),
        ({"success": {"no_files": ["{o}"]}}, "success.no_files.0", "Unknown placeholder 'o'."),
        (
            {"success": {"text": [{"file": "{o}", "pattern": "x"}]}},
            "success.text.0.file",
            "Unknown placeholder 'o'.",
        ),
        (
            {"outputs": {"a": {"file": "{o}", "parser": "json"}}},
            "outputs.a.file",
            "Unknown placeholder 'o'.",
        ),
        (
            {"option_files": [{"option": "o", "content": "a = {b}"}]},
            "option_files.0.content",
            "Unknown placeholder 'b'.",
        ),
        (
            {"messages": {"ispyb": {"a": ["{rfactors[x]}"]}}},
            "messages.ispyb.a.0",
            "Unknown placeholder 'rfactors'.",
        ),
        (
            {"messages": {"ispyb": {"a": "{$REPLACE:rfactors}"}}},
            "messages.ispyb.a",
            "Unknown placeholder 'rfactors'.",
        ),
        (
            {"options": [{"block": "b", "format": "{nam}={value}"}]},
            "options.0.format",
            "Unknown placeholder 'nam'. Did you mean 'name'? Known: name, value.",
        ),
        (
            {"command": ["{o}"], "outputs": {"o": {"file": "f", "parser": "json"}}},
            "command.0",
            "The placeholder {o} names a result of the run, which is known in messages only.",
        ),
        (
            {"inputs": {"a": {"default": "{b}"}, "b": {}}},
            "inputs.a.default",
            "The placeholder {b} names an input that stands only below it.",
        ),
        (
            {"command": ["{payload.key}"]},
            "command.0",
            "The placeholder {payload.key} gets no value; a key is taken as in {payload[key]} ",
        ),
        ({"command": ["{scratch}"]}, "command.0", "Unknown placeholder 'scratch'."),
        (
            {"outputs": {"o": {"file": "f", "parser": "regex", "options": {"pattern": r"a (\d)"}}}},
            "outputs.o.options.pattern",
            r"Parser 'regex' gives the named groups of its pattern, and 'a (\d)' has none; write ",
        ),
        (
            {"outputs": {"o": {"file": "f", "parser": "json", "options": {"keys": "a"}}}},
            "outputs.o.options.keys",
            "Unknown option of parser 'json' 'keys' (output 'o'). Did you mean 'key'? Known: ",
        ),
        (
            {"outputs": {"o": {"file": "f", "parser": "xia2", "beside": {"raport": "r.json"}}}},
            "outputs.o.beside.raport",
            "Unknown file of parser 'xia2' 'raport' (output 'o'). Did you mean 'report'? ",
        ),
        (
            {"outputs": {"o": {"file": "f", "parser": "table"}}},
            "outputs.o.options",
            "output 'o': parser 'table' needs option 'header'",
        ),
        (
            {"files": [{"pattern": "a", "type": "lgo"}]},
            "files.0.type",
            "Unknown type of files 'lgo'. Did you mean 'log'? Known: result, log, graph, ",
        ),
        (
            {"outputs": {"o": {"file": "f", "parser": "xia2", "only_if": {"report": "r"}}}},
            "outputs.o.only_if",
            "Unknown key of 'beside' 'report'. Known: none.",
        ),
        (
            {
                "command": ["run", "{sweep}", "{sweep_number}"],
                "inputs": {"sweeps": {}},
                "for_each": {"sweep": "sweeps"},
                "files": [{"pattern": "{sweep}"}],
            },
            "files.0.pattern",
            "Unknown placeholder 'sweep'. Did you mean 'sweeps'? ",
        ),
        (
            {"then": [{"name": "b", "command": ["b", "{imagse}"]}]},
            "then.0.command.1",
            "Unknown placeholder 'imagse'.",
        ),
        ({"stdin": "title {titel}\n"}, "stdin", "Unknown placeholder 'titel'."),
        ({"command": ["run", ["-M", "{macro}"]]}, "command.1.1", "Unknown placeholder 'macro'."),
        (
            {"command": ["run", {"if": "anomalus", "then": "-a"}], "inputs": {"anomalous": {}}},
            "command.1.if",
            "Unknown input 'anomalus'. Did you mean 'anomalous'? ",
        ),
        (
            {"write": [{"file": "x", "template": "a {{ sgg }}"}], "inputs": {"sg": {}}},
            "write.0.template",
            "Unknown placeholder 'sgg'. Did you mean 'sg'? ",
        ),
        (
            {
                "errors": [{"pattern": "x", "cause": "no-spots"}],
                "tests": [{"directory": ".", "cause": "no-spot", "outcome": "failure"}],
            },
            "tests.0.cause",
            "Unknown cause 'no-spot'. Did you mean 'no-spots'? ",
        ),
        (
            {"errors": [{"where": "{log}", "pattern": "x", "cause": "no-spots"}]},
            "errors.0.where",
            "Unknown placeholder 'log'.",
        ),
        ({"tests": [{"directory": "gone"}]}, "tests.0.directory", "gone is not a directory; "),
        (
            {
                "tests": [{"directory": ".", "job_parameters": {"imags": 1}}],
                "inputs": {"images": {}},
            },
            "tests.0.job_parameters",
            "The program knows no key 'imags' (did you mean 'images'?).",
        ),
        (
            {"tests": [{"directory": ".", "values": {"spotz.n": 1}}]},
            "tests.0.values",
            "Unknown output 'spotz'.",
        ),
        (
            {"errors": [{"where": "stder", "pattern": "x", "cause": "no-spots"}]},
            "errors.0.where",
            "'stder' would be the name of a file. Did you mean 'stderr'?",
        ),
        (
            {"errors": [{"where": ["stderr", "exitstatus"], "pattern": "1", "cause": "x"}]},
            "errors.0.where.1",
            "'exitstatus' would be the name of a file. Did you mean 'exit_status'?",
        ),
        (
            {
                "then": [
                    {"command": ["b"], "success": {"text": [{"file": "STDOUT", "pattern": "x"}]}}
                ]
            },
            "then.0.success.text.0.file",
            "'STDOUT' would be the name of a file. Did you mean 'stdout'?",
        ),
        ({"files": [{"pattern": "stdot"}]}, "files.0.pattern", "'stdot' would be the name of a "),
        (
            {"outputs": {"o": {"file": ["a.json", "sdterr"], "parser": "json"}}},
            "outputs.o.file.1",
            "'sdterr' would be the name of a file. Did you mean 'stderr'?",
        ),
        (
            {"progress": {"pattern": "x", "file": "stderrr"}},
            "progress.file",
            "'stderrr' would be the name of a file. Did you mean 'stderr'?",
        ),
        (
            {"command": ["run", "-Id {sweeps}"], "inputs": {"sweeps": {}}},
            "command.1",
            "'-Id {sweeps}' is one argument, blank included; write [-Id, \"{sweeps}\"].",
        ),
        (
            {"then": [{"command": ["b", ["-x", "|"]]}]},
            "then.0.command.1.1",
            "'|' is an argument of the program: no shell runs a list. Write the command as a text.",
        ),
        (
            {"command": ["run", ">", "a"]},
            "command.1",
            "'>' is an argument of the program: no shell ",
        ),
        ({"stdout": "/tmp/a"}, "stdout", "It is '/tmp/a'; the name of a file is expected, "),
        (
            {"then": [{"command": ["b"], "directory": "../w"}]},
            "then.0.directory",
            "It is '../w'; a directory below the working directory is expected, ",
        ),
        (
            {"stdout": "a", "then": [{"command": ["b"], "stdout": "a"}]},
            "then.0.stdout",
            "The output of two commands would go to the file a; ",
        ),
        (
            {"for_each": {"word": "words"}, "inputs": {"words": {"type": "text"}}},
            "for_each.word",
            "Input 'words' is of type text; one of type list is expected.",
        ),
        (
            {"command": ["run", "--n={n"], "inputs": {"n": {}}},
            "command.1",
            "The brace of the placeholder '{n' is not closed.",
        ),
        (
            {
                "messages": {"m": {"each": "o", "thne": 1}},
                "outputs": {"o": {"file": "f", "parser": "json"}},
            },
            "messages.m",
            "Key 'then' is missing: with 'each' it holds what the message is made of.",
        ),
    ],
)
def test_what_a_definition_names_must_exist(data: Any, key: str, said: str) -> None:
    [sentence] = complaints(data)
    assert sentence.startswith(f"x.yaml, key {key!r}: {said}")
    parse_definition({"command": ["run"], **data}, "x.yaml", "x")  # a job runs as before


@pytest.mark.parametrize(
    "data",
    [
        {
            "command": [
                "{a}",
                "{payload[x][0]}",
                "{environment[ID]}",
                "{working_directory}",
                "{b}",
            ],
            "inputs": {"a": {}},
            "options": [{"block": "b", "format": "--{name}={value}"}],
        },
        {"command": "awk '{print $1}' ${HOME} {a,b} {0} {{a}} {}"},
        {"command": ["{scratch}"], "scratch": "keep"},
        {"inputs": {"a": {}, "b": {"default": "{a}.mtz"}}},
        {
            "outputs": {"o": {"file": "f", "parser": "json"}},
            "messages": {"m": ["{o[x]}", "{$REPLACE:o[x]}", "{$REPLACE:files}", 5]},
        },
        {"success": {"text": [{"file": "stdout", "pattern": "a{2}{x}"}]}},
        {"files": [{"pattern": "stdout"}, {"pattern": "out"}, {"pattern": "stdout.txt"}]},
        {
            "stdout": "a",
            "inputs": {"b": {}},
            "then": [{"command": ["b"], "stdout": "a", "directory": "{b}"}],
        },
        {"command": ["awk", "{n += NF} END {print n}", "a > b", "-e a b"], "inputs": {"n": {}}},
    ],
)
def test_what_exists_is_no_complaint(data: Any) -> None:
    assert complaints(data) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("limits:\n  time: ten minutes\n", 3),
        ("then:\n  - command: [b]\n    limits:\n      time: soon\n", 5),
        ("success:\n  values:\n    - {output: fit.cc}\n", 3),
        ("errors:\n  - pattern: x\n    cause: y\n    retry:\n      set: {n: 1}\n", 6),
        ("write:\n  - file: x\n    template_file: gone.j2\n", 4),
        ("messages:\n  m:\n    then: 1\n    append_to: gone\n", 5),
        ("name: a b\n", 2),
    ],
)
def test_a_fault_of_a_value_names_its_line(text: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"command: [run]\n{text}")
    with pytest.raises(PermanentError, match=f"{re.escape(str(file))}:{line}, "):
        check_file(file)


@pytest.mark.parametrize(
    "data",
    [
        {"groups": [{"together": ["a", "b"]}]},
        {"outputs": {"o": {"file": "f", "parser": "cvs"}}},
        {"errors_of": ["dails"]},
        {"for_each": {"x": "xs"}},
        {"messages": {"m": {"then": 1, "append_to": "n"}}},
    ],
)
def test_the_place_of_an_unknown_name_stands_first(data: Any) -> None:
    [sentence] = complaints(data)
    assert re.match(r"x\.yaml, [^:]+: Unknown [^(]+$", sentence)


def test_an_input_without_use_is_a_remark() -> None:
    data = {"command": "run {a} {{b}}", "inputs": {"a": {}, "b": {}, "c": {"default": "{a}"}}}
    [unused, doubled] = remarks(checked(data, "x.yaml", "x"))
    assert unused == (("inputs", "c"), "input 'c' is used nowhere.")
    assert doubled == (
        ("command",),
        "'{{b}}' is the text '{b}'; the value of input 'b' is '{b}', in single braces.",
    )


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.stem))
def test_each_shipped_definition_uses_its_inputs(file: Path) -> None:
    assert [*remarks(check_file(file))] == []


def test_further_job_parameters_may_be_said_to_exist() -> None:
    assert complaints({"command": ["{more}"]}, further=("more",)) == []


PLAIN = """
Definition.name description set_up_key refused ignored blocks errors_of source
Command.name  Input.description choices pattern block split sweep  OptionBlock.block names split
OptionBlock.join without  ParameterFile.prefix file argument  OptionFile.option
Written.template template_file before  Limits.time  Checkpoint.command  TextRule.pattern
ValueRule.equals output  KnownError.pattern cause says remedy  Correction.set
Output.parser options only_if unless channel  ResultFile.type  Progress.pattern
Expectation.directory job_parameters payload cause values
"""
"""Fields of the types of a definition whose texts are neither filled in nor names of inputs."""


def texts_without_mark(kind: Any) -> set[str]:
    """Return the fields of a struct, and of those in it, that hold texts and have no mark."""
    found = set()
    for field in msgspec.structs.fields(kind):
        marks = getattr(field.type, "__metadata__", ())
        inner = structs_in(field.type)
        found |= {each for struct in inner for each in texts_without_mark(struct)}
        plain = re.search(r"\bstr\b|\bobject\b", str(field.type))
        if (
            plain
            and not inner
            and not {FILLED.extra["texts"], INPUT_NAME.extra["texts"]}
            & {(mark.extra or {}).get("texts") for mark in marks}
        ):
            found.add(f"{kind.__name__}.{field.name}")
    return found


def structs_in(kind: Any) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [each for given in typing.get_args(kind) for each in structs_in(given)]


def test_each_text_of_a_definition_is_marked_or_known_to_be_plain() -> None:
    plain, kind = set(), ""
    for word in PLAIN.split():
        kind, _, name = word.rpartition(".") if "." in word else (kind, "", word)
        plain.add(f"{kind}.{name}")
    assert texts_without_mark(Definition) == plain


# -- zwrap check -----------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of definitions of a site."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "site.yml").write_text(
        "version: 1\nenvironments: {default: [s]}\n"
        f"s: {{plugin: storage, zwrap.program_directory: {programs}}}\n"
    )
    monkeypatch.setenv("ZOCALO_CONFIG", str(tmp_path / "site.yml"))
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    return programs


def told(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(["check"])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_zwrap_check_tells_file_and_line_of_each_complaint(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "odd.yaml").write_text(
        "command: [run, '{imagse}']\ninputs:\n  images: {}\nfiles:\n  - pattern: a\n    type: lgo\n"
    )
    status, _, err = told(capsys)
    assert status == 100
    assert f"{site}/odd.yaml:1, key 'command.1': Unknown placeholder 'imagse'." in err
    assert f"{site}/odd.yaml:6, key 'files.0.type': Unknown type of files 'lgo'." in err


def test_zwrap_check_tells_the_line_of_a_wrong_key(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "odd.yaml").write_text("command: [run]\nsuccess:\n  files: [a]\n  no_file: [b]\n")
    status, _, err = told(capsys)
    assert status == 100
    assert f"{site}/odd.yaml:4, key 'success.no_file': Unknown key 'no_file'. Did you mean " in err


def test_the_same_key_twice_is_a_fault(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "odd.yaml").write_text("command: [a]\nfiles: []\ncommand: [b]\n")
    status, _, err = told(capsys)
    assert status == 100
    assert "odd.yaml, line 3: key 'command' is there twice; the first is in line 1" in err


def test_the_line_of_a_wrong_key_in_a_table_of_errors_is_told(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "errors").mkdir()
    (site / "errors" / "mine.yaml").write_text("errors:\n  - pattern: x\n    cuase: y\n")
    status, _, err = told(capsys)
    assert status == 100
    assert f"{site}/errors/mine.yaml:3, key 'errors.0.cuase': Unknown key 'cuase'. Did you " in err


def test_a_file_that_is_never_read_is_a_fault(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "mine.yml").write_text("command: [a]\n")
    status, _, err = told(capsys)
    assert status == 100
    assert "mine.yml is never read" in err
    assert "Rename it to mine.yaml." in err


def test_a_job_whose_definition_has_the_wrong_end_is_told_so(site: Path) -> None:
    (site / "mine.yml").write_text("command: [a]\n")
    with pytest.raises(UnknownNameError, match=r"mine\.yml is never read: its name has to end"):
        Choice.of("mine", site)


def test_a_definition_that_hides_a_shipped_one_is_a_remark(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "xia2.yaml").write_text("command: [a]\n")
    status, out, err = told(capsys)
    assert (status, err) == (0, "")
    assert f"wrapper 'xia2' is definition {site}/xia2.yaml; it goes before definition " in out


def test_zwrap_check_says_which_definitions_are_untried(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "new.yaml").write_text("command: [a]\nstatus: untried\n")
    (site / "old.yaml").write_text("command: [a]\n")
    out = told(capsys)[1].splitlines()
    assert f"good: program new ({site}/new.yaml): untried" in out
    assert f"good: program old ({site}/old.yaml)" in out


def test_zwrap_check_shows_remarks_which_are_no_faults(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "new.yaml").write_text("command: [a]\ninputs: {b: {}}\n")
    status, out, _ = told(capsys)
    assert f"remark: {site}/new.yaml:2, key 'inputs.b': input 'b' is used nowhere." in out
    assert status == 0


# -- recipes ---------------------------------------------------------------------------------------

WRAPS = {"cluster": {"commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"}}


def in_recipe(job_parameters: dict[str, Any], parameters: Any = WRAPS) -> list[str]:
    node = {"parameters": parameters, "job_parameters": job_parameters}
    return [str(fault) for fault in inline_faults({1: node})]


def test_a_definition_in_a_recipe_is_checked_as_one_in_a_file() -> None:
    [fault] = in_recipe({"command": ["run", "{{imagse}}"], "images": 1})
    assert fault.startswith(
        "node 1, job_parameters, key 'command.1': Unknown placeholder 'imagse'. Did you mean "
    )
    [fault] = in_recipe({"command": ["run"], "success": {"file": []}})
    assert fault.startswith("node 1, job_parameters, key 'success.file': Unknown key 'file'.")
    [fault] = in_recipe({"argv": ["run"]})
    assert "has no key 'command'" in fault


def test_what_a_recipe_leaves_open_is_no_fault() -> None:
    parameters = {
        "command": ["run", "{image}", "{{images}}", "{{payload[x]}}"],
        "images": "{images}",
        "limits": {"time": "{limit}"},
        "outputs": "{$REPLACE:outputs}",
    }
    assert in_recipe(parameters) == []


@pytest.mark.parametrize(
    "commands", ["zocalo.wrap --wrap xia2 -x", "zocalo.wrap --wrap command-line", "run --x command"]
)
def test_job_parameters_of_other_wrappers_are_no_definitions(commands: str) -> None:
    assert in_recipe({"command": 5}, {"cluster": {"commands": commands}}) == []


def test_recipe_check_tells_the_faults_of_definitions(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    recipe = {
        "start": [[1, []]],
        "1": {
            "queue": "cluster.submission",
            "parameters": {**WRAPS, "workingdir": "{workingdir}"},
            "job_parameters": {"command": ["run", "{{imagse}}"]},
        },
    }
    file.write_text(json.dumps(recipe))
    assert main(["recipe", "check", str(file)]) == 100
    shown = capsys.readouterr()
    assert f"recipe {file}: node 1, job_parameters, key 'command.1': Unknown placeholder" in (
        shown.err
    )
    assert "good" not in shown.out
