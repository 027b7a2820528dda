"""Values in all kinds of shell text, run by the shells: none becomes a command.

The table holds 51 places, each tried with 12 values that would leave a file behind as a command.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zwrap.errors import ProgramError, RecipeError, RequestError
from zwrap.program import invocation
from zwrap.program.argv import _without_last_lines, argv
from zwrap.program.plan import plan
from zwrap.program.reading import parse_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.quoting import words
from zwrap.submission.request import prepare, replace_variable

VALUES = [
    "a b",
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED; #",
    "x'; touch PWNED; '",
    'x"; touch PWNED; "',
    "x\ntouch PWNED\ny",
    "EOF\ntouch PWNED\nx",
    "a[$(touch PWNED)]",
    "\\'; touch PWNED; \\\\",
    "'\"$(touch PWNED)\"' ${U} $U",
    "} ) )) ]] ; touch PWNED & ${U:-`touch PWNED`} esac",
]
"""Values of which each has an end, an expansion or a quote for some place."""

ANYTHING = ""
"""Mark for what is printed three times."""

ANY, BASH = ("bash", "dash"), ("bash",)


class Case(NamedTuple):
    """A place for ``{x}`` in shell text."""

    text: str
    printed: str | None = "@"
    """What is printed, with @ for the value; None: each value but a number is refused."""
    shells: tuple[str, ...] = ANY
    refused: tuple[str, ...] = ()
    """Values that are refused."""


PLACES = [
    # words and quotes
    Case("printf %s {x}"),
    Case("printf %s '{x}'"),
    Case('printf %s "{x}"'),
    Case("printf %s a{x}b'c'", "a@bc"),
    Case("printf %s 'a\\' {x}", "a\\@"),
    Case("printf %s \"'{x}'\"", "'@'"),
    Case("printf %s '\"{x}\"'", '"@"'),
    Case("printf %s \\\"{x}\\'", "\"@'"),
    Case("printf %s \\{x}"),
    Case('printf %s "\\{x}"', "\\@"),
    Case("printf %s \\\\{x}", "\\@"),
    Case("printf %s a\\\n{x}", "a@"),
    Case("printf %s $'a{x}\\n'", "a@\n", BASH),
    Case("printf %s $'it\\'s' {x}", "it's@", BASH),
    Case('printf %s $"{x}"', "@", BASH),
    Case('v={x}; printf %s "$v"'),
    # comments
    Case("# don't forget\nprintf %s {x}"),
    Case("true # it's\nprintf %s {x}"),
    Case("true # {x}\nprintf ok", "ok"),
    Case('true # "{x}\nprintf ok', "ok"),
    Case("printf %s a#'b'{x}", "a#b@"),
    # here-documents
    Case("cat <<EOF\n{x}\nEOF", "@\n"),
    Case("cat <<EOF\ndon't {x}\nEOF\nprintf %s {x}", "don't @\n@"),
    Case('cat <<-EOF; printf %s "{x}"\n\t"{x}" \\{x}\n\tEOF', '"@" \\@\n@'),
    Case('cat <<EOF\n$(printf %s "{x}")\nEOF', "@\n"),
    Case("cat <<A; cat <<'B'\n{x}\nA\n'quoted\nB\nprintf %s {x}", "@\n'quoted\n@"),
    Case("cat <<'EOF'\n{x}\nEOF", "@\n", refused=(VALUES[7],)),
    Case("cat <<\\EOF\nit's\nEOF\nprintf %s {x}", "it's\n@"),
    Case("cat <<<{x}", "@\n", BASH),
    # substitutions
    Case('y="$(printf %s. "{x}")"; printf %s "$y"', "@."),
    Case('y=$(printf %s. {x}); printf %s "$y"', "@."),
    Case('y=$(case a in (b) ;; a) printf %s. {x};; esac); printf %s "$y"', "@."),
    Case("printf %s \"$(# don't\nprintf %s. '{x}')\"", "@."),
    Case('printf %s "`printf %s. "{x}"`"', "@."),
    Case('y=`printf %s. {x}`; printf %s "$y"', "@."),
    Case('y=`printf %s. "\\`printf %s. {x} | cat\\`"`; printf %s "$y"', "@.."),
    Case('printf %s "${{U:-"{x}"}}"'),
    Case('printf %s "${U:-{x}}"'),
    Case("printf %s ${U:-'{x}'}"),
    Case('v=a.b; printf %s "${v%"{x}"}"', "a.b"),
    Case('printf %s "$(cat <<EOF\n{x}.\nEOF\n)"', "@."),
    # grammar
    Case("case {x} in {x}) printf ok;; esac", "ok"),
    Case("f() { printf %s {x}; }; if true; then f; fi"),
    Case("( ( printf %s {x} ) )"),
    Case("a=({x} 'b'); printf %s \"${a[0]}\"", "@", BASH),
    Case("[[ a = {x} ]] || printf %s {x}", "@", BASH),
    # numbers and names
    Case("printf %s $(( {x} + 1 ))", None),
    Case("q[{x}]=1; (( {x} )); [[ {x} -eq 1 ]]; let z={x}", None, BASH),
    Case("declare -i n={x}; q=(1); printf %s ${q[{x}]} ${U:{x}:1} $[{x}]", None, BASH),
    Case(
        "test -v {x}; read {x}; declare {x}=1",
        "",
        BASH,
        tuple(v for v in VALUES if set(v) & set("[(`")),
    ),
    Case("printf %s $${x} ${x}", None, ()),
]


def filled(text: str, value: str, **others: str) -> str:
    """Return commands as a Dispatcher fills them in that quotes."""
    cluster = {"cluster": {"commands": text.split("\n")}}
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "parameters": cluster}})
    filled = recipe.apply_parameters({"x": value, **others}, quote_commands=True)
    commands = filled[1]["parameters"]["cluster"]["commands"]
    return "\n".join(commands)


def run(shell: str, text: str, directory: Path) -> str:
    """Return what a shell prints; AssertionError if a value became a command."""
    arguments = {"csh": ["csh", "-f", "-c"]}.get(shell, [shell, "-c"])
    done = subprocess.run(
        [*arguments, text], cwd=directory, capture_output=True, text=True, check=False, timeout=20
    )
    assert not [*directory.iterdir()], f"{shell} ran a value as a command in {text!r}"
    return done.stdout


def test_the_trials_are_612() -> None:
    assert len(PLACES) * len(VALUES) == 612


@pytest.mark.parametrize("case", PLACES, ids=[case.text for case in PLACES])
@pytest.mark.parametrize("shell", ANY)
def test_each_value_arrives_as_a_value(shell: str, case: Case, tmp_path: Path) -> None:
    for value in VALUES:
        if case.printed is None or value in case.refused:
            with pytest.raises(
                RecipeError, match=r"^node 1, parameters, cluster, key 'comm.*\{x\} "
            ):
                filled(case.text, value)
            continue
        text = filled(case.text, value)
        printed = run(shell, text, tmp_path)
        if shell in case.shells:
            assert printed == case.printed.replace("@", value), text


@pytest.mark.parametrize(
    "text",
    [
        'echo "$${{U:-"{x}"}}"',
        "f() {{ printf %s $'it\\'s' {x}; true # {x}\nprintf ok\n}}; f",
        '$\'\\\'{x}\\"\n&&"\n\\"fi$(echo ',
        "cat[ <<EOF\n{x}\nEOF",
        "n=((]'\\<<E({x}",
        "echo `echo {x}",
        "n=( ; }}{x}))",
        "$(a=({x}< 'b'); echo \"${{a[0]}}\")",
        'printf %s "${{U:}}-"{x}"}}"',
        "cat <<EOF; echo {x}\n{x}",
        "echo $((echo {x}) | cat)",
    ],
)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("shell", ANY)
def test_where_shells_differ_no_value_becomes_a_command(
    shell: str, text: str, value: str, tmp_path: Path
) -> None:
    with contextlib.suppress(RecipeError):
        run(shell, filled(text, value), tmp_path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    "text",
    [
        "n={x}; printf %s $((n + 1))",
        'n="{x}"; [[ $n -eq 1 ]]',
        "local n={x}; (( $n ))",
        'n={x}; [[ "$n" -lt 1 ]]',
        "n={x}; let m=n+1",
        "declare -i n; n={x}",
        "for n in 1 '{x}'; do echo $((n)); done",
        "n='{x}'; echo ${a[n]}",
        "n={x}; echo ${a:n}",
        "read 'a[{x}]'",
        'declare "a[{x}]=1"',
        "printf -v a[{x}] b",
        "[[ -v a[{x}] ]]",
        "echo ${{!{x}}} ${{!a{x}}}",
        "for ((i = 0; i < {x}; i++)); do :; done",
        "if ! (( {x} )); then :; fi",
        "echo $(( ${n:-{x}} ))",
    ],
)
@pytest.mark.parametrize("value", ["a[$(touch PWNED)]", "a[`touch PWNED`]", "name"])
def test_bash_calculates_with_numbers_only(text: str, value: str) -> None:
    with pytest.raises(RecipeError, match="where the shell calculates"):
        filled(text, value)
    assert "ZWRAP" not in filled(text, "12")


@pytest.mark.parametrize(
    "text",
    [
        'f={x}; n=1; [[ $f == a ]] || [[ $n -eq 1 ]] && printf %s "$f"',
        '(( n = 1 )); f={x}; printf %s "$f"',
        "n=$(printf %s {x} | wc -c); [[ $n -gt 3 ]]; printf %s {x}",
        'f() { local f={x}; printf %s "$f"; }; f; declare -A b; read c <<<1',
    ],
)
@pytest.mark.parametrize("value", VALUES)
def test_a_text_that_calculates_with_others_takes_any_value(
    text: str, value: str, tmp_path: Path
) -> None:
    if "[$(" in value:
        with pytest.raises(RecipeError, match="the text calculates with values"):
            filled(text, value)
    else:
        assert run("bash", filled(text, value), tmp_path) == value


@pytest.mark.parametrize(
    ("text", "value", "printed"),
    [
        ("printf %s {x}>/dev/stdout", "2", "2"),
        ("printf %s {x}</dev/null", "0", "0"),
        ("printf %s {x} '{x}' \"{x}\"", "pay $RECIPEPOINTER ${RECIPEWRAP}", ANYTHING),
        ("cat <<EOF\n{x}\nEOF", "pay $RECIPEPOINTER", "pay $RECIPEPOINTER\n"),
    ],
)
def test_a_value_is_no_descriptor_and_no_variable_of_the_submitter(
    text: str, value: str, printed: str, tmp_path: Path
) -> None:
    commands = replace_variable(filled(text, value), "RECIPEPOINTER", "1")
    commands = replace_variable(commands, "RECIPEWRAP", "/w/file")
    assert run("bash", commands, tmp_path) == (3 * value if printed is ANYTHING else printed)


@pytest.mark.parametrize(
    "text",
    [
        "cat <<EOF | (\n{x}\nEOF\ncat\n)",
        "cat <<EOF; y=$(\n{x}\nEOF\ntrue)",
        "(echo a)# don't\necho {x} # isn't",
        "((n++))# don't\necho {x} # isn't",
        "(echo a)#'{x}'",
        "echo $\\\n'{x}'",
        'echo "$\\\n(echo {x})"',
        'a["]"]={x} "b {x}"',
    ],
)
@pytest.mark.parametrize("value", VALUES)
def test_what_is_read_otherwise_than_it_looks_runs_no_value(
    text: str, value: str, tmp_path: Path
) -> None:
    with contextlib.suppress(RecipeError):
        run("bash", filled(text, value), tmp_path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("case", PLACES, ids=[case.text for case in PLACES])
@pytest.mark.parametrize("value", ["7", "-12", "0x1f"])
def test_a_number_stands_anywhere_as_it_is(case: Case, value: str) -> None:
    definition = {"start": [[1, []]], "1": {"queue": "q", "commands": case.text}}
    plain = Recipe(definition).apply_parameters({"x": value})[1]["commands"]
    if "${x}" in case.text and value != "7":
        return
    text = filled(case.text, value)
    assert text.replace("\\\\", "\\") == plain.replace("\\\\", "\\")


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES)
def test_csh_takes_a_quoted_value_as_one_word_unless_it_has_lines(
    value: str, tmp_path: Path
) -> None:
    """No shell text of zwrap is run by csh, but a program may be a csh script."""
    assert shutil.which("csh"), "The program csh (package tcsh) is needed for this test."
    work = tmp_path / "work"
    work.mkdir()
    for text in ("printf %s {x}", "printf %s '{x}'"):
        if "\n" not in value:
            assert run("csh", filled(text, value), work) == value
    script = tmp_path / "program.csh"
    script.write_text("#!/bin/csh -f\nprintf %s $1:q\n")
    assert run("bash", filled(f"csh -f {script} {{x}}", value), work) == value


# -- how texts of recipes belong together ----------------------------------------------------------


def applied(node: dict[str, Any], **parameters: Any) -> Any:
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", **node}})
    return recipe.apply_parameters(parameters, quote_commands=True)[1]


@pytest.mark.parametrize("key", ["cluster_commands", "commands"])
def test_a_list_of_commands_is_one_script(key: str, tmp_path: Path) -> None:
    lines = ["cat <<EOF", "{x}", "EOF", "# don't", "printf %s {x}"]
    block = {key: lines} if key == "cluster_commands" else {"cluster": {key: lines}}
    node = applied({"parameters": block}, x="a$(touch PWNED)")["parameters"]
    found = node[key] if key == "cluster_commands" else node["cluster"][key]
    assert found == [
        "ZWRAP_VALUE_1='a$(touch PWNED)'", "cat <<EOF", "${ZWRAP_VALUE_1}", "EOF", "# don't",
        "printf %s 'a$(touch PWNED)'",
    ]  # fmt: skip
    assert run("bash", "\n".join(found), tmp_path) == "a$(touch PWNED)\na$(touch PWNED)"


def test_commands_as_one_text_stay_one_text() -> None:
    found = applied({"parameters": {"cluster": {"commands": "cat <<E\n{x}\nE"}}}, x="$y")
    assert found["parameters"]["cluster"]["commands"] == (
        "ZWRAP_VALUE_1='$y'\ncat <<E\n${ZWRAP_VALUE_1}\nE"
    )


def test_commands_of_other_services_are_each_by_themselves() -> None:
    found = applied(
        {"parameters": {"commands": ["don't", 'echo "{x}"', "cat <<E\n{x}\nE"]}}, x="$y"
    )
    assert found["parameters"]["commands"] == [
        "don't", 'echo "\\$y"', "ZWRAP_VALUE_1='$y'\ncat <<E\n${ZWRAP_VALUE_1}\nE",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [*VALUES, "a\\", '"'])
@pytest.mark.parametrize("queue", ["runner.submission", "runner.x.submission"])
def test_a_command_of_the_runner_keeps_each_value_within_one_argument(
    queue: str, value: str
) -> None:
    commands = ["# a{x} '{x}' \"{x}\" $(( {x} )) \\{x}", ["run", "{x}"], "a {n} b"]
    node = {"queue": queue, "parameters": {"commands": commands}}
    found = applied(node, x=value, n=1)["parameters"]["commands"]
    assert words(found[0]) == ["#", f"a{value}", value, value, "$((", value, "))", value]
    assert found[1:] == [["run", value], "a 1 b"]
    with pytest.raises(RecipeError, match="node 1, parameters, key 'commands': a quote of the"):
        applied({"queue": queue, "parameters": {"commands": ["echo don't {x}"]}}, x="a b")


def test_set_up_and_command_of_job_parameters_are_one_script() -> None:
    given = {"command": "cat <<E\n{x}\nE", "set_up": ["module load {x}"], "other": "{x}"}
    found = applied({"job_parameters": given}, x="a $b")["job_parameters"]
    assert found == {
        "command": "cat <<E\n${ZWRAP_VALUE_1}\nE",
        "set_up": ["ZWRAP_VALUE_1='a $b'", "module load 'a $b'"],
        "other": "a $b",
    }
    found = applied({"job_parameters": {"command": "cat <<E\n{x}\nE"}}, x="$b")["job_parameters"]
    assert found["set_up"] == ["ZWRAP_VALUE_1='$b'"]
    given = {"command": 'echo "{x}"', "set_up": ["{$REPLACE:y}", "cat '{x}'"]}
    found = applied({"job_parameters": given}, x="$b", y="# it's")["job_parameters"]
    assert found == {"command": 'echo "\\$b"', "set_up": ["# it's", "cat '$b'"]}
    found = applied({"job_parameters": {"command": ["run", "{x}"]}}, x="a b")["job_parameters"]
    assert found == {"command": ["run", "a b"]}


def test_a_refusal_names_node_key_and_placeholder() -> None:
    for node, place in (
        (
            {"parameters": {"cluster_commands": ["echo $(( {x} ))"]}},
            "parameters, key 'cluster_commands'",
        ),
        ({"job_parameters": {"command": "echo $(( {x} ))"}}, "job_parameters, key 'command'"),
        (
            {"job_parameters": {"command": ["a"], "set_up": ["((x={x}))"]}},
            "job_parameters, key 'set_up'",
        ),
    ):
        with pytest.raises(RecipeError) as caught:
            applied(node, x="a b")
        assert str(caught.value) == (
            f"node 1, {place}: {{x}} stands where the shell calculates, or in a variable with "
            "which it does, and its value is 'a b'; a number is expected. Compare texts with '=' "
            "instead of '-eq'."
        )


def test_a_name_that_the_text_uses_is_not_taken_for_a_value() -> None:
    text = filled("ZWRAP_VALUE_4=1; cat <<E\n{x} {y}\nE", "$a", y="$b")
    assert text.split("\n") == [
        "ZWRAP_VALUE_5='$a'", "ZWRAP_VALUE_6='$b'", "ZWRAP_VALUE_4=1; cat <<E",
        "${ZWRAP_VALUE_5} ${ZWRAP_VALUE_6}", "E",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "cat <<EOF\n`printf %s. '{x}'`\nEOF",
        "cat <<EOF\n$(printf %s. \"`printf %s '{x}'`\")\nEOF",
        "cat <<EOF\n`printf %s. \"$(printf %s '{x}')\"`\nEOF",
        "cat <<-EOF\n\t$(printf %s. '{x}')\n\tEOF",
        "cat <<EOF\n$(cat <<F\n{x}.\nF\n)\nEOF",
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        "EOF",
        "\tEOF",
        "\nEOF\ntouch PWNED\n: <<EOF\nx",
        "a\n\tEOF\ntouch PWNED\n: <<EOF\n#",
        "a\n\tb",
    ],
)
@pytest.mark.parametrize("shell", ANY)
def test_a_value_does_not_end_a_document_around_it(
    shell: str, text: str, value: str, tmp_path: Path
) -> None:
    """Neither in a substitution of it, nor in backquotes, nor in a document within it."""
    printed = run(shell, filled(text, value), tmp_path)
    assert printed == f"{value}.\n"


def test_a_document_of_which_tabs_are_skipped_refuses_its_delimiter_behind_tabs() -> None:
    with pytest.raises(RecipeError, match="put in safely"):
        filled("cat <<-'EOF'\n\t{x}\n\tEOF", "a\n\tEOF\ntouch PWNED\n#")


def test_a_number_does_not_end_a_document() -> None:
    with pytest.raises(RecipeError, match="another delimiter"):
        filled("cat <<12\n$((\n{x}\n))\n12", "12")


SUBSCRIPT = "a[$(touch PWNED >&2)]"


@pytest.mark.parametrize(
    "parameters",
    [
        {"command": "echo $((n + 1))", "environment": {"n": "{x}"}},
        {"command": ["a"], "set_up": ["echo $((n + 1))"], "environment": {"n": "{x}"}},
        {"command": "a", "set_up": ["n={x}"], "then": [{"command": "echo $((n + 1))"}]},
        {"command": ["a"], "environment": {"n": "{x}"}, "then": [{"command": "echo $((n + 1))"}]},
        {
            "command": "a",
            "set_up": ["echo $((n + 1))"],
            "then": [{"command": ["b"], "environment": {"n": "{x}"}}],
        },
    ],
)
def test_a_command_calculates_with_no_value_of_environment_or_set_up_lines(
    parameters: dict[str, Any],
) -> None:
    """They are those of further commands, too; here in a recipe, and in a definition."""
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "job_parameters": parameters}})
    recipe.apply_parameters({"x": "12"}, quote_commands=True)
    with pytest.raises(RecipeError, match="number is expected"):
        recipe.apply_parameters({"x": SUBSCRIPT}, quote_commands=True)
    definition = parse_definition({**parameters, "inputs": {"x": {}}}, "site", "prog")
    runs = plan(definition, invocation.values(definition, {"x": SUBSCRIPT}, {}, {}))
    with pytest.raises(ProgramError, match="number is expected"):
        [argv(each) for each in runs]


def test_commands_calculate_with_no_value_of_the_environment_of_their_block() -> None:
    cluster = {"commands": ["echo $((n + 1))"], "environment": {"n": "{x}"}}
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "parameters": {"cluster": cluster}}})
    filled = recipe.apply_parameters({"x": "12"}, quote_commands=True)
    assert filled[1]["parameters"]["cluster"] == {**cluster, "environment": {"n": "12"}}
    with pytest.raises(RecipeError, match="number is expected"):
        recipe.apply_parameters({"x": SUBSCRIPT}, quote_commands=True)


def test_a_further_command_sets_no_variable_of_the_set_up_lines_to_another_value() -> None:
    parameters = {
        "command": "a",
        "set_up": ["f() {{ cat <<E\n{x}\nE\n}}"],
        "then": [{"command": "f; cat <<E\n{y}\nE"}],
    }
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "job_parameters": parameters}})
    filled = recipe.apply_parameters({"x": "$x", "y": "$y"}, quote_commands=True)
    [further] = filled[1]["job_parameters"]["then"]
    assert filled[1]["job_parameters"]["set_up"][0] == "ZWRAP_VALUE_1='$x'"
    assert further["set_up"] == ["ZWRAP_VALUE_2='$y'"]


def with_options(command: str) -> list[str]:
    """Return the argument list of shell text with the option ``touch PWNED``."""
    options = [{"block": "b", "format": ["{name}", "{value}"]}]
    definition = parse_definition({"command": command, "options": options}, "site", "prog")
    known = invocation.values(definition, {"b": {"touch": "PWNED"}}, {}, {})
    return argv(plan(definition, known)[0])


@pytest.mark.parametrize("command", ["echo a\n", "echo a\n\n", "echo \\\na \\\n", "echo a"])
def test_options_are_arguments_of_the_last_command_whatever_ends_its_line(
    command: str, tmp_path: Path
) -> None:
    shell, _, text = with_options(command)
    assert run(shell, text, tmp_path) == "a touch PWNED\n"


@pytest.mark.parametrize("command", ["echo a;", "cat <<E\na\nE\n", "echo a &\n"])
def test_options_are_no_command(command: str) -> None:
    with pytest.raises(ProgramError, match="takes no arguments"):
        with_options(command)


def test_two_values_cannot_end_a_document_between_them(tmp_path: Path) -> None:
    text = filled("cat <<EOF\n{x}\n{y}\nE{z}OF\nEOF", "EOF", y="touch PWNED", z="")
    assert run("bash", text, tmp_path) == "EOF\ntouch PWNED\nEOF\n"


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("**/recipes/*.json")), ids=str)
def test_every_example_goes_through_with_the_setting(file: Path) -> None:
    recipe = Recipe.from_json(file.read_text())
    names = re.findall(r"\{(\w+)", file.read_text())
    for value in VALUES:
        recipe.apply_parameters(dict.fromkeys(names, value), quote_commands=True).validate()
    given = dict.fromkeys(names, "/a/b-1.cbf")
    plain, quoted = (
        recipe.apply_parameters(given),
        recipe.apply_parameters(given, quote_commands=True),
    )
    assert plain.as_dict() == quoted.as_dict()


@pytest.mark.parametrize(
    "text",
    [
        ". /etc/profile.d/modules.sh\nmodule load site/program\nprogram.wrap -w A -c {x} >out 2>&1",
        'zocalo.wrap --wrap {x} --recipewrapper "$RECIPEWRAP" --extra=\'{x}\' "{x}/$USER" || exit',
        'for f in {x}/*.cbf; do echo "$f" {x}; done # {x}',
        'v=$(basename {x} .cbf); test -d "$(dirname \'{x}\')" && (cd "{x}"; run `hostname`)',
        "awk '{{print $1}}' {x}; f() {{ run \"$1\" {x}; }}; f a; cat <<EOF >{x}\npath = {x}\nEOF",
        "if [ -e {x} ]; then run {x}; fi; case {x} in *.cbf) a ;; {x}) b ;; esac; [[ {x} == a* ]]",
        'export A={x}; B={x} run; let n=1; echo $((n + 1)) ${{A:-b}} ${{A%.cbf}} $# "$@"',
    ],
)
def test_a_plain_value_is_put_in_as_upstream_does(text: str) -> None:
    """A path without special characters changes no text, so that no recipe stops working."""
    node = {"queue": "q", "parameters": {"cluster": {"commands": text}, "cluster_commands": text}}
    recipe = Recipe({"start": [[1, []]], "1": {**node, "job_parameters": {"command": text}}})
    given = {"x": "/dls/i03/data-1_2.cbf"}
    plain, quoted = (
        recipe.apply_parameters(given),
        recipe.apply_parameters(given, quote_commands=True),
    )
    assert plain.as_dict() == quoted.as_dict()


def test_without_the_setting_the_text_is_that_of_upstream() -> None:
    for case in PLACES:
        for value in VALUES:
            node = {"parameters": {"cluster": {"commands": [case.text]}, "commands": case.text}}
            recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", **node}})
            found = recipe.apply_parameters({"x": value})[1]["parameters"]
            assert found["commands"] == found["cluster"]["commands"][0]
            if "{{" not in case.text and "f() {" not in case.text and "${U" not in case.text:
                assert found["commands"] == case.text.replace("{x}", value)


# -- the other texts -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
def test_values_of_a_definition_arrive_as_values(value: str, tmp_path: Path) -> None:
    defined = parse_definition({
        "command": "cat <<EOF\n{x}\nEOF\nprintf %s \"{x}\" '{x}' {x} # don't",
        "set_up": ["# it's", 'v="$(printf %s. "{x}")"; printf %s "$v"'],
        "inputs": {"x": {}}, "options": [{"block": "more", "format": "{value}"}],
    }, "test.yaml", "prog")  # fmt: skip
    known = invocation.values(defined, {"x": value, "more": {"a": value}}, None, {})
    shell, option, text = argv(plan(defined, known)[0])
    assert (shell, option) == ("/bin/bash", "-c")
    assert run("bash", text, tmp_path) == f"{value}.{value}\n{value * 3}"
    defined = parse_definition({"command": "echo $(({x}))"}, "test.yaml", "prog")
    with pytest.raises(
        ProgramError, match=r"test\.yaml, keys 'set_up' and 'command': \{x\} stands"
    ):
        argv(plan(defined, invocation.values(defined, {"x": value}, None, {}))[0])


@pytest.mark.parametrize("value", VALUES)
def test_a_path_of_the_message_arrives_as_a_value(value: str, tmp_path: Path) -> None:
    text = replace_variable(
        "cat <<E # it's\n$RECIPEWRAP\nE\nprintf %s ${RECIPEWRAP}", "RECIPEWRAP", value
    )
    assert run("bash", text, tmp_path) == f"{value}\n{value}"
    parameters = {
        "workingdir": f"/w/{value}", "recipewrapper": value,
        "cluster": {"commands": ["echo $(( $RECIPEWRAP ))"]},
    }  # fmt: skip
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "x", "parameters": parameters}})
    with pytest.raises(RequestError, match=r"node 1, parameters, commands: \$RECIPEWRAP stands"):
        prepare(Envelope(recipe, 1), "tok-1", "local")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a\n",
        "a \n\n ",
        "a\\\n",
        "a\\\n\n",
        "a\\\n \n b\n",
        "\n\n",
        "\\\n",
        "a\\ \n",
        "a  ",
    ],
)
def test_blank_lines_at_the_end_of_a_text_are_left_out(text: str) -> None:
    assert _without_last_lines(text) == re.sub(r"(?<!\\)\n\s*\Z", "", text)


def test_any_number_of_blank_lines_is_left_out_in_a_moment() -> None:
    began = time.process_time()
    assert _without_last_lines("\n" * 200_000 + "a\n").endswith("\na")
    assert time.process_time() - began < 5
