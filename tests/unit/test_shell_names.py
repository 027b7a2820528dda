"""What bash calculates with, and takes for the name of a variable: places that are hard to see."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from zwrap.errors import RecipeError
from zwrap.recipe.graph import Recipe

from .test_shell_contexts import filled, has_run

SUBSCRIPTS = ["a[$(touch PWNED)]", "a[`touch PWNED`]"]
HOSTILE = [*SUBSCRIPTS, "`touch PWNED`", "$(touch PWNED)", "x) $(touch PWNED)"]

CALCULATED = [
    # arrays
    "a=({x}); (( a[0] ))",
    "a=({x}); echo $(( a ))",
    'a=(1 "{x}"); echo $(( a[1] ))',
    "a+=('{x}'); echo $(( a ))",
    "a[0]={x}; (( a[0] ))",
    "a=([0]={x}); (( a[0] ))",
    "declare -A a=([k]={x}); (( a[k] ))",
    # names of commands
    "command declare -i n={x}",
    "command -p declare -i n={x}",
    "builtin let n={x}",
    "\\let n={x}",
    '"let" n={x}',
    "l'e't n={x}",
    "le\\\nt n={x}",
    'declare -"i" n={x}',
    ">/dev/null let n={x}",
    "2>/dev/null let n={x}",
    "2>&1 let n={x}",
    "<<<a let n={x}",
    "time -p let n={x}",
    # what begins a command
    "function f { let n={x}; }; f",
    "function f (( {x} )); f",
    "coproc N { let n={x}; }; wait",
    "for n do let m={x}; done",
    "for ((i = 0; i < 1; i++)) { let m={x}; }",
    "if (( 1 )) then let m={x}; fi",
    "if [[ a ]] then let m={x}; fi",
    "while(( {x} )); do break; done",
    "for((i = 0; i < {x}; i++)); do break; done",
    "for n\nin {x}; do (( n )); done",
    "for n in a={x}; do (( n )); done",
    # variables
    "n={x}; [[ ${n} -eq 1 ]]",
    "n={x}; declare -i m; m=n",
    "n={x}; declare -i m=$n",
    'n={x}; m="${n}"; (( m ))',
    'n={x}; let "m=$n"',
    ": ${n:={x}}; (( n ))",
    "declare -x 'n={x}'; (( n ))",
    "n={x}; `echo a; let m=n`",
    "RANDOM={x}",
    "exec {a[{x}]}>/dev/null",
    "n={x}; exec {a[n]}>/dev/null",
    "printf -va[{x}] 1",
    'printf "-va[{x}]" 1',
]

NAMED = [
    "command read {x} <<<1",
    'declare -a "a=({x})"',
    'f() { local -a "a=({x})"; }; f',
    'readonly -a "a=({x})"',
    "printf -v{x} 1",
    "wait -p {x} -n",
    "n={x}; echo ${n@P}",
    'n={x}; echo "${n@P}"',
    "n={x}; [[ -v $n ]]",
    'n={x}; [ -v "$n" ]',
    "n={x}; declare -n r=$n; echo $r",
    "n={x}; read $n <<<1",
    'n={x}; m=$n; unset "$m"',
    "PS4={x}; set -x; true",
    'n={x}; declare "a[n]=1"',
    "n={x}; readonly 'a[n]=1'",
    'n={x}; [[ -v "a[n]" ]]',
    "declare -n r; r={x}; echo $r",
]

COMMANDS = [f"mapfile {option} -c 1 l <<<a" for option in ("-C {x}", "-tC {x}", "-C{x}")]


@pytest.mark.parametrize("text", CALCULATED)
def test_bash_calculates_with_numbers_wherever_the_command_hides(text: str) -> None:
    for value in HOSTILE:
        with pytest.raises(RecipeError, match="where the shell calculates"):
            filled(text, value)
    assert filled(text, "12") == text.replace("{x}", "12")


@pytest.mark.parametrize("text", NAMED)
def test_a_name_has_no_subscript_and_no_command(text: str, tmp_path: Path) -> None:
    for value in HOSTILE:
        with pytest.raises(RecipeError, match=r"without '\[', '\(' and '`' is expected"):
            filled(text, value)
    assert filled(text, "name") == text.replace("{x}", "name")
    assert not has_run("bash", filled(text, "; touch PWNED; #"), tmp_path)


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_that_bash_runs_is_one_word(text: str) -> None:
    for value in [*HOSTILE, "; touch PWNED; #"]:
        with pytest.raises(RecipeError, match="runs its value"):
            filled(text, value)
    assert filled(text, "echo") == text.replace("{x}", "echo")


@pytest.mark.parametrize(
    "text",
    [
        "read n < {x}",
        "mapfile -t l <{x}",
        "read n 2>{x}",
        "let n=1 >{x}",
        "while read n; do echo; done < {x}",
        "read n <<<{x}",
        'a=({x}); for ((i = 0; i < ${#a[@]}; i++)); do echo "${a[i]}"; done',
        "n={x}; (( ${#n} > 0 )); [[ -v n && -f $n ]]; [[ -n $n ]]; unset n",
        "printf %s -v{x}",
        "printf '%s %s' -v {x}",
        "export n={x}; readonly m={x}",
        "command -v echo; command echo {x}",
        'a=({x}); echo "${a[0]}"; (( b ))',
        "n=$(wc -l < {x}); (( n ))",
        "echo $(( $(wc -l < {x}) + 1 ))",
        'for f in {x}; do echo "$f"; done; for i in 1; do (( i )); done',
        "if [ -e {x} ]; then echo {x}; fi >{x}",
    ],
)
def test_a_good_value_is_not_taken_for_a_name(text: str, tmp_path: Path) -> None:
    for value in ["image (1)[2].cbf", "a=b (c)", "^[a-z]+$", "[$x]", "$(touch PWNED)"]:
        assert not has_run("bash", filled(text, value), tmp_path)


def filled_with(text: str, values: dict[str, str]) -> str:
    recipe = Recipe({"start": [[1, []]], "1": {"queue": "q", "commands": text}})
    escaped = recipe.apply_parameters(values, quote_commands=True)[1]["commands"]
    assert isinstance(escaped, str)
    return escaped


READ_AGAIN = [
    "set -- {x}; (( $1 ))",
    "f() { echo $(($1)); }; f {x}",
    "n=$(echo {x}); (( n ))",
    "declare -a v; declare v={x}",
    "declare -i m; read m <<< {x}",
    "[[ 1 {o} {x} ]]",
    "test {o} {x}",
    "printf {o} {x} c",
    "a[$(echo {x})]=1",
    "n={x}; echo ${{m@P}}",
]
"""Texts in which the shell may read a value once more, on ways that are not followed here."""


@pytest.mark.parametrize("text", READ_AGAIN)
def test_a_text_that_reads_values_again_takes_no_command_in_a_subscript(
    text: str, tmp_path: Path
) -> None:
    for value in ("a[$(touch PWNED)]", "a[`touch PWNED`]", "($(touch PWNED))"):
        with pytest.raises(RecipeError):
            filled_with(text, {"x": value, "o": "-v"})
    for value in ("image (1)[2].cbf", "7"):
        with contextlib.suppress(RecipeError):  # a number may be expected
            done = filled_with(text, {"x": value, "o": "-n"})
            assert not has_run("bash", done, tmp_path)


def test_a_command_in_two_values_is_refused_as_in_one() -> None:
    text = "n={a}{b}; f $n; (( x ))"
    with pytest.raises(RecipeError, match=r"\{b\} has the value"):
        filled_with(text, {"a": "a[", "b": "$(touch PWNED)]"})


def test_an_assignment_may_be_a_value() -> None:
    for text in ("export {x}", "declare {x}", "read {x}", "env {x} run"):
        assert filled(text, "A=b").replace("'", "") == text.replace("{x}", "A=b")
