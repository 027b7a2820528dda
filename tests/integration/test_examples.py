"""The examples are runnable: a newcomer copies them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(site: Site) -> Site:
    """Return the example site, with its home directory in the test's."""
    shutil.rmtree(site.recipes)
    shutil.copytree(EXAMPLES / "site", site.directory / "example")
    site.config = site.directory / "example" / "site.yml"
    site.spool = site.directory / ".local/state/zwrap/example-spool"
    return site


def test_the_example_site_is_sound(example: Site) -> None:
    done = example.run("zwrap", "check", env={"HOME": str(example.directory)})
    assert done.returncode == 0, done.stderr
    for part in (
        "recipe ",
        "template local.sh.j2",
        "program count-words",
        "program cwltool",
        "plugin logging",
    ):
        assert f"good: {part}" in done.stdout or part in done.stdout


def test_the_example_recipe_runs(
    example: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(example.directory))
    text = tmp_path / "some text"
    text.write_text("one two\nthree\n")
    work = tmp_path / "w"
    sent = example.run(
        "zocalo.go", "-n", "-r", "example", "-s", f"workingdir={work}", "-s", f"text={text}"
    )
    assert sent.returncode == 0, sent.stderr
    for service in ("Dispatcher", "Submitter"):
        assert example.service(service, "--once").wait(20) == 0
    [body] = example.take("example.counts")
    assert body["payload"] == {"lines": 2, "words": 3, "bytes": 14}
    [script] = work.glob(".zwrap/*/script")
    assert "umask 027\nexport SITE_CLUSTER=local\n" in script.read_text()


def test_the_example_recipe_runs_on_a_closed_site(
    example: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(example.directory))
    (tmp_path / "data").mkdir()
    closed = "custom_recipe: false, inline_command: false, runner: false"
    rules = f"rules: {{plugin: security, directories: [{tmp_path}/data], {closed}}}\n"
    text = example.config.read_text().replace("[store, log]", "[store, log, rules]")
    example.config.write_text(f"{text}\n{rules}")
    (tmp_path / "text").write_text("one two\n")
    for place in ("data/new", "elsewhere"):
        example.run(
            "zocalo.go", "-n", "-r", "example", "-s", f"workingdir={tmp_path}/{place}",
            "-s", f"text={tmp_path}/text",
        )  # fmt: skip
    for service in ("Dispatcher", "Submitter"):
        assert example.service(service, "--once").wait(20) == 0
    [body] = example.take("example.counts")
    assert body["payload"] == {"lines": 1, "words": 2, "bytes": 8}
    [own] = (tmp_path / "data" / "new" / ".zwrap").iterdir()
    assert {"script", "submission.json", "claim.json", "job.out"} <= {f.name for f in own.iterdir()}
    assert not (tmp_path / "elsewhere").exists()
    told = example.run("zocalo.dlq_check").stdout
    assert "cluster.submission" in told
    done = example.run("zwrap", "check", "--security")
    assert f"good: directories: messages may name paths below {tmp_path}/data" in done.stdout


def test_a_tool_of_the_common_workflow_language_is_run_as_it_is(
    example: Site, tmp_path: Path
) -> None:
    programs, tool = EXAMPLES / "site/programs", EXAMPLES / "site/cwl/count-words.cwl"
    inputs = '{"text": {"class": "File", "path": "/d/a b.txt"}}'
    done = example.run(
        "zwrap", "program", "run", "--dry-run", "--json", "--directory", str(tmp_path),
        str(programs / "cwltool.yaml"), f"tool={tool}", f"cwl={inputs}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["command"] == [
        "cwltool", "--disable-color", "--outdir", "outputs", str(tool), "inputs.json",
    ]  # fmt: skip
    assert json.loads(shown["file inputs.json"]) == json.loads(inputs)


def test_a_missing_input_takes_the_failure_route(
    example: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(example.directory))
    work = tmp_path / "w"
    example.run("zocalo.go", "-n", "-r", "example", "-s", f"workingdir={work}", "-s", "text=/gone")
    for service in ("Dispatcher", "Submitter"):
        assert example.service(service, "--once").wait(20) == 0
    [body] = example.take("example.failures")
    assert body["payload"].startswith("Input 'text' of program 'count-words' is '/gone', which")


def test_each_cron_line_is_a_command_that_works(
    example: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(example.directory))
    lines = (EXAMPLES / "site" / "crontab").read_text().splitlines()
    commands = [re.sub(r"^(\S+\s+){5}", "", line) for line in lines if line.startswith("*")]
    assert len(commands) == 3
    for command in commands:
        done = example.run(*command.replace("--lifetime 3600", "--lifetime 1").split())
        assert done.returncode == 0, done.stderr


GIVEN = {
    "slurm": ["#SBATCH --mem=200M\n", "#SBATCH --nice=10\n", "#SBATCH --partition=main\n"],
    "sge": ["#$ -l h_vmem=200M\n", "#$ -p -10\n", "#$ -q all.q\n"],
}
"""Batch system to the directives that come from shipped template, site and recipe."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slurm", "sge"])
def test_the_site_with_a_cluster_runs_its_recipe(
    site: Site, kind: str, tmp_path: Path, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES, site.directory / "examples")
    site.config = site.directory / "examples" / f"site-{kind}" / "site.yml"
    rig = request.getfixturevalue(kind)
    environment = {name: text for name, text in rig.items() if name != "nodes"}
    text = re.sub(r"environment: \{.*\}", f"environment: {environment}", site.config.read_text())
    # a job of Grid Engine has the HOME of its account, and not of the test
    site.config.write_text(text.replace("~/", f"{site.directory}/"))
    site.spool = site.directory / f".local/state/zwrap/{kind}-spool"
    monkeypatch.setenv("HOME", str(site.directory))
    checked = site.run("zwrap", "check")
    assert checked.returncode == 0, checked.stderr
    assert f"good: cluster {kind}\n" in checked.stdout
    words = tmp_path / "text"
    words.write_text("one two\nthree\n")
    work = tmp_path / "w"
    values = ("-s", f"workingdir={work}", "-s", f"text={words}")
    assert site.run("zocalo.go", "-n", "-r", "example", *values).returncode == 0
    lines = (site.config.parent / "crontab").read_text().splitlines()
    commands = [re.sub(r"^(\S+\s+){5}", "", line) for line in lines if line.startswith("*")]
    for command in commands:
        short = command.replace("--lifetime 3600", "--once").split()
        assert site.run(*short).returncode == 0
    [body] = site.take("example.counts", seconds=60)
    assert body["payload"] == {"lines": 2, "words": 3, "bytes": 14}
    [script] = work.glob(".zwrap/*/script")
    for line in GIVEN[kind]:
        assert line in script.read_text()
