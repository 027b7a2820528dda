"""The contract that every batch system keeps, on the real one. One harness per system."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap import plugins
from zwrap.calls.ask import ask
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Resources, State
from zwrap.scheduler import Accepted, Rejected, Reply, Scheduler, Unknown
from zwrap.submission.clusters import Clusters
from zwrap.submission.template import Templates

END_S = 30.0


TWO_NODES = Resources(nodes=2, exclusive=True)
EVERYTHING = {
    "local": Resources(),
    "slurm": TWO_NODES,
    "slurmrest": TWO_NODES,
    "sge": Resources(cpus_per_task=16, partition="all.q", exclusive=True),
}
"""What a job must ask for so that no other runs beside it."""

TAKEN = {
    "local": Reply(status=0, output="17\n"),
    "slurm": Reply(status=0, output="17\n"),
    "slurmrest": Reply(status=200, output='{"job_id": 17, "errors": []}'),
    "sge": Reply(status=0, output="17"),
}
REFUSED = {
    "local": Reply(status=100, error="no"),
    "slurm": Reply(status=1, error="no"),
    "slurmrest": Reply(status=500, output='{"errors": [{"error": "no"}]}'),
    "sge": Reply(status=17, error="no"),
}

SYSTEMS = ("slurm", "slurm_accounting", "slurmrest", "slurmrest_accounting", "sge")


@pytest.fixture(params=["local", *(pytest.param(each, marks=pytest.mark.slow) for each in SYSTEMS)])
def scheduler(request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    yield from emptied(load(request))


def load(request: pytest.FixtureRequest) -> Scheduler:
    """The batch system of that name, as a site describes it."""
    kind, _, _ = request.param.partition("_")
    described: dict[str, Any] = {"kind": kind}
    if kind != "local":
        rig = request.getfixturevalue(request.param.replace("slurmrest", "slurm"))
        if kind == "slurm":
            described["environment"] = {"SLURM_CONF": rig["SLURM_CONF"]}
        elif kind == "slurmrest":
            described |= {"url": rig["url"], "user_token": rig["user_token"]}
            described["api_version"] = "v0.0.38"
        else:
            described |= {"environment": rig, "accounting_lag_s": 3.0}
    return site_with(**{kind: described}).get(kind).scheduler


def site_with(**clusters: Any) -> Clusters:
    """The clusters of a site that describes these."""
    text = {
        "version": 1,
        "environments": {"default": ["all"]},
        "all": {"plugin": "clusters", **clusters},
    }
    return Clusters(Configuration.from_string(json.dumps(text)).activate())


@pytest.fixture
def local() -> Iterator[Scheduler]:
    yield from emptied(Clusters(Configuration()).get("local").scheduler)


def emptied(system: Scheduler) -> Iterator[Scheduler]:
    """The batch system, without jobs at the end."""
    yield system
    left = ask(system.states())
    if left:
        ask(system.cancel(list(left)))
        wait_until(lambda: not ask(system.states()))


def wait_until(condition: Any, seconds: float = END_S) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return result


def request_in(directory: Path, **values: Any) -> JobRequest:
    token = f"{uuid.uuid4().hex}-1"
    return JobRequest(
        **{
            "cluster": "test",
            "job_name": "job",
            "token": token,
            "working_directory": directory,
            "job_directory": directory,
            "commands": "",
            "standard_output": directory / "out",
            "standard_error": directory / "err",
            **values,
        }
    )


def rendered(scheduler: Scheduler, request: JobRequest) -> str:
    return Templates().render(scheduler.template, request, scheduler.options)


def submit(scheduler: Scheduler, request: JobRequest, commands: str) -> str:
    script = request.job_directory / f"script-{request.token}"
    written = rendered(scheduler, replace(request, commands=commands))
    script.write_text(written)
    answer = ask(scheduler.submit(request, script))
    assert isinstance(answer, Accepted), answer
    return answer.job_id


def ended(scheduler: Scheduler, job_id: str) -> JobStatus:
    status: JobStatus = wait_until(lambda: ask(scheduler.accounting([job_id])).get(job_id))
    return status


def test_a_job_runs_in_its_directory_and_ends_with_its_exit_code(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    request = request_in(tmp_path)
    job_id = submit(scheduler, request, "pwd; echo oops >&2; exit 3")
    status = ended(scheduler, job_id)
    assert (status.state, status.exit_code, status.name) == (State.FAILED, 3, request.full_name)
    assert (tmp_path / "out").read_text() == f"{tmp_path}\n"
    assert (tmp_path / "err").read_text() == "oops\n"


def test_a_job_is_verified_without_being_there(scheduler: Scheduler, tmp_path: Path) -> None:
    request = request_in(tmp_path)
    script = tmp_path / "script"
    script.write_text(rendered(scheduler, replace(request, commands="true")))
    assert ask(scheduler.verify(request, script))
    assert ask(scheduler.find(request.full_name)) == []


def test_a_job_that_succeeds_is_completed(scheduler: Scheduler, tmp_path: Path) -> None:
    status = ended(scheduler, submit(scheduler, request_in(tmp_path), "true"))
    assert (status.state, status.exit_code) == (State.COMPLETED, 0)


def test_a_job_killed_by_a_signal_says_which(scheduler: Scheduler, tmp_path: Path) -> None:
    status = ended(scheduler, submit(scheduler, request_in(tmp_path), "kill -9 $$"))
    assert (status.state, status.signal) == (State.FAILED, 9)


def test_a_live_job_is_listed_and_found_by_its_token(scheduler: Scheduler, tmp_path: Path) -> None:
    request = request_in(tmp_path)
    job_id = submit(scheduler, request, "sleep 60")
    wait_until(lambda: ask(scheduler.states())[job_id].state is State.RUNNING)
    assert [status.job_id for status in ask(scheduler.find(request.full_name))] == [job_id]
    assert ask(scheduler.find(f"job.{uuid.uuid4().hex}-1")) == []
    assert ask(scheduler.accounting([job_id])) == {}


def test_an_ended_job_is_gone_from_the_list_and_still_found(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    request = request_in(tmp_path)
    job_id = submit(scheduler, request, "true")
    ended(scheduler, job_id)
    assert job_id not in ask(scheduler.states())
    assert [status.job_id for status in ask(scheduler.find(request.full_name))] == [job_id]


def test_a_cancelled_job_ends_with_its_descendants(scheduler: Scheduler, tmp_path: Path) -> None:
    job_id = submit(scheduler, request_in(tmp_path), "sleep 60 & echo $! >pid; wait")
    pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    ask(scheduler.cancel([job_id]))
    assert ended(scheduler, job_id).state is State.CANCELLED
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_job_cancelled_before_it_starts_never_starts(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "1")
    everything = EVERYTHING[scheduler.name]
    first = submit(scheduler, request_in(tmp_path, resources=everything), "sleep 60")
    wait_until(lambda: ask(scheduler.states())[first].state is State.RUNNING)
    job_id = submit(scheduler, request_in(tmp_path), "touch started")
    ask(scheduler.cancel([job_id]))
    assert ended(scheduler, job_id).state is State.CANCELLED
    assert not (tmp_path / "started").exists()


def test_the_tasks_of_an_array_are_jobs(scheduler: Scheduler, tmp_path: Path) -> None:
    """They are listed, found, cancelled and recorded one by one."""
    request = request_in(tmp_path)
    script = tmp_path / "array"
    script.write_text(rendered(scheduler, request))
    if (form := scheduler.arrays) is None:
        with pytest.raises(RequestError, match="no arrays"):
            scheduler.submit(request, script, 3)
        return
    wait = f'case "${form.variable}" in 3) sleep 60 ;; esac; exit ${form.variable}'
    script.write_text(rendered(scheduler, replace(request, commands=wait)))
    answer = ask(scheduler.submit(request, script, 3))
    assert isinstance(answer, Accepted), answer
    tasks = [form.job_id(answer.job_id, number) for number in (1, 2, 3)]
    assert [form.array_of(task) for task in tasks] == [answer.job_id] * 3
    for number, task in enumerate(tasks[:2], 1):
        assert ended(scheduler, task).exit_code == number
    wait_until(lambda: list(ask(scheduler.states())) == tasks[2:])
    assert {status.job_id for status in ask(scheduler.find(request.full_name))} >= {tasks[2]}
    assert ask(scheduler.accounting(tasks)).keys() == set(tasks[:2])
    ask(scheduler.cancel(tasks[2:]))
    assert ended(scheduler, tasks[2]).state is State.CANCELLED
    assert ask(scheduler.accounting(tasks)).keys() == set(tasks)


def test_the_tasks_of_an_array_wait_one_by_one(scheduler: Scheduler, tmp_path: Path) -> None:
    if (form := scheduler.arrays) is None:
        return
    everything = EVERYTHING[scheduler.name]
    blocker = submit(scheduler, request_in(tmp_path, resources=everything), "sleep 60")
    wait_until(lambda: ask(scheduler.states())[blocker].state is State.RUNNING)
    request = request_in(tmp_path)
    script = tmp_path / "array"
    script.write_text(rendered(scheduler, replace(request, commands="true")))
    answer = ask(scheduler.submit(request, script, 40))
    assert isinstance(answer, Accepted), answer
    tasks = {form.job_id(answer.job_id, number) for number in range(1, 41)}
    ask(scheduler.cancel([form.job_id(answer.job_id, 7)]))
    tasks.remove(form.job_id(answer.job_id, 7))
    wait_until(lambda: ask(scheduler.states()).keys() == tasks | {blocker})
    found = {status.job_id for status in ask(scheduler.find(request.full_name))}
    assert found - {form.job_id(answer.job_id, 7)} == tasks


def test_a_job_past_its_time_limit_is_ended_and_says_so(local: Scheduler, tmp_path: Path) -> None:
    request = request_in(tmp_path, resources=Resources(walltime_s=1))
    assert ended(local, submit(local, request, "sleep 60")).state is State.TIMEOUT


def test_no_more_jobs_run_than_there_are_processors(
    local: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZWRAP_LOCAL_CPUS", "2")
    script = "echo + >>log; sleep 0.3; echo - >>log"
    jobs = [submit(local, request_in(tmp_path), script) for _ in range(5)]
    for job_id in jobs:
        ended(local, job_id)
    running = highest = 0
    for line in (tmp_path / "log").read_text().split():
        running += 1 if line == "+" else -1
        highest = max(highest, running)
    assert highest == 2


def test_the_job_sees_no_variable_of_the_submitting_process(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/secret")
    monkeypatch.setenv("MY_SECRET", "secret")
    ended(scheduler, submit(scheduler, request_in(tmp_path), "env"))
    assert "secret" not in (tmp_path / "out").read_text().lower()


def test_a_node_that_is_excluded_is_not_used(scheduler: Scheduler, tmp_path: Path) -> None:
    """Where it is the only one, the batch system refuses; this machine itself has no other."""
    used = ended(scheduler, submit(scheduler, request_in(tmp_path), "true")).node
    request = request_in(tmp_path, resources=Resources(exclude=used))
    if scheduler.template == "sge.sh.j2":
        script = tmp_path / "script"
        script.write_text(rendered(scheduler, request))
        answer = ask(scheduler.submit(request, script))
        assert isinstance(answer, Rejected)
        assert f"hostname=!({used})" in answer.reason
    else:
        again = ended(scheduler, submit(scheduler, request, "true"))
        assert (again.node != used) == (scheduler.template == "slurm.sh.j2")


def test_a_missing_working_directory_is_a_refusal(local: Scheduler, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("true")
    answer = ask(local.submit(request_in(tmp_path / "gone"), tmp_path / "script"))
    assert isinstance(answer, Rejected)
    assert "gone does not exist" in answer.reason


def test_what_cannot_be_expressed_is_refused(local: Scheduler, tmp_path: Path) -> None:
    for resources in (Resources(gpus=1), Resources(exclusive=True), Resources(constraints="x")):
        with pytest.raises(RequestError, match="cannot give"):
            local.submit(request_in(tmp_path, resources=resources), tmp_path)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=None, error="no answer"),
        Reply(status=1, output="[]"),
        Reply(status=0, output="[{}]"),
    ],
)
def test_an_empty_or_failed_reply_is_never_an_answer(scheduler: Scheduler, reply: Reply) -> None:
    for question in (scheduler.states(), scheduler.find("t"), scheduler.accounting(["1"])):
        with pytest.raises(UnreachableError):
            question.read(reply)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=None, error="timeout"), Unknown),
        (Reply(status=0, output=""), Unknown),
        (Reply(status=-9), Unknown),
    ],
)
def test_a_submission_has_three_outcomes(
    scheduler: Scheduler, tmp_path: Path, reply: Reply, kind: type
) -> None:
    question = scheduler.submit(request_in(tmp_path), tmp_path)
    assert isinstance(question.read(reply), kind)
    assert question.read(TAKEN[scheduler.name]) == Accepted("17")
    assert isinstance(question.read(REFUSED[scheduler.name]), Rejected)


def test_the_installed_batch_systems_are_found_by_name() -> None:
    assert {"local", "sge", "slurm", "slurmrest"} <= set(plugins.names(plugins.SCHEDULERS))


def test_an_empty_reply_of_the_local_batch_system_is_no_answer(local: Scheduler) -> None:
    for question in (local.states(), local.find("t"), local.accounting(["1"])):
        with pytest.raises(UnreachableError):
            question.read(Reply(status=0, output=""))
