"""Recipes as facilities have published them, with values in their shell text and environment."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import RecipeError
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.submission.request import prepare
from zwrap.submission.template import Templates

from .test_shell_directives import directives

SCRIPTS: list[list[str] | str] = [
    [
        "source ./modules.sh",
        "module load site/services",
        'site.wrap -w Refine -r "$RECIPEWRAP" -c {file} >runinfo 2>&1',
    ],
    ["echo Making a recipe wrapper file", "site.wrap --test --wrap A --recipewrapper $RECIPEWRAP"],
    ["echo This is a command", "echo input: {file}", "echo DCID: {dcid}"],
    ". ./modules.sh; module load program/{version}\nsite.wrap --wrap a{dcid} --file='{file}'",
    'cd {directory} && mkdir -p "{directory}/job_{dcid}" && site.wrap -i {file}',
    'export OMP_NUM_THREADS={n}\nfor f in {directory}/*; do\n  site.wrap -f "$f" -n {n}\ndone',
    "if [ {n} -gt 1 ]; then site.wrap -n {n}; else site.wrap {file}; fi # {dcid}",
    "cat > input <<EOF\nfile = {file}\n# {dcid}\nnumber = {n}\nEOF\nsite.wrap input",
    'T=$(basename {file} .cbf)\nsite.wrap "$T" >> "log_$T" 2>&1 || exit $?',
]
GOOD = {
    "file": "/dls/i03/data/2026/cm1-1/image_00001.cbf", "dcid": 1234567, "version": "3.12-1",
    "directory": "/dls/i03/data/2026/cm1-1/processed", "n": 4, "user": "gda2",
}  # fmt: skip


def step(commands: list[str] | str) -> dict[str, Any]:
    cluster = {"commands": commands, "environment": {"SITE_USER": "{user}", "FILE": "{file}"}}
    return {
        "queue": "cluster.submission",
        "parameters": {"cluster": cluster, "workingdir": "/w", "recipewrapper": "/w/wrap.json"},
        "job_parameters": {"command": commands} if isinstance(commands, str) else {},
    }


@pytest.mark.parametrize("commands", SCRIPTS, ids=str)
def test_a_published_recipe_stays_as_it_is_with_ordinary_values(commands: list[str] | str) -> None:
    recipe = Recipe({"start": [[1, []]], "1": step(commands)})
    quoted = recipe.apply_parameters(GOOD, quote_commands=True)
    quoted.validate()
    assert quoted.as_dict() == recipe.apply_parameters(GOOD).as_dict()


@pytest.mark.parametrize("commands", SCRIPTS, ids=str)
@pytest.mark.parametrize(
    "value", ["a b", "it's", "$(touch PWNED)", "x\n#$ -o /evil\n", "a[`touch PWNED`]", "(1)"]
)
def test_in_a_published_recipe_a_value_stays_a_value(
    commands: list[str] | str, value: str, tmp_path: Path
) -> None:
    recipe = Recipe({"start": [[1, []]], "1": step(commands)})
    given = {**GOOD, "file": value, "directory": value, "user": value, "dcid": value}
    try:
        filled = recipe.apply_parameters(given, quote_commands=True)
    except RecipeError:  # in a text that could read it again
        assert value == "a[`touch PWNED`]"
        return
    request = prepare(Envelope(filled, 1), "tok-1", "local").request
    script = Templates().render("sge.sh.j2", request)
    assert directives(script) == ["#$ -S /bin/bash", "#$ -notify"]
    text = script.replace("cd -- /w || exit 111", "")
    subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
        check=False, timeout=20,
    )  # fmt: skip
    assert not (tmp_path / "PWNED").exists()


def test_a_public_recipe_stays_as_it_is_with_ordinary_values(elsewhere: Path) -> None:
    """Those that facilities have published as files, and the examples of python-zocalo."""
    count = 0
    for file in sorted((elsewhere / "recipes").rglob("*.json")):
        text = file.read_text()
        if '"start"' not in text:
            continue
        recipe, names = Recipe.from_json(text), re.findall(r"\{([A-Za-z_]\w*)", text)
        for value in ("/dls/i03/data/2026/cm1-1/a_b-1.cbf", 7):
            given: dict[str, Any] = dict.fromkeys(names, value)
            quoted = recipe.apply_parameters(given, quote_commands=True)
            assert quoted.as_dict() == recipe.apply_parameters(given).as_dict(), file
        count += 1
    assert count > 20


def test_further_commands_in_job_parameters_are_shell_text_as_well(tmp_path: Path) -> None:
    """So is their set-up; no value adds a line to standard input."""
    then = [
        {"command": "printf '%s|' {x} >out", "set_up": ["v={x}"], "stdin": "title {y}\n"},
        {"command": ["p", "{x}"]},
    ]
    parameters = {"command": ["true"], "stdin": "n {y}\n", "then": then}
    recipe = Recipe({"start": [[1, []]], "1": {"job_parameters": parameters}})
    value = "a b; touch PWNED; $(touch PWNED)"
    filled = recipe.apply_parameters({"x": value, "y": value}, quote_commands=True)
    found = filled.as_dict()[1]["job_parameters"]
    first, second = found["then"]
    script = "\n".join([*first["set_up"], first["command"]])
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == f"{value}|"
    assert not (tmp_path / "PWNED").exists()
    assert second == {"command": ["p", value]}
    assert (found["stdin"], first["stdin"]) == (f"n {value}\n", f"title {value}\n")
    with pytest.raises(RecipeError, match=r"^node 1, job_parameters, key 'stdin': .* several"):
        recipe.apply_parameters({"x": "a", "y": "a\nend"}, quote_commands=True)
    as_before = {"job_parameters": {"stdin": "{x}"}}
    plain = Recipe({"start": [[1, []]], "1": as_before})
    filled = plain.apply_parameters({"x": "a\nb"}, quote_commands=True)
    assert filled.as_dict()[1]["job_parameters"] == {"stdin": "a\nb"}
