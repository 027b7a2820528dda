"""`zwrap events`: what happened to a job, as a scientist asks for it after `zocalo.go`."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .jobs import jobs

Wait = Callable[..., Any]

FOREIGN = "facility.filter"
"""Queue of a service that zwrap does not know, between the request and the job."""


def write_recipe(site: Site, directory: Path) -> None:
    """Write a recipe in which a foreign service comes before a job."""
    job = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {"job_name": "count", "commands": "zocalo.wrap --wrap command"
                                                         " --recipewrapper $RECIPEWRAP"},
            "workingdir": "{workingdir}",
        },
        "job_parameters": {"command": ["sh", "-c", "echo no spots >&2; exit 3"]},
    }  # fmt: skip
    recipe = {"start": [[1, []]], "1": {"queue": FOREIGN, "output": 2}, "2": job}
    (site.recipes / "found.json").write_text(json.dumps(recipe))


def pass_on(site: Site) -> None:
    """Do what a service of a facility does with python-workflows: pass the envelope on."""
    [body] = site.take(FOREIGN)
    body = {**body, "recipe-pointer": 2, "recipe-path": [1], "payload": []}
    with site.transport() as transport:
        transport.send("cluster.submission", body, {"workflows-recipe": True})


def events(site: Site, name: str) -> list[dict[str, Any]]:
    done = site.run("zwrap", "events", name, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_request_is_followed_to_its_end(site: Site, wait_until: Wait, tmp_path: Path) -> None:
    write_recipe(site, tmp_path)
    work = tmp_path / "sample_7"
    sent = site.run("zocalo.go", "-n", "-r", "found", "-s", f"workingdir={work}")
    [request, recipe] = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", sent.stdout)[:2]
    site.run("zocalo.service", "-s", "Dispatcher", "--once")
    pass_on(site)
    site.service("Watcher")
    site.run("zocalo.service", "-s", "Submitter", "--once")
    wait_until(lambda: [job["state"] for job in jobs(site)] == ["failure"], seconds=60)
    told = lambda: [event["what"] for event in events(site, request)]  # noqa: E731
    wait_until(lambda: "sent" in told(), seconds=60)

    found = events(site, request)
    assert found == events(site, recipe)
    [job] = jobs(site)
    assert found == events(site, job["job_id"])
    first, *others = found
    assert (first["what"], first["of"], first["facts"]) == (
        "request sent", request, {"directory": str(work), "recipes": "found"}
    )  # fmt: skip
    assert first["witness"].startswith(f"{getpass.getuser()}@")
    assert [each["what"] for each in others][:2] == ["taken", "submitted"]
    assert [each["what"] for each in others][-3:] == ["ended", "verdict", "sent"]
    verdict = others[-2]
    assert (verdict["witness"], verdict["facts"]["outcome"]) == ("wrapper", "failure")
    assert "status 3" in verdict["facts"]["cause"]
    assert {each["recipe"] for each in others} == {recipe}

    table = site.run("zwrap", "events", job["job_id"])
    assert table.stdout.split()[0] == "time"
    assert "no spots" in table.stdout or "status 3" in table.stdout


def test_an_unknown_name_is_refused(site: Site) -> None:
    done = site.run("zwrap", "events", "17")
    assert (done.returncode, "17" in done.stderr) == (100, True)


@pytest.mark.slow
def test_events_are_in_a_ledger_on_a_server(
    site: Site, empty_postgresql: dict[str, Any], wait_until: Wait, tmp_path: Path
) -> None:
    site.sections["ledger"] = {"plugin": "ledger", "url": empty_postgresql["url"]}
    site.write_config()
    test_a_request_is_followed_to_its_end(site, wait_until, tmp_path)
