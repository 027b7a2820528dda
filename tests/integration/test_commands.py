"""`zocalo.go` and `zwrap` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.transport.spool.queue import SpoolQueue

from .conftest import Site

RECIPE = {
    "start": [[1, []]],
    "1": {
        "queue": "cluster.submission",
        "parameters": {
            "workingdir": "/data/{visit}",
            "cluster": {"commands": "run {visit} $RECIPEPOINTER", "job_name": "it"},
        },
    },
}


@pytest.fixture
def recipe(site: Site) -> Path:
    file = site.recipes / "example.json"
    file.write_text(json.dumps(RECIPE))
    return file


def sent(site: Site) -> tuple[Any, dict[str, Any]]:
    transport = site.transport()
    transport.subscribe("processing_recipe")
    delivery = transport.receive(5)
    assert delivery
    delivery.ack()
    transport.close()
    return delivery.message.body, dict(delivery.message.headers)


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["-r", "a", "5"], {"recipes": ["a"], "parameters": {"ispyb_dcid": 5}}),
        (["-n", "-r", "a", "-r", "b"], {"recipes": ["a", "b"], "parameters": {}}),
        (["-n", "-r", "a", "5"], {"recipes": ["a"], "parameters": {}}),
        (
            ["-r", "a", "-s", "k=v=w", "-s", "n=1", "-a", "9", "5"],
            {
                "recipes": ["a"],
                "parameters": {
                    "k": "v=w", "n": "1", "ispyb_dcid": 5, "ispyb_autoprocscalingid": 9,
                },
            },
        ),
        (["-p", "-a", "9", "5"], {"recipes": [], "parameters": {"ispyb_process": 5}}),
    ],
)  # fmt: skip
def test_go_sends_the_message_of_python_zocalo(
    site: Site, arguments: list[str], body: dict[str, Any]
) -> None:
    done = site.run("zocalo.go", *arguments)
    assert done.returncode == 0, done.stderr
    message, headers = sent(site)
    assert message == body
    assert set(headers) == {"zocalo.go.user", "zocalo.go.host", "zwrap-sent", "zwrap-id"}


def test_go_sends_a_recipe_file(site: Site, recipe: Path) -> None:
    assert site.run("zocalo.go", "-n", "-f", str(recipe)).returncode == 0
    assert sent(site)[0]["custom_recipe"] == RECIPE


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 1, "No recipes specified."),
        (["-n"], 1, "No recipes specified."),
        (["-r", "a", "-s", "foo", "5"], 1, "Invalid variable specification 'foo'"),
        (["-r", "a", "1", "2"], 1, "Only a single data collection ID can be specified."),
        (["-r", "a"], 1, "You must either specify a data collection ID or option --no-dcid."),
        (["-r", "a", "x"], 1, "'x' is not a data collection ID"),
        (["-r", "a", "0"], 1, "'0' is not a data collection ID"),
        (["-n", "-f", "/gone.json"], 100, "/gone.json cannot be read"),
        (["-n", "-r", "a", "--drop"], 100, "set 'zocalo.go.fallback_location'"),
    ],
)
def test_go_refuses_bad_requests(
    site: Site, arguments: list[str], status: int, complaint: str
) -> None:
    done = site.run("zocalo.go", *arguments)
    assert (done.returncode, complaint in done.stderr) == (status, True), done.stderr
    assert site.transport().inspector().waiting("processing_recipe") == 0


def test_a_dry_run_shows_the_message_and_sends_none(site: Site) -> None:
    done = site.run("zocalo.go", "-n", "-r", "a", "-v", "--dry-run")
    assert done.returncode == 0
    assert '"recipes": [' in done.stdout
    assert site.transport().inspector().waiting("processing_recipe") == 0


def test_while_the_transport_is_away_go_writes_a_drop_file(site: Site) -> None:
    site.settings["zocalo.go.fallback_location"] = str(site.directory / "drop")
    site.write_config()
    (site.directory / "spool").mkdir()
    (site.directory / "spool" / "processing_recipe").write_text("not a directory")
    done = site.run("zocalo.go", "-n", "-r", "a")
    [file] = (site.directory / "drop").iterdir()
    assert done.returncode == 0, done.stderr
    dropped = json.loads(file.read_text())
    assert dropped["message"] == {"recipes": ["a"], "parameters": {}}
    assert set(dropped["headers"]) == {
        "zocalo.go.user",
        "zocalo.go.host",
        "zwrap-sent",
        "zwrap-id",
    }
    assert file.read_text().startswith('{\n  "headers": {')


def test_on_the_embedded_default_go_names_the_spool_and_misses_a_dispatcher(site: Site) -> None:
    environment = {"ZOCALO_CONFIG": "", "ZWRAP_SPOOL": str(site.spool)}
    done = site.run("zocalo.go", "-n", "-r", "a", env=environment)
    assert done.returncode == 0
    assert f"the request is in the spool {site.spool}" in done.stderr
    assert "No Dispatcher is alive on it" in done.stderr


def test_recipes_are_checked(site: Site, recipe: Path) -> None:
    bad = site.directory / "bad.json"
    bad.write_text('{"start": [[1, 0]], "1": {"output": 2}}')
    done = site.run("zwrap", "recipe", "check", str(recipe), str(bad))
    assert done.returncode == 100
    assert done.stdout == (
        f"good: recipe {recipe}\n  node 1 on cluster local: runs on this machine\n2 checked.\n"
    )
    assert done.stderr == (
        f"zwrap: Invalid recipe {bad}: node 1, key 'output': node 2 does not exist.\n"
    )


def test_a_recipe_is_drawn(site: Site, recipe: Path) -> None:
    done = site.run("zwrap", "recipe", "show", str(recipe))
    assert "1 · queue cluster.submission" in done.stdout
    done = site.run("zwrap", "recipe", "show", "--dot", str(recipe))
    assert done.stdout.startswith("digraph ")


def test_check_says_what_it_checked_and_what_is_wrong(site: Site, recipe: Path) -> None:
    done = site.run("zwrap", "check")
    assert done.returncode == 0, done.stderr
    for part in (
        f"configuration: {site.config}", "environments: default",
        "good: section store (plugin storage)", f"good: recipe {recipe}",
        "good: template local.sh.j2", "good: program gemmi-merge",
    ):  # fmt: skip
        assert part in done.stdout
    programs = site.directory / "programs"
    programs.mkdir()
    (programs / "mine.yaml").write_text("command: []\n")
    templates = site.directory / "templates"
    templates.mkdir()
    (templates / "local.sh.j2").write_text("{% if %}")
    site.settings.update(
        {"zwrap.program_directory": str(programs), "zwrap.template_directory": str(templates)}
    )
    site.write_config()
    done = site.run("zwrap", "check")
    assert done.returncode == 100
    assert "mine.yaml:1, key 'command' is empty" in done.stderr
    assert "local.sh.j2, line 1" in done.stderr


def test_check_tells_of_final_messages_that_no_transport_would_take(site: Site) -> None:
    assert "refused for good" not in site.run("zwrap", "check").stdout
    place = site.directory / "state" / "unsent"
    SpoolQueue(place, limit=0).put_dead_letter(b"{}", "There is no queue 'q'.")
    done = site.run("zwrap", "check")
    assert done.returncode == 0
    assert f"warning: 1 final messages of jobs were refused for good; they are kept in {place}" in (
        done.stdout
    )


def test_check_tries_whether_a_watcher_could_have_the_last_word(site: Site) -> None:
    """It tries in the directory of the newest job of each cluster, as the user who asks."""
    ledger = Ledger.in_file(site.directory / "state" / "ledger.sqlite")
    for number, place in enumerate(("/gone", "/proc", str(site.directory))):
        ledger.reserve([Attempt(
            token=f"t{number}-1", recipe_id="r", step=1, cluster="local", job_name="n",
            job_directory=place,
        )])  # fmt: skip
        done = site.run("zwrap", "check")
        if place == "/proc":
            assert done.returncode == 100
            assert "cannot write into /proc: " in done.stderr
            assert "root_squash" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
            assert (f"good: job directory {place}\n" in done.stdout) == (place != "/gone")
    ledger.close()


def test_render_shows_the_script_and_submits_no_job(site: Site, recipe: Path) -> None:
    done = site.run("zwrap", "render", str(recipe), "-s", "visit=v1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n")
    assert "cd -- /data/v1 " in done.stdout
    assert "run v1 1\n" in done.stdout
    assert f"export ZOCALO_CONFIG={site.config}" in done.stdout
    assert "nothing was submitted" in done.stderr
    assert not (site.directory / "state" / "localbatch" / "waiting").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["render", "/gone"], 100, "/gone cannot be read"),
        (["render", "RECIPE", "--node", "7"], 100, "has no node 7"),
        (["render", "RECIPE", "-s", "x"], 100, "KEY=VALUE is expected"),
        (["recipe", "show", "/gone"], 100, "Recipe file /gone cannot be read"),
        (["dance"], 2, "Unknown command 'dance'. Did you mean"),
        ([], 2, "COMMAND"),
    ],
)
def test_bad_usage_of_zwrap_ends_in_one_sentence(
    site: Site, recipe: Path, arguments: list[str], status: int, complaint: str
) -> None:
    arguments = [str(recipe) if word == "RECIPE" else word for word in arguments]
    done = site.run("zwrap", *arguments)
    assert (done.returncode, complaint in done.stderr) == (status, True), done.stderr


@pytest.mark.parametrize(
    "tool", ["zocalo.go", "zocalo.wrap", "zocalo.service", "zocalo.shutdown", "zwrap"]
)
def test_every_command_explains_itself(site: Site, tool: str) -> None:
    done = site.run(tool, "--help")
    assert (done.returncode, done.stdout.startswith("usage: ")) == (0, True)
    assert site.run(tool, "--version").stdout.startswith("zwrap ")


def test_shutdown_without_a_target_explains_itself(site: Site) -> None:
    done = site.run("zocalo.shutdown")
    assert done.returncode == 1
    assert done.stdout.startswith("usage: ")
