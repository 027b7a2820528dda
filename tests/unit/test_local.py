"""The built-in batch system as it is asked, and what is read in its replies."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from zwrap_schedulers.local import Local, LocalOptions

from zwrap.errors import RequestError, UnreachableError
from zwrap.job import JobRequest, JobStatus, Limits, Resources, State
from zwrap.scheduler import Accepted, Command, Rejected, Reply, Unknown


@pytest.fixture
def local() -> Local:
    return Local("here", LocalOptions())


def request(**resources: object) -> JobRequest:
    return JobRequest(
        cluster="here", job_name="job", token="t-1", working_directory=Path("/w"),
        job_directory=Path("/w/.zwrap/t-1"), commands="true", resources=Resources(**resources),
        standard_output=Path("/w/out"), standard_error=Path("/w/err"),
    )  # fmt: skip


def asked(call: object) -> list[str]:
    """Return the arguments of a call of the runner."""
    assert isinstance(call, Command)
    assert call.argv[1:4] == ["-P", "-m", "zwrap.pool"]
    return call.argv[4:]


def test_where_the_jobs_lie_is_said_only_if_the_site_says_it(local: Local) -> None:
    assert asked(local.states().call) == ["list"]
    assert asked(local.verify(request(), Path("/s")).call) == ["list"]
    assert asked(local.accounting({"1": 0.0}).call) == ["list", "--ended"]
    there = Local("here", LocalOptions(directory="/d", timeout_s=3, environment={"A": "b"}))
    assert asked(there.find("n").call) == ["--directory", "/d", "list", "--ended", "--name", "n"]
    call = there.cancel(["1", "2"]).call
    assert asked(call)[2:] == ["cancel", "1", "2"]
    assert isinstance(call, Command)
    assert (call.timeout_s, call.environment) == (3, {"A": "b"})


def test_a_job_is_handed_over_with_its_limits(local: Local) -> None:
    wide = request(cpus_per_task=2, tasks=3, walltime_s=61)
    said = asked(local.submit(wide, Path("/s")).call)
    assert said == [
        "submit", "--name", "job.t-1", "--chdir", "/w", "--output", "/w/out", "--error", "/w/err",
        "--time", "61", "--cpus", "6", "/s",
    ]  # fmt: skip
    plain = asked(local.submit(request(), Path("/s")).call)
    assert plain == [*said[:9], "--cpus", "1", "/s"]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (Reply(status=0, output="17\n"), Accepted("17")),
        (Reply(status=100, output="17\n", error="localbatch: no\n"), Rejected("localbatch: no")),
        (Reply(status=2, error="usage: x\nerror: what?"), Rejected("usage: x; error: what?")),
        (Reply(status=111, error="disk full"), Unknown("disk full")),
        (Reply(status=0, output="?"), Unknown("?")),
        (Reply(status=-9), Unknown("exit status -9 without a message")),
        (Reply(status=None, error="late"), Unknown("late")),
    ],
)
def test_what_an_answer_to_a_submission_means(local: Local, reply: Reply, answer: object) -> None:
    assert local.submit(request(), Path("/s")).read(reply) == answer


def test_only_what_was_asked_for_and_has_ended_is_told(local: Local) -> None:
    jobs = [
        JobStatus(job_id=job_id, name="n", state=state)
        for job_id, state in (("1", State.RUNNING), ("2", State.FAILED), ("3", State.FAILED))
    ]
    reply = Reply(status=0, output=msgspec.json.encode(jobs).decode())
    assert local.accounting({"1": 9.0, "2": 0.0}).read(reply) == {"2": jobs[1]}
    assert local.states().read(reply) == {job.job_id: job for job in jobs}
    assert local.find("n").read(reply) == jobs


def test_a_command_that_failed_is_no_answer(local: Local) -> None:
    failed = Reply(status=111, output="[]", error="localbatch: /d: Permission denied\n")
    questions = (
        local.states(), local.find("n"), local.accounting({"1": 0.0}), local.cancel(["1"]),
        local.verify(request(), Path("/s")),
    )  # fmt: skip
    for question in questions:
        with pytest.raises(
            UnreachableError, match=r"local batch system could not be asked: .*denie"
        ):
            question.read(failed)
    with pytest.raises(UnreachableError, match=r"answered 'x.*which is not a list of jobs"):
        local.states().read(Reply(status=0, output="x" * 100))


def test_what_it_says_without_being_asked_for_a_job(local: Local) -> None:
    assert local.verify(request(), Path("/s")).read(Reply(status=0, output="[]")) == (
        "the local batch system would take it"
    )
    assert local.cancel(["1"]).read(Reply(status=0)) is None
    assert local.limits() == Limits(array_size=1)
    assert local.settle_s == 3.0


@pytest.mark.parametrize(
    "resources", [{"gpus": 1}, {"gpus_per_node": 1}, {"exclusive": True}, {"constraints": "x"}]
)
def test_what_it_cannot_give_is_refused(local: Local, resources: dict[str, object]) -> None:
    [key] = resources
    for ask in (local.submit, local.verify):
        with pytest.raises(RequestError, match=f"Cluster 'here' .* cannot give '{key}'"):
            ask(request(**resources), Path("/s"))
    with pytest.raises(RequestError, match="and no arrays"):
        local.submit(request(), Path("/s"), 2)
