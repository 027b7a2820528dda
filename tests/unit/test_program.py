"""Rules of program definitions: what is run, what is parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import ProgramError, UnknownNameError
from zwrap.program import invocation
from zwrap.program.argv import MODULE, argv
from zwrap.program.definition import Definition
from zwrap.program.parsers.table import parse
from zwrap.program.plan import plan
from zwrap.program.reading import (
    INLINE_PROGRAM,
    SHIPPED_PROGRAMS,
    find_program,
    parse_definition,
    program_names,
    read_definition,
)


def definition(**values: Any) -> Definition:
    return parse_definition({"command": ["run"], **values}, "test.yaml", "prog")


def known(defined: Definition, payload: Any = None, **parameters: Any) -> dict[str, Any]:
    return invocation.values(defined, parameters, payload, {"ID": "guid"})


@pytest.mark.parametrize("name", program_names())
def test_every_shipped_definition_is_sound(name: str) -> None:
    if name != INLINE_PROGRAM:
        assert read_definition(SHIPPED_PROGRAMS / f"{name}.yaml").name == name


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"command": []}, "test.yaml, key 'command' is empty"),
        ({"name": "a/b"}, "key 'name' is 'a/b'; letters, digits"),
        (
            {"comand": ["x"]},
            "key 'comand': Unknown key 'comand'. Did you mean 'command'.*Known keys there: ",
        ),
        (
            {"success": {"exit_status": 0}},
            "key 'success.exit_status': It is a whole number; a list is expected",
        ),
        ({"outputs": {"o": {"file": "f", "parser": "jsn"}}}, "Unknown parser 'jsn'.*'json'"),
        ({"limits": {"time": "soon"}}, "key 'limits.time' is 'soon'"),
        ({"limits": {"grace_s": 0}}, ">= 1"),
        ({"checkpoint": {}}, "key 'checkpoint': one of 'signal' and 'command'"),
        (
            {"checkpoint": {"signal": "USR1", "command": ["x"]}},
            "key 'checkpoint': one of 'signal' and 'command'",
        ),
        ({"checkpoint": {"signal": "KILL"}}, "'checkpoint.signal': Unknown word 'KILL'.*HUP, INT"),
        (
            {"success": {"text": [{"file": "log", "pattern": "("}]}},
            r"success rule for log: '\(' is not a valid regular expression",
        ),
        ({"progress": {"pattern": "["}}, "key 'progress': '\\[' is not a valid regular expression"),
        (
            {"outputs": {"o": {"file": "f", "parser": "regex", "options": {"pattern": "*"}}}},
            r"output 'o', option 'pattern': '\*' is no",
        ),
    ],
)
def test_each_fault_of_a_definition_names_file_and_key(values: Any, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint) as caught:
        definition(**values)
    assert getattr(caught.value, "exit_status", None) == 100


@pytest.mark.parametrize("text", ["{", "[]", "- a"])
def test_a_file_that_is_no_definition_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(ProgramError, match=r"odd\.yaml"):
        read_definition(file)


def test_a_site_definition_goes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "gemmi-merge.yaml").write_text("command: [mine]\n")
    found = find_program("gemmi-merge", {}, tmp_path)
    assert found
    assert found.command == ["mine"]
    assert find_program("../gemmi-merge", {}, tmp_path / "x") is None


def test_the_command_program_stands_in_the_job_parameters() -> None:
    found = find_program("command", {"command": ["a"], "working_directory": "/w"})
    assert found
    assert found.command == ["a"]
    with pytest.raises(ProgramError, match="which has no key 'command'"):
        find_program("command", {})


def test_parameters_of_the_command_program_may_be_called_like_keys_of_another_kind() -> None:
    """Recipes had them before a definition had these keys."""
    parameters = {"command": ["cp", "{link}", "{copy}"], "link": "a", "copy": 5, "groups": True}
    found = find_program("command", parameters)
    assert found
    values = invocation.values(found, parameters, None, {})
    assert argv(plan(found, values)[0]) == ["cp", "a", "5"]


def test_values_come_from_defaults_then_parameters_then_the_program_s_block() -> None:
    defined = definition(inputs={name: {"default": "default"} for name in "abc"})
    values = known(defined, b="top", c="top", prog={"c": "block"})
    assert [values[name] for name in "abc"] == ["default", "top", "block"]


def test_a_missing_required_input_is_named_with_its_description() -> None:
    defined = definition(inputs={"x": {"required": True, "description": "the data"}})
    with pytest.raises(ProgramError, match=r"'prog' needs input 'x' \(the data\)"):
        known(defined)


def test_an_input_file_must_exist(tmp_path: Path) -> None:
    defined = definition(inputs={"x": {"file": True}})
    (tmp_path / "there").touch()
    invocation.check_files(defined, known(defined, x="there"), tmp_path)
    with pytest.raises(ProgramError, match="Input 'x' of program 'prog' is 'gone', which does not"):
        invocation.check_files(defined, known(defined, x=["there", "gone"]), tmp_path)


def test_arguments_are_filled_in_repeated_and_dropped_but_never_split() -> None:
    defined = definition(
        command=["run", "--a={a}", "image={images}", "{none}", "{payload[d]}", "{}"],
        inputs={"a": {}, "images": {}, "none": {}},
    )
    values = known(defined, {"d": 1.5}, a="x y; $(z)", images=["1", "2 3"])
    assert argv(plan(defined, values)[0]) == [
        "run", "--a=x y; $(z)", "image=1", "image=2 3", "1.5", "{}",
    ]  # fmt: skip


def test_set_up_lines_and_shell_text_run_in_a_shell_with_values_quoted() -> None:
    defined = definition(set_up=["load {v}"], inputs={"v": {"default": "a b"}})
    assert argv(plan(defined, known(defined))[0]) == [
        "/bin/bash", "-c", "load 'a b'\nexec run",
    ]  # fmt: skip
    defined = definition(set_up=["module load {v}"], inputs={"v": {"default": "a b"}})
    found = MODULE.read_text().rstrip()  # which finds `module`
    assert argv(plan(defined, known(defined))[0]) == [
        "/bin/bash", "-c", f"{found}\nmodule load 'a b'\nexec run",
    ]  # fmt: skip
    defined = definition(command="x < {f}", inputs={"f": {"default": "; rm"}})
    assert argv(plan(defined, known(defined))[0]) == ["/bin/bash", "-c", "x < '; rm'"]


def write(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)


MERGING = """\
In resolution shells:
  d_max  d_min   #obs  #uniq  #used  Rmerge   Rmeas   Rpim    CC1/2
 31.804 4.070    2443    677    590   0.015   0.018   0.009   1.0000
  1.958 1.891     842    450    271   0.228   0.295   0.186   0.9144

Observations (all reflections): 20208
Unique reflections: 5998
Used refl. (those with multiplicity 2+): 5392
          Overall    Avg of 10 shells weighted by #used
R-merge:  0.0379          0.0807
R-meas:   0.0445          0.0975
R-pim:    0.0229          0.0536
CC1/2:    0.99984         0.98252
"""


def test_merging_statistics_are_read_value_by_value(tmp_path: Path) -> None:
    write(tmp_path, "log", MERGING)
    parsed = parse("gemmi-merging-statistics", tmp_path / "log", {})
    assert parsed["overall"] == {
        "observations": 20208, "unique": 5998, "used": 5392, "r_merge": 0.0379, "r_meas": 0.0445,
        "r_pim": 0.0229, "cc_half": 0.99984, "d_max": 31.804, "d_min": 1.891,
    }  # fmt: skip
    assert parsed["shells"][1] == {
        "d_max": 1.958, "d_min": 1.891, "observations": 842, "unique": 450, "used": 271,
        "r_merge": 0.228, "r_meas": 0.295, "r_pim": 0.186, "cc_half": 0.9144,
    }  # fmt: skip
    assert len(parsed["shells"]) == 2


@pytest.mark.parametrize("name", ["gemmi-merging-statistics", "gemmi-column-statistics"])
@pytest.mark.parametrize("text", ["", "something else\n", MERGING[:200]])
def test_a_log_without_the_table_is_refused(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, "log", text)
    with pytest.raises(ProgramError, match="log holds no"):
        parse(name, tmp_path / "log", {})


@pytest.mark.parametrize(
    ("parser", "options", "expected"),
    [
        ("lines", {"pattern": "^k"}, ["key = 1", "key = 2.5"]),
        ("regex", {"pattern": r"key = (?P<k>\S+)"}, {"k": 2.5}),
        ("table", {"header": "^h1"}, [{"h1": 1, "h2": "x"}, {"h1": 2.0, "h2": "y"}]),
        ("text", {}, "key = 1\nkey = 2.5\nh1 h2\n1 x\n2.0 y\nend\n"),
    ],
)
def test_generic_parsers(tmp_path: Path, parser: str, options: Any, expected: Any) -> None:
    write(tmp_path, "f", "key = 1\nkey = 2.5\nh1 h2\n1 x\n2.0 y\nend\n")
    assert parse(parser, tmp_path / "f", options) == expected


@pytest.mark.parametrize(
    ("parser", "options", "complaint"),
    [
        ("regex", {"pattern": "absent"}, "does not match 'absent'"),
        ("regex", {}, "needs a text under options, key 'pattern'"),
        ("table", {"header": "absent"}, "no table with a header like 'absent'"),
        ("json", {}, "is not valid JSON"),
    ],
)
def test_generic_parsers_say_what_is_missing(
    tmp_path: Path, parser: str, options: Any, complaint: str
) -> None:
    write(tmp_path, "f", "text\n")
    with pytest.raises(ProgramError, match=complaint):
        parse(parser, tmp_path / "f", options)


def test_an_unknown_parser_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'table'"):
        parse("tabel", tmp_path / "f", {})


def test_json_may_be_entered_by_a_dotted_key(tmp_path: Path) -> None:
    write(tmp_path, "f", '{"a": {"b": [1]}}')
    assert parse("json", tmp_path / "f", {"key": "a.b"}) == [1]
    with pytest.raises(ProgramError, match=r"has no key 'a\.c'"):
        parse("json", tmp_path / "f", {"key": "a.c"})
