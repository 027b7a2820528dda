"""`zwrap jobs` and `zwrap cancel`, for those who want to know what their job is doing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Site
from .jobs import jobs, listed, on_cluster, run, submit

Wait = Callable[..., Any]


def test_jobs_are_listed_with_their_states_and_causes(on: Site, wait_until: Wait) -> None:
    submit(on, "good", "true")
    submit(on, "bad", "echo no such crystal >&2; exit 3")
    submit(on, "long", "sleep 600")
    wait_until(
        lambda: [job["state"] for job in jobs(on)] == ["success", "failure", "running"], seconds=60
    )
    good, bad, long = jobs(on)
    assert (good["job_name"], good["step"], good["cause"]) == ("good", 1, "finished")
    assert "it exited with status 3" in bad["cause"]
    assert jobs(on, "--state", "running") == [long]
    assert jobs(on, "--recipe", bad["recipe_id"]) == [bad]
    assert jobs(on, "-n", "1") == [long]
    assert jobs(on, "--cluster", "elsewhere") == []
    printed = run(on, "jobs", "--json").stdout
    assert listed(printed) == [good, bad, long]
    table = run(on, "jobs").stdout
    for word in ("good", "success", "failure", "running", "exited with status 3"):
        assert word in table, table
    full = json.loads(run(on, "jobs", "--json", bad["token"][:9]).stdout)
    assert full["verdict"]["program_exit_status"] == 3
    assert full["batch_system"]["state"] == "failed"
    running = json.loads(run(on, "jobs", "--json", long["job_id"]).stdout)
    assert running["batch_system"]["state"] == "running"
    assert running["heartbeat"]["token"] == long["token"]
    assert "heartbeat" not in full


def test_a_job_is_cancelled(on: Site, wait_until: Wait) -> None:
    started = on.directory / "started"
    submit(on, "long", f"touch {started}; sleep 600")
    wait_until(started.exists, seconds=60)
    [job] = jobs(on, "--state", "running")
    began = time.monotonic()
    done = run(on, "cancel", job["job_id"])
    assert done.returncode == 0, done.stderr
    assert f"was asked to end {job['job_id']}." in done.stdout
    wait_until(lambda: [each["state"] for each in jobs(on)] == ["failure"], seconds=30)
    assert time.monotonic() - began < 30
    asked = "SIGUSR2" if "SGE_ROOT" in on.config.read_text() else "SIGTERM"
    assert asked in jobs(on)[0]["cause"]


@pytest.mark.slow
def test_the_ledger_may_be_a_server(
    site: Site, empty_postgresql: dict[str, Any], wait_until: Wait
) -> None:
    site.sections["ledger"] = {"plugin": "ledger", "url": empty_postgresql["url"]}
    site.write_config()
    submit(site, "good", "true")
    good = lambda: [job["state"] for job in jobs(site) if job["job_name"] == "good"]  # noqa: E731
    wait_until(lambda: good() == ["success"])
    assert not (site.directory / "state" / "ledger.sqlite").exists()
    site.sections["ledger"]["url"] = empty_postgresql["url"].replace("127.0.0.1:", "127.0.0.1:1")
    site.write_config()
    done = run(site, "jobs")
    assert done.returncode in (100, 111)
    assert "ledger" in done.stderr
    assert "rig@" not in done.stderr


def test_without_jobs_it_says_so(site: Site) -> None:
    assert run(site, "jobs").stdout == "No jobs.\n"
    assert jobs(site) == []
    for command in (["jobs", "7"], ["cancel", "7"]):
        done = run(site, *command)
        assert done.returncode == 100
        assert "Unknown job '7'" in done.stderr


@pytest.mark.slow
def test_a_job_of_a_cluster_that_cannot_be_asked_is_not_called_ended(
    site: Site, slurm: dict[str, Any]
) -> None:
    on_cluster(site, kind="slurm", environment={"SLURM_CONF": slurm["SLURM_CONF"]})
    submit(site, "long", "sleep 5")
    on_cluster(site, kind="slurm", environment={"SLURM_CONF": "/dev/null"})
    done = run(site, "jobs", "--json")
    [job] = [json.loads(line) for line in done.stdout.splitlines()]
    assert job["state"] == "not known"
    assert "Slurm could not be asked" in done.stderr


def test_an_ended_job_is_submitted_again_with_other_resources(on: Site, wait_until: Wait) -> None:
    count = on.directory / "count"
    submit(on, "again", f"echo >>{count}; test $(wc -l <{count}) -gt 2")
    wait_until(lambda: [job["state"] for job in jobs(on)] == ["failure"], seconds=30)
    [first] = jobs(on)
    for number in (2, 3):
        done = run(on, "resubmit", jobs(on)[-1]["job_id"], "-s", "cpus_per_task=2")
        assert done.returncode == 0, done.stderr
        assert f"is sent to cluster.submission as attempt {number}." in done.stdout
        on.run("zocalo.service", "-s", "Submitter", "--once")
        wait_until(
            lambda expected=number: [
                job["state"] in ("success", "failure") for job in jobs(on)
            ] == [True] * expected,
            seconds=60,
        )  # fmt: skip
    refused = run(on, "resubmit", first["job_id"])
    assert refused.returncode == 100
    assert "Attempt 3 at this step" in refused.stderr
    attempts = jobs(on)
    assert [job["state"] for job in attempts] == ["failure", "failure", "success"]
    tokens = [job["token"].rpartition("-") for job in attempts]
    assert [number for _, _, number in tokens] == ["1", "2", "3"]
    assert len({family for family, _, _ in tokens}) == 1
    script = (on.directory / "again" / ".zwrap" / attempts[2]["token"] / "script").read_text()
    if "slurm" in on.config.read_text():
        assert "#SBATCH --cpus-per-task=2\n" in script


def test_a_job_that_lives_is_not_submitted_again(on: Site, wait_until: Wait) -> None:
    started = on.directory / "started"
    submit(on, "long", f"touch {started}; sleep 600")
    wait_until(started.exists, seconds=60)
    [job] = jobs(on)
    done = run(on, "resubmit", job["job_id"])
    assert done.returncode == 100
    assert f"is running; end it first (zwrap cancel {job['job_id']})" in done.stderr
    for setting, words in (("x", "KEY=VALUE is expected"), ("nope=1", "Unknown key 'nope'")):
        run(on, "cancel", job["job_id"])
        wait_until(lambda: jobs(on)[0]["state"] == "failure", seconds=60)
        done = run(on, "resubmit", job["job_id"], "-s", setting)
        assert done.returncode == 100
        assert words in done.stderr
    assert len(jobs(on)) == 1


def test_clusters_say_how_they_are(on: Site, wait_until: Wait) -> None:
    on.sections["clusters"]["gone"] = {"kind": "slurm", "environment": {"SLURM_CONF": "/dev/null"}}
    on.write_config()
    started = on.directory / "started"
    submit(on, "long", f"touch {started}; sleep 600")
    wait_until(started.exists, seconds=60)
    done = run(on, "clusters", "--json")
    assert done.returncode == 0, done.stderr
    ours, gone = (json.loads(line) for line in done.stdout.splitlines())
    assert (ours["cluster"], ours["default"], ours["state"]) == ("cluster", "yes", "up")
    assert (ours["running"], ours["pending"]) == (1, 0)
    assert gone["state"].startswith("away: Slurm could not be asked")
    assert gone["running"] is None, "nothing is known of its jobs"
    assert "away" in run(on, "clusters").stdout
    assert "Unknown scheduler 'nope'" in run(on, "clusters", "nope").stderr


def test_no_more_jobs_than_the_site_wants(site: Site, wait_until: Wait) -> None:
    """The others wait as messages, and are submitted when there is room."""
    on_cluster(site, kind="local", max_jobs=1)
    release = site.directory / "release"
    submit(site, "first", f"while ! test -e {release}; do sleep 0.1; done")
    submit(site, "second", "true")
    assert [job["state"] for job in jobs(site)][1] == "waiting"
    assert "'max_jobs' is 1" in jobs(site)[1]["cause"]
    release.touch()
    site.service("Submitter")
    wait_until(lambda: [job["state"] for job in jobs(site)] == ["success", "success"], seconds=90)


def test_jobs_are_selected_and_cancelled_by_what_they_have_in_common(
    site: Site, wait_until: Wait
) -> None:
    submit(site, "other", "true")
    wait_until(lambda: len(jobs(site, "--state", "success")) == 1, seconds=60)
    for name in ("one", "two"):
        submit(site, name, "echo at work; sleep 600")
    wait_until(lambda: len(jobs(site, "--state", "running")) == 2, seconds=60)
    [one] = jobs(site, "--where", "environment.ID=one", "--program", "command")
    assert jobs(site, "--dir", str(site.directory / "one"), "--since", "1h") == [one]
    assert run(site, "jobs", "--recipe", "one", "--count").stdout == "1\n"
    counted = run(site, "jobs", "--by", "state,program", "--tsv").stdout
    assert counted == "jobs\tstate\tprogram\n2\trunning\tcommand\n1\tsuccess\tcommand\n"
    wait_until(lambda: "at work" in run(site, "logs", one["job_id"]).stdout, seconds=30)

    select = "cancel", "--state", "running", "--reason", "wrong sample"
    refused = run(site, *select)
    assert refused.returncode == 100
    assert "To cancel 2 jobs needs --yes or --expect 2" in refused.stderr
    assert len(jobs(site, "--state", "running")) == 2
    shown = run(site, *select, "--dry-run")
    assert shown.stdout.count("its batch system ends it, and its program gets time to stop") == 2
    assert run(site, *select, "--expect", "2").returncode == 0
    wait_until(lambda: len(jobs(site, "--state", "failure")) == 2, seconds=60)
    assert "wrong sample" in run(site, "events", one["token"]).stdout
    lines = run(site, "jobs", one["token"]).stdout.splitlines()
    assert len(lines) <= 12
    assert lines[-1].split() == ["again", "zwrap", "resubmit", one["job_id"]]
    refused = run(site, "resubmit", "--name", "n*", "--state", "success", "--yes")
    assert (refused.returncode, refused.stdout) == (0, "No such jobs.\n")
    assert run(site, "resubmit", "--name", "other").stdout == ""
