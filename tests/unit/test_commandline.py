"""Rules of command lines: groups, conditions, options, lists and missing values, standard input."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import ProgramError
from zwrap.program import invocation
from zwrap.program.argv import argv
from zwrap.program.checks.references import complaints
from zwrap.program.definition import Definition
from zwrap.program.keys.commandline import is_true
from zwrap.program.plan import Planned, environment, plan
from zwrap.program.reading import inline_definition, parse_definition

HOSTILE = [
    "two\nlines",
    "it's",
    'a "b"',
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED #",
    "--option=-v",
    "E\ntouch PWNED\nE",
    "\\",
    "{x}",
]
"""Values that mean something to a shell, or to a program that reads options."""

ONE_LINE = [value for value in HOSTILE if "\n" not in value]


def planned(given: dict[str, Any], **parameters: Any) -> list[Planned]:
    """Return the commands that a definition runs with these job parameters."""
    defined: Definition = parse_definition({"command": ["run"], **given}, "test.yaml", "prog")
    return plan(defined, invocation.values(defined, parameters, None, {"ID": "guid"}))


def arguments(given: dict[str, Any], **parameters: Any) -> list[str]:
    """Return the arguments of the first command, without the program."""
    return argv(planned(given, **parameters)[0])[1:]


def printed(command: str, directory: Path, inputs: dict[str, Any], **parameters: Any) -> str:
    """Return what bash prints for shell text."""
    given = {"command": command, "inputs": inputs}
    [first] = planned(given, **parameters)
    done = subprocess.run(
        argv(first), cwd=directory, capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (directory / "PWNED").exists()
    return done.stdout


OPTIONAL: dict[str, Any] = {"a": {}, "b": {}, "on": {}}


@pytest.mark.parametrize(
    ("command", "parameters", "expected"),
    [
        (["p", ["-M", "{a}"]], {}, []),
        (["p", ["-M", "{a}"]], {"a": "x y"}, ["-M", "x y"]),
        (["p", ["-Id", "{a}"]], {"a": ["1", "2"]}, ["-Id", "1", "-Id", "2"]),
        (["p", ["-i", "{a}:{b}"]], {"a": [1, 2], "b": ["x", "y"]}, ["-i", "1:x", "-i", "2:y"]),
        (["p", "{a}={b}"], {"a": [1, 2], "b": ["x", "y"]}, ["1=x", "2=y"]),
        (["p", ["-i", "{a}", "{b}"]], {"a": [1, 2]}, []),
        (["p", "{a}"], {"a": []}, []),
        (["p", "{a[0]}", "{b[0]}"], {"a": [1, 2]}, ["1"]),
        (["p", "{a:.2f}", "{b:.2f}"], {"a": [1, 2.5]}, ["1.00", "2.50"]),
        (["p", {"if": "on", "then": "-ANO"}], {"on": True}, ["-ANO"]),
        (["p", {"if": "on", "then": "-ANO"}], {"on": "false"}, []),
        (["p", {"if": "on", "then": "-ANO"}], {}, []),
        (["p", {"unless": "on", "then": ["-a", "{b}"]}], {"b": 2}, ["-a", "2"]),
        (["p", {"unless": "on", "then": ["-a", "{b}"]}], {}, []),
        (["p", {"unless": "on", "then": ["-a", "{b}"]}], {"on": 1, "b": 2}, []),
        (["p", {"if": "a", "then": "-l"}, "{a}"], {"a": ["x", "y"]}, ["-l", "x", "y"]),
        ([["nice", "-n", "{a}"], "p"], {}, []),
    ],
)
def test_words_that_belong_together_are_dropped_or_repeated_together(
    command: list[Any], parameters: dict[str, Any], expected: list[str]
) -> None:
    given = {"command": command, "inputs": OPTIONAL}
    assert arguments(given, **parameters) == expected


def test_a_pair_of_the_case_flag_optional_is_dropped_and_repeated() -> None:
    given = {
        "command": ["printf", "%s\n", ["-M", "{macro}"], ["-i", "{images}"]],
        "inputs": {"macro": {}, "images": {"required": True}},
        "options": [{"block": "parameters", "format": ["-p", "{name}", "{value}"]}],
    }
    parameters = {"images": ["a", "b"], "parameters": {"n": 5, "l": [1, 2]}}
    assert arguments(given, **parameters) == [
        "%s\n", "-i", "a", "-i", "b", "-p", "n", "5", "-p", "l", "1", "-p", "l", "2",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_an_option_that_is_true_is_a_flag_and_one_that_is_false_is_none(value: object) -> None:
    options = [{"block": "b", "format": "--{name}={value}", "flag": "--{name}"}]
    block = {"dry": value, "wet": False, "dark": "false", "n": 1, "m": 0}
    assert arguments({"options": options}, b=block) == ["--dry", "--n=1", "--m=0"]
    options = [{"block": "b"}]
    assert arguments({"options": options}, b={"dry": True, "wet": False}) == [
        "dry=True",
        "wet=False",
    ]


@pytest.mark.parametrize("value", [None, False, 0, "", [], "false", "No", " off ", "0"])
def test_what_is_false_in_a_condition(value: object) -> None:
    assert not is_true(value)


@pytest.mark.parametrize("value", [True, 1, "x", ["x"], "true", "none"])
def test_what_is_true_in_a_condition(value: object) -> None:
    assert is_true(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_an_argument_is_the_value_whatever_it_holds(value: str, tmp_path: Path) -> None:
    given = {"inputs": {"x": {}}, "command": ["p", ["-i", "{x}"]]}
    assert arguments(given, x=[value, value]) == ["-i", value, "-i", value]
    in_shell = {**given, "command": ["printf", "%s|", ["-i", "{x}"]], "set_up": ["n={n}", ": {x}"]}
    done = subprocess.run(
        argv(planned(in_shell, x=[value, value], n=1)[0]),
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"-i|{value}|" * 2
    assert not (tmp_path / "PWNED").exists()


def test_lists_that_stand_together_are_of_equal_length() -> None:
    given = {"command": ["p", "{a}={b}"], "inputs": OPTIONAL}
    with pytest.raises(ProgramError, match=r"\{a\} has 2 entries and \{b\} has 3 entries; lists"):
        arguments(given, a=[1, 2], b=[1, 2, 3])


def test_the_name_of_the_program_is_never_another_word_of_its_command_line() -> None:
    given = {"command": ["{a}", "{b}"], "inputs": OPTIONAL}
    with pytest.raises(ProgramError, match=r"'\{a\}', the name of the program, has no value"):
        arguments(given, b="rm")
    with pytest.raises(ProgramError, match="no word of key 'command' is left"):
        arguments({"command": [["{a}"]], "inputs": OPTIONAL})
    with pytest.raises(ProgramError, match=r"\{a\} has no value, and stands as the name of a com"):
        arguments({"command": "{a} {b}", "inputs": OPTIONAL}, b="rm")


def test_the_check_names_an_option_that_would_be_left_alone() -> None:
    """It would take the next word for its value."""
    given = {
        "command": ["p", "-M", "{a}", ["-M", "{a}"], "-v", ["{a}"], "-n", "{n}", "-", "{a}"],
        "inputs": {"a": {}, "n": {"default": 1}, "r": {"required": True}},
        "then": [{"command": ["q", "--run", "{r}", "--title", "{a}"]}],
    }
    defined = parse_definition(given, "test.yaml", "prog")
    first, second = complaints(defined)
    assert (first.route, second.route) == (("command", "1"), ("then", "0", "command", "3"))
    assert first.said.startswith('-M is left alone where {a} has no value. Write [-M, "{a}"]')


# -- shell text ------------------------------------------------------------------------------------

SHELL: dict[str, Any] = {"l": {}, "no": {}, "one": {}, "x": {}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("printf '%s|' start {l} opt={no} end", "start|a b|c|end|"),
        ("printf '%s|' \"{l}\" '{no}' -{x}-", "a b|c|-x-|"),
        ("printf '%s|' i={l}={x}", "i=a b=x|i=c=x|"),
        ("printf '%s|' $(printf '%s,' {l} {no})", "a|b,c,|"),
        ("printf '%s|' \"$(printf '%s,' {l} {no})\" a{one}", "a b,c,|a1|"),
        ("for i in {l} {no}; do printf '%s|' \"$i\"; done", "a b|c|"),
        ("v=({l} {no} {x}); printf '%s|' \"${{v[@]}}\" ${{#v[@]}}", "a b|c|x|3|"),
        ("v={no}; printf '%s|' \"[$v]\"", "[]|"),
        ("v={one}; printf '%s|' \"[$v]\"", "[1]|"),
        ('k={x}; m={no}; printf \'%s|\' ${{k:+-k "$k"}} ${{m:+-m "$m"}} end', "-k|x|end|"),
        ('if [ -n "{no}" ]; then echo given; else echo not; fi', "not\n"),
        ("[[ -z {no} ]] && echo not", "not\n"),
        ("case {no} in '') echo not;; esac", "not\n"),
        ("echo a # {l} {no}", "a\n"),
        ("printf '%s|' $(( {one} + 1 ))", "2|"),
        ("printf '%s|' a \\\n  {l} \\\n  {no} \\\n  b", "a|a b|c|b|"),
        ("cat <<E\nt {no}\nf {l} $((1 + 1))\nx {x}\nE", "f a b 2\nf c 2\nx x\n"),
        ("cat <<'E'\nt {no}\nf {l} $x\nE", "f a b $x\nf c $x\n"),
        ("cat <<-E\n\tt {no}\n\tf {l}\n\tE\necho {l}", "f a b\nf c\na b c\n"),
        ("cat <<E | tr a b\n$(printf '%s,' {l} {no}) {one}\nE", "b b,c, 1\n"),
        ("cat <<A; cat <<B\n{no}\n{one}\nA\n{l}\nB", "1\na b\nc\n"),
        ("printf '%s|' \"$(cat <<E\nx {l}\ny {no}\nE\n)\"", "x a b\nx c|"),
    ],
)
def test_shell_text_means_with_lists_and_missing_values_what_a_list_means(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert printed(text, tmp_path, SHELL, l=["a b", "c"], one=["1"], x="x") == expected


def test_the_case_list_in_shell_gives_words(tmp_path: Path) -> None:
    inputs = {"images": {"required": True}, "opt": {}}
    images = ["/d/a b.cbf", "/d/c.cbf"]
    text = "printf '%s|' {images} opt={opt}"
    assert printed(text, tmp_path, inputs, images=images) == "/d/a b.cbf|/d/c.cbf|"


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("printf '%s|' {l} {no}", "@|x|@|"),
        ("printf '%s|' \"{l}\"", "@|x|@|"),
        ("printf '%s|' 'a{l}'", "a@|ax|a@|"),
        ("cat <<E\n<{l}> {x}\n{no}\nE", "<@> x\n<x> x\n<@> x\n"),
        ("cat <<E\n{l}\n{no}\nE", "@\nx\n@\n"),
        ("printf '%s|' \"$(printf '%s,' {l} {no})\"", "@,x,@,|"),
        ("v=({l} {no}); printf '%s|' \"${{v[@]}}\"", "@|x|@|"),
    ],
)
def test_hostile_entries_of_a_list_stay_values_in_shell_text(
    value: str, text: str, expected: str, tmp_path: Path
) -> None:
    given = {"l": [value, "x", value], "x": "x"}
    assert printed(text, tmp_path, SHELL, **given) == expected.replace("@", value)


@pytest.mark.parametrize("value", ONE_LINE)
def test_values_stand_as_they_are_in_a_here_document(value: str, tmp_path: Path) -> None:
    text = "cat <<eof\nspacegroup {x}\ntitle {no}\nend\neof"
    assert printed(text, tmp_path, SHELL, x=value) == f"spacegroup {value}\nend\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("v={l}; echo $v", r"\{l\} is a list of 2 entries, and stands in an assignment"),
        ("export V={l}", "in an assignment"),
        ("[ a = {l} ]", "in a comparison"),
        ("case {l} in a) ;; esac", "in a comparison"),
        ("echo > {l}", "as the name of a file behind '<' or '>'"),
        ("echo > {no}", r"\{no\} has no value, and stands as the name of a file"),
        ("echo `echo {l}`", r"Write \$\(\.\.\.\) for backquotes"),
        ("echo 'a {l}", "quotes without partner"),
        ("cat <<E\n{l} \\\nb\nE", "a line that goes on"),
        ("cat <<E\na \\\n{no}\nE", "a line that goes on"),
        ("echo {l}{three}", r"\{l\} has 2 entries and \{three\} has 3 entries"),
    ],
)
def test_shell_text_that_cannot_hold_a_list_is_refused_with_a_sentence(
    text: str, complaint: str
) -> None:
    given = {"command": text, "inputs": {**SHELL, "three": {}}}
    with pytest.raises(
        ProgramError, match=f"^test.yaml, keys 'set_up' and 'command': .*{complaint}"
    ):
        arguments(given, l=["a", "b"], three=["a", "b", "c"])


def test_set_up_lines_have_lists_and_missing_values_as_well(tmp_path: Path) -> None:
    given = {
        "command": ["true"],
        "set_up": ["printf '%s|' {l} {no}", "[ -z {no} ] && echo none"],
        "inputs": SHELL,
    }
    done = subprocess.run(
        argv(planned(given, l=["a b", "c"])[0]),
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "a b|c|none\n"


# -- standard input, environment, file names -------------------------------------------------------


def stdin(text: str, **parameters: Any) -> str:
    [first] = planned({"stdin": text, "inputs": SHELL}, **parameters)
    return first.values.lines(first.command.stdin or "")


def test_lines_of_standard_input_are_dropped_and_repeated() -> None:
    text = "spacegroup {x}\ntitle {no}\nfile {l} as {one}\nlabels {{x}}\nend"
    parameters = {"x": "P 21 21 21", "l": ["a b", "c"], "one": ["1", "2"]}
    assert stdin(text, **parameters) == (
        "spacegroup P 21 21 21\nfile a b as 1\nfile c as 2\nlabels {x}\nend"
    )


@pytest.mark.parametrize("value", ONE_LINE)
def test_a_value_on_standard_input_is_as_it_is(value: str) -> None:
    assert stdin("title {x}\n", x=value) == f"title {value}\n"


@pytest.mark.parametrize("value", ["a\nb", "a\n", "a\rb", "a\0b", "a\x0bb", "a\u2028b", "\n"])
def test_a_value_adds_no_line_to_standard_input(value: str) -> None:
    with pytest.raises(ProgramError, match=r"^test.yaml: \{x\} has the value .* several lines"):
        stdin("title {x}\nend\n", x=value)
    with pytest.raises(ProgramError, match="several lines"):
        stdin("title {l}\nend\n", l=["a", value])


def test_a_variable_whose_value_is_missing_is_not_set() -> None:
    given = {"environment": {"A": "{x}", "B": "b{no}", "C": "c"}, "inputs": SHELL}
    assert environment(planned(given, x="$(x)\n")[0]) == {"A": "$(x)\n", "C": "c"}
    with pytest.raises(ProgramError, match=r"key 'environment.A', '\{x\}', is a list; one value"):
        environment(planned(given, x=["a", "b"])[0])


def test_names_of_files_are_dropped_and_repeated() -> None:
    given = {
        "command": ["run"],
        "inputs": SHELL,
        "success": {"files": ["{l}.mtz"], "no_text": [{"file": "{no}", "pattern": "x"}]},
        "outputs": {
            "o": {"file": ["{no}.json", "{x}.json"], "parser": "json"},
            "none": {"file": "{no}.json", "parser": "json"},
        },
        "files": [{"pattern": "{l}.log"}, {"pattern": "{no}.txt"}],
    }
    defined = parse_definition(given, "test.yaml", "prog")
    known = invocation.values(defined, {"l": ["a", "b"], "x": "x"}, None, {})
    named = invocation.with_file_names(defined, known)
    assert named.success.files == ["a.mtz", "b.mtz"]
    assert named.success.no_text == []
    assert {name: output.file for name, output in named.outputs.items()} == {"o": ["x.json"]}
    assert [file.pattern for file in named.files] == ["a.log", "b.log"]
    with pytest.raises(ProgramError, match=r"key 'directory', 'd\{no\}', has no value"):
        planned({"directory": "d{no}", "inputs": SHELL})


@pytest.mark.parametrize(
    ("key", "rules"), [("files", ["{no}.mtz"]), ("text", [{"file": "{no}", "pattern": "x"}])]
)
def test_what_must_be_there_is_not_dropped_for_want_of_a_name(key: str, rules: list[Any]) -> None:
    with pytest.raises(ProgramError, match=rf"key 'success.{key}', '\{{no\}}.*', has no value"):
        planned({"success": {key: rules}, "inputs": SHELL})


def test_an_empty_text_is_a_text_in_names_of_files_variables_and_directory() -> None:
    rule = {"file": "{e}a.log", "pattern": "x"}
    given = {
        "command": ["run"],
        "inputs": {"e": {"default": ""}},
        "directory": "{e}",
        "environment": {"A": "{e}:/opt/lib", "B": "{e}"},
        "success": {"files": ["{e}a.mtz"], "no_files": ["{e}no"], "text": [rule],
                    "no_text": [rule]},
        "outputs": {"o": {"file": "{e}a.json", "parser": "json"}},
        "files": [{"pattern": "{e}a.mtz"}, {"pattern": "{e}"}],
    }  # fmt: skip
    defined = parse_definition(given, "test.yaml", "prog")
    named = invocation.with_file_names(defined, invocation.values(defined, {}, None, {}))
    [first] = planned(given)
    assert (named.directory, first.directory) == ("", "")
    assert environment(first) == {"A": ":/opt/lib", "B": ""}
    for success in (named.success, first.command.success):
        assert (success.files, success.no_files) == (["a.mtz"], ["no"])
        assert [each.file for each in (*success.text, *success.no_text)] == ["a.log", "a.log"]
    assert named.outputs["o"].file == ["a.json"]
    assert [file.pattern for file in named.files] == ["a.mtz"]


# -- several commands ------------------------------------------------------------------------------


def test_further_commands_share_set_up_environment_and_directory() -> None:
    given = {
        "set_up": ["a"],
        "environment": {"A": "1", "B": "1"},
        "directory": "d",
        "inputs": SHELL,
        "then": [
            {"command": ["/opt/bin/scale.py", "{x}"], "set_up": ["b"], "environment": {"B": "2"}},
            {"name": "last", "command": "one; two", "directory": "", "if": "no"},
        ],
    }
    first, second = planned(given, x="x")
    assert [each.command.name for each in (first, second)] == ["prog", "scale.py"]
    assert second.command.set_up == ["a", "b"]
    assert environment(second) == {"A": "1", "B": "2"}
    assert (second.directory, second.stdout, second.stderr) == ("d", "scale.py.log", "scale.py.err")
    assert second.label == "command 2 of 2 (scale.py)"
    *_, third = planned(given, x="x", no=True)
    assert (third.directory, third.label) == ("", "command 3 of 3 (last)")


def test_a_command_runs_for_each_entry_of_a_list() -> None:
    given = {
        "command": ["index", "{sweep}", "{sweep_number}", "{x}"],
        "directory": "sweeps/{sweep_number}",
        "for_each": {"sweep": "l"},
        "inputs": SHELL,
        "success": {"files": ["{sweep}.expt"]},
        "files": [{"pattern": "*/*.expt"}],
    }
    first, second = planned(given, l=["a b", "c"], x="x")
    assert argv(second) == ["index", "c", "2", "x"]
    assert second.command.success.files == ["c.expt"]
    assert (second.directory, second.stdout) == ("sweeps/2", "prog-2.log")
    assert (first.label, second.label) == (
        "command 1 of 2 (prog, sweep 1 of 2)",
        "command 2 of 2 (prog, sweep 2 of 2)",
    )
    defined = parse_definition(given, "test.yaml", "prog")
    known = invocation.values(defined, {"l": ["a"]}, None, {})
    assert invocation.with_file_names(defined, known).directory == "sweeps"
    assert argv(planned(given, l="single")[0]) == ["index", "single", "1"]
    with pytest.raises(ProgramError, match="key 'for_each': the list has no entries"):
        planned(given)
    with pytest.raises(ProgramError, match="'l' has 10001 entries; up to 10000 are accepted"):
        planned(given, l=list(range(1, 10_002)))


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../x"])
def test_no_entry_of_a_loop_leads_out_of_the_working_directory(path: str) -> None:
    given = {"directory": "{s}", "for_each": {"s": "l"}, "inputs": SHELL}
    with pytest.raises(ProgramError, match="a directory below the working directory is expected"):
        planned(given, l=["good", path])


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", "x" * 300, "a\0"])
def test_standard_output_goes_to_a_file_in_the_directory(name: str) -> None:
    given = {"stdout": "{x}", "inputs": SHELL}
    with pytest.raises(ProgramError, match=r"key 'stdout' is .* the name of a file is expected"):
        planned(given, x=name)
    assert planned(given)[0].stdout == "prog.log"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"command": [[]]}, "key 'command': a group of words is empty"),
        ({"command": [{"then": "x"}]}, "key 'command': either 'if' or 'unless' is expected"),
        (
            {"command": [{"if": "a", "unless": "b", "then": "x"}]},
            "either 'if' or 'unless' is expected",
        ),
        ({"then": [{"command": []}]}, "key 'then', command 1, key 'command' is empty"),
        ({"then": [{"command": "{x} y"}]}, "key 'then', command 1, key 'name' is ''"),
        ({"then": [{"command": ["prog"]}]}, "command 1: there is a command 'prog' before it"),
        ({"then": [{"command": ["a"], "name": "a/b"}]}, "key 'name' is 'a/b'"),
        (
            {"then": [{"command": ["a"], "if": "x"}]},
            r"Unknown input 'x' \(test.yaml, key 'then', command 1, key 'if'\)",
        ),
        ({"for_each": {"a": "x"}}, r"Unknown input 'x' \(test.yaml, key 'for_each'\)"),
        ({"for_each": {"a": "x", "b": "x"}}, "key 'for_each' has 2 keys; one is expected"),
        (
            {"for_each": {"x": "x"}, "inputs": {"x": {}}},
            "key 'for_each': 'x' is the name of an input; the name of a new placeholder",
        ),
        ({"for_each": {"a b": "x"}, "inputs": {"x": {}}}, "key 'for_each': 'a b' is no name"),
        (
            {
                "for_each": {"a": "x"},
                "inputs": {"x": {}},
                "checkpoint": {"signal": "USR1"},
            },
            "'checkpoint' and 'for_each' exclude each other",
        ),
        (
            {"then": [{"command": ["a"], "success": {"text": [{"file": "f", "pattern": "("}]}}]},
            "is not a valid regular expression",
        ),
        (
            {"then": [{"command": ["a"], "limits": {"time": "soon"}}]},
            "command 1, key 'limits.time' is",
        ),
        ({"then": [{"command": ["a"], "outputs": {}}]}, "outputs"),
    ],
)
def test_commands_that_cannot_be_run_are_refused_when_they_are_read(
    given: dict[str, Any], complaint: str
) -> None:
    from zwrap.errors import PermanentError

    with pytest.raises(PermanentError, match=complaint):
        planned(given)


def test_no_two_commands_write_to_the_same_file() -> None:
    given: dict[str, Any] = {"then": [{"command": ["a"], "stdout": "prog.err"}]}
    with pytest.raises(ProgramError, match=r"two commands would go to the file prog\.err"):
        planned(given)
    given = {"for_each": {"a": "l"}, "stdout": "out", "inputs": SHELL}
    with pytest.raises(ProgramError, match="in a loop let 'stdout' hold the number of the entry"):
        planned(given, l=[1, 2])


def test_an_input_that_a_further_command_uses_is_no_option_of_the_first() -> None:
    given = {
        "inputs": {"x": {}, "y": {}, "z": {}, "u": {}},
        "options": [{"block": "prog"}],
        "command": ["p", {"if": "y", "then": "-y"}],
        "stdin": "{z}",
        "then": [{"command": ["a", "{x}"]}],
    }
    block = {"x": 1, "y": 2, "z": 3, "u": 4}
    assert arguments(given, prog=block) == ["-y", "u=4"]


# -- job parameters of wrapper `command` -----------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stdout", "/data/x.log"),
        ("stdout", "sub/out.txt"),
        ("stdin", 5),
        ("groups", ["mx", "i03"]),
        ("errors", ["none"]),
        ("errors_of", [1]),
        ("blocks", [1, 2]),
        ("write", ["a", {"file": "b"}]),
        ("then", [4, 5]),
        ("link", {"a": 1}),
        ("copy", {"from": "/a", "to": "/b"}),
        ("for_each", {"a": ["b"]}),
    ],
)
def test_a_parameter_with_the_name_of_a_newer_key_stays_a_parameter(key: str, value: Any) -> None:
    parameters = {"command": ["echo", f"{{{key}}}"], key: value}
    assert inline_definition(parameters, "job_parameters") == {"command": parameters["command"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stdout", "x.log"),
        ("stdin", "end"),
        ("groups", [{"one_of": ["a"]}]),
        ("errors_of", ["xia2"]),
        ("blocks", ["a"]),
        ("copy", {"from": "/a", "b": "/b"}),
        ("for_each", {"a": "b"}),
    ],
)
def test_wrapper_command_takes_keys_whose_value_fits(key: str, value: Any) -> None:
    parameters = {"command": ["echo"], key: value}
    assert inline_definition(parameters, "job_parameters") == parameters


def test_only_names_of_further_commands_are_bounded() -> None:
    name = "a" * 150
    assert parse_definition({"command": ["a"], "name": name}, "test.yaml").name == name
    with pytest.raises(ProgramError, match=r"'_\.\+-' are expected, 100 at most"):
        planned({"then": [{"command": ["a"], "name": name}]})
