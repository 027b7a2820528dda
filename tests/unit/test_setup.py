"""The set-up lines of a job script: one that fails ends the job, with a reason."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.record import Attempt, parse_submission
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.message.jsontext import encode
from zwrap.program.argv import argv
from zwrap.program.definition import Definition
from zwrap.program.plan import plan
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.watcher.witness import died
from zwrap.submission.script import Renderer

Done = subprocess.CompletedProcess[str]


def run(
    directory: Path, set_up: str, commands: str = "echo ran", *, kind: str = "local", **cluster: Any
) -> Done:
    """Run the job script of a step at a site whose template has these set-up lines."""
    (directory / "own.sh.j2").write_text(
        f'{{% extends "zwrap/{kind}.sh.j2" %}}\n{{% block setup %}}\n{set_up}\n{{% endblock %}}\n'
    )
    sections = {
        "store": {"plugin": "storage", "zwrap.template_directory": str(directory)},
        "batch": {
            "plugin": "clusters", "c": {"kind": kind, "template": "own.sh.j2", **cluster},
        },
    }  # fmt: skip
    site = {"version": 1, "environments": {"default": ["store", "batch"]}, **sections}
    renderer = Renderer(Configuration.from_string(json.dumps(site)).activate())
    parameters = {"workingdir": str(directory), "cluster": {"commands": commands}}
    node = {"queue": "cluster.submission", "parameters": parameters}
    prepared, described = renderer.prepare(
        Envelope(Recipe({"start": [[1, []]], "1": node}), 1), "t-1"
    )
    prepared.request.job_directory.mkdir(parents=True, exist_ok=True)
    script = directory / "script"
    script.write_text(renderer.script(prepared.request, described))
    environment = {"PATH": "/usr/bin:/bin", "MODULESHOME": str(directory)}
    return subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("nosuch-command --now", 127),
        ("false", 1),
        ("f() { true; return 3; }; f", 3),
        ("cd /nonexistent/directory", 1),
        (". /nonexistent/file", 1),
        ("x=$(exit 4)", 4),
        ("echo ${nosuch:?}", 1),
        ("set -u; echo $nosuch", 1),
        ("printf 'exit 3\\n' >lines; . ./lines", 3),
        ("printf 'if then\\n' >lines; . ./lines", 2),
        ("if then", 2),
    ],
)
def test_a_line_that_fails_ends_the_job_before_its_commands(
    tmp_path: Path, line: str, status: int
) -> None:
    done = run(tmp_path, f"umask 027\ncd {tmp_path}\n{line}\necho later")
    assert (done.returncode, done.stdout) == (status, "")
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"zwrap: set-up failed with exit status {status}: ")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("printf 'exit 3\\n' >lines\n. ./lines", "3: . ./lines"),
        ("true\nexit 4", "4: exit 4"),
        ("umask 027\necho ${nosuch:?}", "1: echo ${nosuch:?}"),
    ],
)
def test_what_ends_the_shell_in_the_set_up_is_named(tmp_path: Path, lines: str, told: str) -> None:
    """The trap of the script's own, such as that for Grid Engine, has the status all the same."""
    done = run(tmp_path, f"cd {tmp_path}\n{lines}", kind="sge")
    assert done.stderr.splitlines()[-1] == f"zwrap: set-up failed with exit status {told}"
    assert done.returncode == int(told[0])


@pytest.mark.parametrize("own", ["", "trap 'echo cleaned' EXIT"])
def test_after_the_set_up_the_end_of_the_script_is_the_sites_own(tmp_path: Path, own: str) -> None:
    done = run(tmp_path, f"umask 027\n{own}", "exit 100", kind="sge")
    assert (done.returncode, done.stderr) == (100 if own else 1, "")
    assert done.stdout == ("cleaned\n" if own else "")


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "umask 027   # a remark",
        "[ -e /nonexistent ] && echo there",
        "if false; then echo a; fi",
        "false || true",
        "printf 'false\\ntrue\\n' >lines; . ./lines",
        "f() { false; true; }; f",
        "grep -q x /dev/null || echo none >&2",
    ],
)
def test_what_is_no_failure_of_a_line_does_not_end_the_job(tmp_path: Path, lines: str) -> None:
    done = run(tmp_path, f"cd {tmp_path}\n{lines}")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_a_failure_after_the_set_up_is_the_commands_own(tmp_path: Path) -> None:
    assert run(tmp_path, "umask 027", "false; echo went on").stdout == "went on\n"


def test_a_site_may_let_jobs_go_on(tmp_path: Path) -> None:
    done = run(tmp_path, "nosuch-command", setup="lenient")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "nosuch-command: command not found" in done.stderr
    with pytest.raises(ConfigurationError, match="Invalid enum value 'soft'"):
        run(tmp_path, "true", setup="soft")


MODULE = 'module() { echo "module $*"; }\n'


@pytest.mark.parametrize("place", ["set-up", "commands"])
def test_module_is_found_where_no_login_shell_defined_it(tmp_path: Path, place: str) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "bash").write_text(MODULE)
    load = "module load 'a b' c\nmodule list"
    texts = ("umask 027", load) if place == "commands" else (load, "true")
    assert run(tmp_path, *texts).stdout == "module load a b c\nmodule list\n"


def test_without_module_the_sentence_says_which_files_were_looked_for(tmp_path: Path) -> None:
    done = run(tmp_path, "module load x")
    assert done.returncode == 127
    first, second = done.stderr.splitlines()
    assert first.startswith("zwrap: there is no 'module' on ")
    assert "source the file that defines it first (looked for: /etc/profile.d/modules.sh" in first
    assert second == "zwrap: set-up failed with exit status 127: module load x"


def test_module_is_found_in_the_set_up_lines_of_a_program(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "bash").write_text(MODULE)
    definition = Definition(name="p", command=["echo", "ran"], set_up=["module load x"])
    done = subprocess.run(
        argv(plan(definition, {})[0]), env={"PATH": "/bin", "MODULESHOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "module load x\nran\n"


def test_the_recipe_hears_the_last_line_of_the_set_up() -> None:
    step = {"queue": "cluster.submission", "parameters": {}}
    body = Envelope(Recipe({"start": [[1, []]], "1": step}), 1).body()
    submission = parse_submission(encode({"header": {}, "message": body}), "here")
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_id="7",
                      job_directory="/d", seen_state="failed", exit_code=127)  # fmt: skip
    lines = ["a warning", "line 14: nosuch: command not found", "",
             "zwrap: set-up failed with exit status 127: nosuch --now"]  # fmt: skip
    verdict = died(attempt, submission, began=False, last_lines=lines)
    assert verdict.cause == (
        "Job 7 on cluster c: it failed before its wrapper began (exit status 127). Its set-up "
        "failed at 'nosuch --now': line 14: nosuch: command not found."
    )
    silent = died(attempt, submission, began=False, last_lines=lines[3:])
    assert silent.cause.endswith("Its set-up failed at 'nosuch --now'.")
    assert "set-up" not in died(attempt, submission, began=True, last_lines=lines).cause


def test_the_watcher_sends_the_next_attempt_to_the_cluster_of_the_one_that_died() -> None:
    """An earlier release has kept no cluster with a submission; the ledger has it."""
    step = {"queue": "cluster.submission", "parameters": {"cluster": {"commands": "true"}}}
    body = Envelope(Recipe({"start": [[1, []]], "1": step}), 1).body()
    kept = {"header": {"original-destination": "/queue/cluster.submission"}, "message": body,
            "retry": {"on": ["node_fail"]}}  # fmt: skip
    attempt = Attempt(token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_id="7",
                      job_directory="/d", seen_state="node_fail")  # fmt: skip
    [again] = died(attempt, parse_submission(encode(kept), "here"), began=True).final
    sent: Any = again.message
    assert sent["recipe"]["1"]["parameters"]["cluster"]["scheduler"] == "c"
