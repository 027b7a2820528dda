"""Lines of a script that `qsub` reads as its own options: none comes from a value."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from zwrap.errors import RecipeError
from zwrap.job import JobRequest
from zwrap.recipe.graph import Recipe
from zwrap.submission.template import Templates

from .test_shell_contexts import filled

EVIL = [
    "b\n#$ -v BASH_ENV=/tmp/evil\n#$ -o /tmp/evil.out\n",
    "#$ -o /tmp/evil.out",
    "b\n#PBS -o /tmp/evil.out\n#SBATCH -o /tmp/evil.out",
    "b\n\t #$ -o /tmp/evil.out\n  ",
    "$ -o /tmp/evil.out",
    'it\'s\n#$ -o "a"\n#$(touch PWNED)\n',
]

TEXTS = [
    "printf %s {x}",
    "printf %s '{x}'",
    'printf %s "{x}"',
    "printf %s '\n{x}' {x}",
    'printf %s "\n{x}"',
    "printf %s '\n#{x}'",
    'printf %s "\n#{x}"',
    'printf %s "\n #{x}"',
    "printf %s \"$(printf %s. '{x}')\"",
    'printf %s "$(printf %s. "\n#{x}")"',
    'y=`printf %s. {x}`; printf %s "$y"',
    'y=`printf %s. "\n#{x}"`; printf %s "$y"',
    "printf %s \"`printf %s. '\n#{x}'`\"",
    "printf %s $'\n#{x}'",
    'printf %s "${U:-\n#{x}}"',
    "cat <<E\n{x}\n#{x}\nE",
    "cat <<E\n$(printf %s. '{x}' \"\n#{x}\")\nE",
    "printf %s a\\\n#{x}",
    "v='{x}'; a=({x}); f() { printf %s \"{x}\"; }; f",
]


def directives(script: str) -> list[str]:
    """Return the lines that `qsub` reads as options.

    As tried with ``qsub -verify`` of Grid Engine 8.1.9: each line whose first two characters are
    ``#$``, whatever the quotes around it; blanks before it make it none.
    """
    return [line for line in script.split("\n") if line.startswith("#$")]


def marked(script: str) -> list[str]:
    """Return the lines that begin with ``#`` and a word of any batch system."""
    return [
        line for line in script.split("\n") if line.lstrip()[:1] == "#" and line.strip() != "#\\"
    ]


def printed(text: str) -> str:
    return subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, check=True, timeout=20
    ).stdout


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("value", EVIL)
def test_no_line_of_a_value_is_a_directive(text: str, value: str) -> None:
    done = filled(text, value)
    assert not directives(done), done
    begun = [line for line in marked(done) if not line.lstrip().startswith(("#'", '#"', "#\\$"))]
    assert not begun, done
    expected = printed(filled(text, "@@")).replace("@@", value)
    assert printed(done) == expected


def test_two_values_make_no_directive_together() -> None:
    for values in (("#", "$ -o x"), ("", "#$ -o x"), (" \n", "#$ -o x"), ("#", "")):
        for text in ("printf %s '\n{a}{b}'", 'printf %s "\n{a}{b}"', "cat <<E\n{a}{b}\nE"):
            node = {"queue": "q", "parameters": {"cluster": {"commands": text.split("\n")}}}
            recipe = Recipe({"start": [[1, []]], "1": node})
            given = dict(zip("ab", values, strict=True))
            found = recipe.apply_parameters(given, quote_commands=True)[1]
            done = "\n".join(found["parameters"]["cluster"]["commands"])
            assert not directives(done), done
            assert printed(done).strip("\n") == "".join(values).strip("\n"), done


@pytest.mark.parametrize("text", ["cat <<'E'\n{x}\nE", "cat <<'E'\n#{x}\nE"])
def test_a_document_that_is_put_in_as_it_is_refuses_a_directive(text: str) -> None:
    for value in EVIL:
        if value.startswith("$") and "#{x}" not in text:
            continue
        reason = "put in safely" if value.endswith("\n") else "begins with '#', which a batch"
        with pytest.raises(RecipeError, match=reason):
            filled(text, value)
    for value in ("a # b", "a\nb", "12"):
        if "#{x}" not in text or value == "12":
            assert value in filled(text, value)


@pytest.mark.parametrize("value", EVIL)
def test_a_job_script_has_the_directives_of_its_template_only(value: str) -> None:
    def rendered(value: str) -> str:
        request = JobRequest(
            cluster="sge", job_name=value, token="tok-1",
            working_directory=Path(f"/w/{value}"), job_directory=Path(f"/w/{value}/.zwrap/tok-1"),
            commands=filled("\n".join(TEXTS), value), standard_output=Path(f"/{value}"),
            standard_error=Path("/e"), environment={"V": value},
        )  # fmt: skip
        return Templates().render(
            "sge.sh.j2", request, options=None, programs=[Path(f"/p/{value}")],
            files={Path(f"/w/{value}/f"): value}, private=[],
        )  # fmt: skip

    found = directives(rendered(value))
    assert found == directives(rendered("a"))
    assert found == ["#$ -S /bin/bash", "#$ -notify"]
