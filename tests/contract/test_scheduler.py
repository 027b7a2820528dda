"""The contract that every batch system keeps (`zwrap.testing`), on the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.calls.ask import ask
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import State
from zwrap.plugins import registry
from zwrap.scheduler import Accepted, Rejected, Reply, Scheduler
from zwrap.submission.clusters import Clusters
from zwrap.testing import SchedulerContract
from zwrap.testing.jobs import Jobs

TWO_NODES = {"nodes": 2, "exclusive": True}
ALONE: dict[str, dict[str, object]] = {
    "local": {},
    "slurm": TWO_NODES,
    "slurmrest": TWO_NODES,
    "sge": {"cpus_per_task": 16, "partition": "all.q", "exclusive": True},
}
"""Keys of the cluster block of a job beside which no other runs."""

TAKEN = {
    "local": Reply(status=0, output="17\n"),
    "slurm": Reply(status=0, output="17\n"),
    "slurmrest": Reply(status=200, output='{"job_id": 17, "errors": []}'),
    "sge": Reply(status=0, output="17"),
}
REFUSED = {
    "local": Reply(status=100, error="no"),
    "slurm": Reply(status=1, error="no"),
    "slurmrest": Reply(status=500, output='{"errors": [{"error": "Invalid partition name"}]}'),
    "sge": Reply(status=17, error="Job was rejected because job requests unknown queue"),
}

SYSTEMS = ("slurm", "slurm_accounting", "slurmrest", "slurmrest_accounting", "sge")


def site_with(kind: str, **described: Any) -> Configuration:
    """Return a site with one cluster, whose name is its kind."""
    text = {
        "version": 1,
        "environments": {"default": ["all"]},
        "all": {"plugin": "clusters", kind: {"kind": kind, **described}},
    }
    return Configuration.from_string(json.dumps(text)).activate()


class TestScheduler(SchedulerContract):
    """All batch systems, Slurm with and without accounting."""

    @pytest.fixture(
        params=["local", *(pytest.param(each, marks=pytest.mark.slow) for each in SYSTEMS)]
    )
    def configuration(self, request: pytest.FixtureRequest) -> Configuration:
        kind = request.param.partition("_")[0]
        if kind == "local":
            return site_with(kind)
        rig = request.getfixturevalue(request.param.replace("slurmrest", "slurm"))
        if kind == "slurm":
            return site_with(kind, environment={"SLURM_CONF": rig["SLURM_CONF"]})
        if kind == "slurmrest":
            reached = {key: rig[key] for key in ("url", "user_token", "api_version")}
            return site_with(kind, **reached)
        return site_with(kind, environment=rig, accounting_lag_s=3.0)

    @pytest.fixture
    def cluster(self, configuration: Configuration) -> str:
        [name] = Clusters(configuration).described()
        return name

    @pytest.fixture
    def alone(self, cluster: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        if cluster == "local":
            monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "1")
        return ALONE[cluster]

    def test_a_job_that_was_taken_or_refused_is_not_unknown(self, jobs: Jobs) -> None:
        question = jobs.scheduler.submit(*jobs.prepare("true", {}))
        assert question.read(TAKEN[jobs.cluster.name]) == Accepted("17")
        assert isinstance(question.read(REFUSED[jobs.cluster.name]), Rejected)

    def test_a_node_that_is_excluded_is_not_used(self, jobs: Jobs) -> None:
        """The batch system refuses where it is the only one; this machine itself has no other."""
        used = jobs.ended(jobs.submit("true").job_id).node
        excluded = {"exclude": used}
        if jobs.cluster.settings.kind == "sge":
            answer = ask(jobs.scheduler.submit(*jobs.prepare("true", excluded)))
            assert isinstance(answer, Rejected)
            assert f"hostname=!({used})" in answer.reason
        else:
            again = jobs.ended(jobs.submit("true", excluded).job_id)
            assert (again.node != used) == jobs.cluster.settings.kind.startswith("slurm")

    def test_the_jobs_of_others_are_left_alone(
        self, jobs: Jobs, configuration: Configuration, cluster: str, tmp_path: Path
    ) -> None:
        """The suite may run on a cluster where its user has live jobs."""
        others = Jobs(configuration, cluster, tmp_path, 60.0)
        other = others.submit("sleep 600").job_id
        mine = jobs.submit("sleep 600").job_id
        assert jobs.live().keys() == {mine}
        jobs.close()
        assert others.live().keys() == {other}
        others.close()
        assert others.live() == {}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(site_with("local"), "local", tmp_path, 30.0)
    yield jobs
    jobs.close()


def test_a_job_past_its_time_limit_is_ended_and_says_so(local: Jobs) -> None:
    job_id = local.submit("sleep 60", {"time_limit": 1}).job_id
    assert local.ended(job_id).state is State.TIMEOUT


def test_no_more_jobs_run_than_there_are_processors(
    local: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "2")
    commands = "echo + >>log; while ! test -e go; do sleep 0.05; done; echo - >>log"
    jobs = [local.submit(commands).job_id for _ in range(5)]
    log = local.directory / "log"
    local.wait(lambda: log.exists() and log.read_text().count("+") == 2, "two jobs run")
    states = [status.state for status in local.live().values()]
    assert sorted(state.value for state in states) == ["pending"] * 3 + ["running"] * 2
    (local.directory / "go").touch()
    for job_id in jobs:
        local.ended(job_id)
    running = highest = 0
    for line in log.read_text().split():
        running += 1 if line == "+" else -1
        highest = max(highest, running)
    assert highest == 2


def test_a_missing_working_directory_is_a_refusal(local: Jobs) -> None:
    request, script = local.prepare("true", {})
    gone = local.directory / "gone"
    answer = ask(local.scheduler.submit(replace(request, working_directory=gone), script))
    assert isinstance(answer, Rejected)
    assert "gone does not exist" in answer.reason


@pytest.mark.parametrize("block", [{"gpus": 1}, {"exclusive": True}, {"constraints": "x"}])
def test_what_cannot_be_expressed_is_refused(local: Jobs, block: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="cannot give"):
        local.scheduler.submit(*local.prepare("true", block))


def test_the_installed_batch_systems_are_found_by_name() -> None:
    names = set(registry.names(registry.SCHEDULERS))
    assert {"local", "sge", "slurm", "slurmrest"} <= names
    for name in ("local", "sge", "slurm", "slurmrest"):
        assert issubclass(registry.find(registry.SCHEDULERS, name), Scheduler)


def test_an_empty_reply_of_the_local_batch_system_is_no_answer(local: Jobs) -> None:
    system = local.scheduler
    for question in (system.states(), system.find("t"), system.accounting({"1": 0.0})):
        with pytest.raises(UnreachableError):
            question.read(Reply(status=0, output=""))


def test_an_author_runs_the_contract_by_options(tmp_path: Path) -> None:
    """The options name a cluster of a site file; the suite is run from any directory."""
    site = tmp_path / "site.yml"
    site.write_text(json.dumps({
        "version": 1, "environments": {"default": ["c"]},
        "c": {"plugin": "clusters", "mine": {"kind": "local"}},
    }))  # fmt: skip
    environment = {
        **os.environ, "ZOCALO_CONFIG": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    command = [
        sys.executable,
        "-P",
        "-m",
        "zwrap.testing",
        "-p",
        "no:cacheprovider",
        "-k",
        "succeeds",
    ]

    def run(*options: str) -> str:
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    assert "1 passed" in run("--cluster", "mine")
    assert "--cluster NAME is missing" in run()
    assert "Unknown scheduler 'nobodys'" in run("--cluster", "nobodys")
