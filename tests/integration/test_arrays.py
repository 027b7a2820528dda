"""Requests that wait together, on every batch system: each is one job with a fate of its own."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe

from .conftest import Site
from .jobs import jobs, on_cluster, run

Wait = Callable[..., Any]

WRAP = "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"


def request(directory: Path, command: str, **block: Any) -> Envelope:
    step = {
        "queue": "cluster.submission",
        "parameters": {"cluster": {"commands": WRAP, **block}, "workingdir": str(directory)},
        "job_parameters": {"command": ["sh", "-c", command]},
        "output": {"job_submitted": 2, "success": 3, "failure": 4},
    }
    recipe = {"start": [[1, []]], "1": step}
    recipe |= {str(n): {"queue": name} for n, name in enumerate(("told", "good", "bad"), 2)}
    return Envelope(Recipe(recipe), 1, environment={"ID": directory.name})


def wait_together(site: Site, envelopes: list[Envelope]) -> None:
    transport = site.transport()
    for envelope in envelopes:
        transport.commit(envelope.start())
    transport.close()


def test_the_recipe_hears_each_task_of_a_step(on: Site, wait_until: Wait) -> None:
    """Each has its own ids and its number, and one that fails leaves the others alone."""
    on.sections["clusters"]["cluster"] |= {"watch_s": 0.5}
    on.write_config()
    command = "echo $SLURM_ARRAY_TASK_ID >task-$SGE_TASK_ID; test $SLURM_ARRAY_TASK_ID != 5"
    wait_together(on, [request(on.directory / "w", command, array="3-9:2", job_name="a")])
    assert on.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    told = on.take("told", 4)
    assert len({str(body["payload"]["jobid"]) for body in told}) == 4
    good, bad = on.take("good", 3, seconds=90), on.take("bad", seconds=60)
    assert sorted(body["environment"]["array-task"] for body in good) == [3, 7, 9]
    assert [body["environment"] for body in bad] == [{"ID": "w", "array-task": 5}]
    assert {file.name: file.read_text() for file in (on.directory / "w").glob("task-*")} == {
        f"task-{number}": f"{number}\n" for number in (3, 5, 7, 9)
    }
    on.service("Watcher")
    wait_until(lambda: all(job["outcome"] for job in jobs(on)), seconds=60)
    [failed] = [job for job in jobs(on) if job["outcome"] == "failure"]
    assert run(on, "resubmit", failed["job_id"]).returncode == 0
    assert on.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    [again] = on.take("bad", seconds=60)
    assert again["environment"]["array-task"] == 5


@pytest.mark.slow
def test_a_step_after_another_waits_for_it(site: Site, wait_until: Wait) -> None:
    """It looks again after half a minute."""
    on_cluster(site, kind="local", watch_s=0.5)
    first = request(site.directory / "w", "until test -e go; do sleep 0.1; done", job_name="first")
    steps: dict[str, Any] = first.recipe.for_wire()
    for number, before in ((5, 1), (6, 7)):
        node = json.loads(json.dumps(steps["1"]))
        node["parameters"]["cluster"] |= {"dependency": before, "job_name": f"n{number}"}
        node["job_parameters"] = {"command": ["true"]}
        node["output"] = {"success": 3}
        steps[str(number)] = {**node, "error": 4}
    steps["7"] = {**steps["1"], "job_parameters": {"command": ["false"]}, "output": {}}
    steps["start"] = [[int(number), []] for number in (5, 6, 7, 1)]
    wait_together(site, [Envelope(Recipe(steps), 1, environment={"ID": "w"})])
    site.service("Submitter")
    site.service("Watcher")

    def shown(name: str) -> dict[str, Any]:
        found = [job for job in jobs(site) if job["job_name"] == name]
        return found[0] if found else {"state": None, "cause": None}

    wait_until(lambda: "it waits for step 1, whose job" in str(shown("n5")["cause"]), seconds=60)
    (site.directory / "w" / "go").touch()
    [body] = site.take("good", 1, seconds=90)
    assert body["recipe-path"] == [1], "the first step itself"
    [body] = site.take("good", 1, seconds=90)
    assert body["recipe-path"] == [5]
    told = site.take("bad", seconds=90)
    assert "step 7, after which it was to run, failed" in json.dumps(told[0]["payload"])
    assert shown("n6")["state"] == "rejected"


def test_requests_that_wait_together(on: Site, wait_until: Wait) -> None:
    """Thirty go in with two calls where there are arrays; each works, speaks and ends by itself."""
    places = [on.directory / f"w{number}" for number in range(30)]
    command = "pwd; test $(basename $PWD) != w7 && echo done >result"
    envelopes = [request(place, command) for place in places]
    (on.directory / "file").touch()
    envelopes[3] = request(on.directory / "file" / "in", command)  # cannot be made
    envelopes[20] = request(places[20], command, gpus=100)
    wait_together(on, envelopes)
    done = on.run("zocalo.service", "-s", "Submitter", "--once")
    assert done.returncode == 0, done.stderr
    assert len(on.dead_letters("cluster.submission")) == 2
    told = on.take("told", 28)
    ids = [str(body["payload"]["jobid"]) for body in told]
    assert len(set(ids)) == 28
    if on.sections["clusters"]["cluster"]["kind"] != "local":
        assert Counter(len(re.split(r"[._]", job_id)) for job_id in ids) == {1: 1, 2: 27}
        assert len({re.split(r"[._]", job_id)[0] for job_id in ids}) == 2
    good, bad = on.take("good", 27, seconds=90), on.take("bad", seconds=60)
    assert Counter(body["environment"]["ID"] for body in [*good, *bad]) == Counter(
        place.name for number, place in enumerate(places) if number not in (3, 20)
    )
    for number in (0, 1, 29):
        assert (places[number] / "result").read_text() == "done\n"
        [own] = places[number].glob(".zwrap/*/job.err")
        assert own.exists()
    states = Counter(job["state"] for job in jobs(on))
    assert (states["success"], states["failure"]) == (27, 1)
    claimed = {json.loads(file.read_text())["job_id"] for file in
               on.directory.glob("w*/.zwrap/*/claim.json")}  # fmt: skip
    assert claimed == set(ids)


def test_one_task_is_cancelled_and_one_submitted_again(
    on: Site, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "8")
    places = [on.directory / f"w{number}" for number in range(3)]
    wait_together(on, [request(place, "touch started; sleep 600") for place in places])
    on.run("zocalo.service", "-s", "Submitter", "--once")
    wait_until(lambda: all((place / "started").exists() for place in places), seconds=60)
    second = next(job for job in jobs(on) if job["job_directory"].startswith(str(places[1])))
    done = run(on, "cancel", second["job_id"])
    assert done.returncode == 0, done.stderr
    assert on.take("bad", seconds=60)[0]["environment"]["ID"] == "w1"
    wait_until(
        lambda: Counter(job["state"] for job in jobs(on)) == {"running": 2, "failure": 1},
        seconds=60,
    )
    done = run(on, "resubmit", second["job_id"])
    assert done.returncode == 0, done.stderr
    on.run("zocalo.service", "-s", "Submitter", "--once")
    wait_until(
        lambda: Counter(job["state"] for job in jobs(on)) == {"running": 3, "failure": 1},
        seconds=60,
    )


def test_a_step_or_a_site_may_forbid_arrays(on: Site, wait_until: Wait) -> None:
    first, *others = [on.directory / f"w{number}" for number in range(4)]
    wait_together(on, [request(first, "true"), *(request(e, "true", array=False) for e in others)])
    on.run("zocalo.service", "-s", "Submitter", "--once")
    ids = [body["payload"]["jobid"] for body in on.take("told", 4)]
    assert all(isinstance(job_id, int) for job_id in ids)
    on.sections["clusters"]["cluster"]["defaults"] = {"array": False}
    on.write_config()
    wait_together(on, [request(place, "true") for place in others])
    on.run("zocalo.service", "-s", "Submitter", "--once")
    ids = [body["payload"]["jobid"] for body in on.take("told", 3)]
    assert all(isinstance(job_id, int) for job_id in ids)
    on.take("good", 7, seconds=60)


@pytest.mark.slow
def test_a_limit_on_submitted_jobs_is_waited_out(
    site: Site, slurm_accounting: dict[str, Any], wait_until: Wait
) -> None:
    """As many as may be are taken at once, and nobody's job is refused for the rest."""
    environment = {"SLURM_CONF": slurm_accounting["SLURM_CONF"]}
    on_cluster(site, kind="slurm", environment=environment)
    limited(environment, 5)
    try:
        places = [site.directory / f"w{number}" for number in range(8)]
        wait_together(site, [request(place, "sleep 5") for place in places])
        site.run("zocalo.service", "-s", "Submitter", "--once")
        assert len(site.take("told", 5)) == 5
        states = Counter(job["state"] for job in jobs(site))
        assert states["waiting"] == 3
        assert site.transport().inspector().waiting("cluster.submission") == 3
        assert site.dead_letters("cluster.submission") == []
    finally:
        limited(environment, -1)
    site.service("Submitter")
    assert len(site.take("told", 3, seconds=60)) == 3
    site.take("good", 8, seconds=60)


def limited(environment: dict[str, str], count: int) -> None:
    """Let this user have so many jobs."""
    command = ["sacctmgr", "-i", "modify", "user", "where", f"name={getpass.getuser()}"]
    command += ["set", f"MaxSubmitJobs={count}"]
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
