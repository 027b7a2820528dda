"""The contract of `zwrap.scheduler.Scheduler` in executable form, on a real cluster."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwrap.calls.ask import ask
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError, UnreachableError
from zwrap.job import Limits, State
from zwrap.scheduler import Options, Reply, Unknown
from zwrap.testing.jobs import Jobs

BEATS = "(while :; do date +%s.%N >beat; sleep 0.1; done) & wait"
"""Commands whose descendant process writes to a file as long as it lives."""


class SchedulerContract:
    """Tests that every batch system passes, on the cluster that the fixtures name."""

    @pytest.fixture
    def configuration(self) -> Configuration:
        """Return the site configuration; this default: the one that ZOCALO_CONFIG names."""
        return Configuration.from_file().activate()

    @pytest.fixture
    def cluster(self) -> str:
        """Return the name of the cluster in the site file."""
        pytest.fail("Replace the fixture 'cluster': the name of a cluster.")

    @pytest.fixture
    def alone(self) -> dict[str, object] | None:
        """Return keys of a cluster block that leave no room for another job; None: unknown."""
        return None

    @pytest.fixture
    def limit_s(self) -> float:
        """Return the longest wait for the start, and for the end, of a job, in seconds."""
        return 60.0

    @pytest.fixture
    def jobs(
        self, configuration: Configuration, cluster: str, limit_s: float, tmp_path: Path
    ) -> Iterator[Jobs]:
        """Yield the jobs of a test, which are cancelled at its end."""
        made = Jobs(configuration, cluster, tmp_path, limit_s)
        yield made
        made.close()

    @pytest.fixture
    def blocker(self, jobs: Jobs, alone: dict[str, object] | None) -> str:
        """Return the job id of a job that runs and leaves no room for another one."""
        if alone is None:
            pytest.skip("it is not known what fills this cluster")
        blocker = jobs.submit("sleep 600", alone).job_id
        jobs.running(blocker)
        return blocker

    def test_the_attributes_are_of_use(self, jobs: Jobs) -> None:
        """The Submitter and templates rely on them."""
        scheduler = jobs.scheduler
        assert isinstance(scheduler.options, scheduler.options_type)
        assert issubclass(scheduler.options_type, Options)
        assert scheduler.template.endswith(".j2")
        assert scheduler.concurrency >= 1
        assert scheduler.settle_s >= 0

    def test_a_job_runs_in_its_directory_and_ends_with_its_exit_code(self, jobs: Jobs) -> None:
        """Output goes to the requested files, and the status is recorded under the job's name."""
        job = jobs.submit("pwd; echo oops >&2; exit 3")
        status = jobs.ended(job.job_id)
        assert (status.state, status.exit_code, status.name) == (State.FAILED, 3, job.name)
        assert (jobs.directory / "out").read_text() == f"{jobs.directory}\n"
        assert (jobs.directory / "err").read_text() == "oops\n"

    def test_a_job_that_succeeds_is_completed(self, jobs: Jobs) -> None:
        """Exit status 0 is the only success."""
        status = jobs.ended(jobs.submit("true").job_id)
        assert (status.state, status.exit_code) == (State.COMPLETED, 0)

    def test_a_job_killed_by_a_signal_says_which(self, jobs: Jobs) -> None:
        """The signal is not an exit code."""
        status = jobs.ended(jobs.submit("kill -9 $$").job_id)
        assert (status.state, status.signal) == (State.FAILED, 9)

    def test_a_job_is_verified_without_being_there(self, jobs: Jobs) -> None:
        """A batch system that can be asked gives an answer, and accepts no job."""
        request, script = jobs.prepare("true", {})
        question = jobs.scheduler.verify(request, script)
        if question is not None:
            assert ask(question)
        assert ask(jobs.scheduler.find(request.full_name)) == []

    def test_a_live_job_is_listed_and_found_by_its_name(self, jobs: Jobs) -> None:
        """A live job is not recorded as ended; no job is found under an unused name."""
        job = jobs.submit("sleep 600")
        assert jobs.running(job.job_id).name == job.name
        assert [each.job_id for each in ask(jobs.scheduler.find(job.name))] == [job.job_id]
        assert ask(jobs.scheduler.find(f"contract.{uuid.uuid4().hex}-1")) == []
        assert jobs.recorded(job.job_id, gone_s=3600.0) == {}

    def test_an_ended_job_is_gone_from_the_list_and_still_found(self, jobs: Jobs) -> None:
        """If it were not found, it would be submitted again."""
        job = jobs.submit("true")
        jobs.ended(job.job_id)
        assert job.job_id not in jobs.live()
        assert [each.job_id for each in ask(jobs.scheduler.find(job.name))] == [job.job_id]

    def test_a_fresh_instance_gives_the_same_answers(self, jobs: Jobs) -> None:
        """Nothing is remembered between questions: each command has its own instance."""
        job = jobs.submit("exit 7")
        status = jobs.ended(job.job_id)
        scheduler = jobs.scheduler
        fresh = type(scheduler)(scheduler.name, scheduler.options)
        assert ask(fresh.accounting({job.job_id: 0.0})) == {job.job_id: status}
        assert ask(fresh.find(job.name)) == ask(scheduler.find(job.name))

    def test_a_cancelled_job_ends_with_its_descendants(self, jobs: Jobs) -> None:
        """The state of the job is CANCELLED, and its descendant processes end."""
        job_id = jobs.submit(BEATS).job_id
        beat = jobs.directory / "beat"
        jobs.wait(beat.exists, "the job has begun")
        ask(jobs.scheduler.cancel([job_id]))
        assert jobs.ended(job_id).state is State.CANCELLED

        def is_still() -> bool:
            before = beat.stat().st_mtime_ns
            time.sleep(0.5)
            return beat.stat().st_mtime_ns == before

        jobs.wait(is_still, "its descendants have ended")

    def test_cancelling_a_job_that_has_ended_is_no_error(self, jobs: Jobs) -> None:
        """A job may end by itself while it is being cancelled."""
        job_id = jobs.submit("true").job_id
        status = jobs.ended(job_id)
        ask(jobs.scheduler.cancel([job_id]))
        assert jobs.ended(job_id) == status

    @pytest.mark.usefixtures("blocker")
    def test_a_job_cancelled_before_it_starts_never_starts(self, jobs: Jobs) -> None:
        """The cancellation is recorded, or follows from other knowledge of the batch system."""
        job_id = jobs.submit("touch started").job_id
        assert jobs.live()[job_id].state is State.PENDING
        ask(jobs.scheduler.cancel([job_id]))
        assert jobs.ended(job_id).state is State.CANCELLED
        assert not (jobs.directory / "started").exists()

    def test_the_tasks_of_an_array_are_jobs(self, jobs: Jobs) -> None:
        """Tasks are listed, found, cancelled and recorded one by one."""
        if (form := jobs.scheduler.arrays) is None:
            request, script = jobs.prepare("true", {})
            with pytest.raises(RequestError):
                jobs.scheduler.submit(request, script, 3)
            return
        commands = f'case "${form.variable}" in 3) sleep 600 ;; esac; exit ${form.variable}'
        array = jobs.submit(commands, tasks=3)
        tasks = [form.job_id(array.job_id, number) for number in (1, 2, 3)]
        assert [form.array_of(task) for task in tasks] == [array.job_id] * 3
        for number, task in enumerate(tasks[:2], 1):
            assert jobs.ended(task).exit_code == number
        jobs.await_listed({*tasks[2:]})
        found = {status.job_id for status in ask(jobs.scheduler.find(array.name))}
        assert found >= {tasks[2]}
        assert jobs.recorded(*tasks).keys() == set(tasks[:2])
        ask(jobs.scheduler.cancel(tasks[2:]))
        assert jobs.ended(tasks[2]).state is State.CANCELLED
        assert jobs.recorded(*tasks).keys() == set(tasks)

    def test_the_tasks_of_an_array_wait_one_by_one(self, jobs: Jobs, blocker: str) -> None:
        """A waiting task can be cancelled, and the others are still listed and found."""
        if (form := jobs.scheduler.arrays) is None:
            pytest.skip("there are no arrays")
        array = jobs.submit("true", tasks=40)
        tasks = {form.job_id(array.job_id, number) for number in range(1, 41)}
        gone = form.job_id(array.job_id, 7)
        ask(jobs.scheduler.cancel([gone]))
        left = tasks - {gone}
        jobs.await_listed(left | {blocker})
        found = {status.job_id for status in ask(jobs.scheduler.find(array.name))}
        assert found - {gone} == left

    def test_the_job_sees_no_variable_of_the_submitting_process(
        self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The environment of a job must not depend on its submitter."""
        monkeypatch.setenv("PYTHONPATH", "/secret")
        monkeypatch.setenv("MY_SECRET", "secret")
        jobs.ended(jobs.submit("env").job_id)
        assert "secret" not in (jobs.directory / "out").read_text().lower()

    def test_the_limits_are_answered(self, jobs: Jobs) -> None:
        """A batch system without arrays needs no limit on their size."""
        told = jobs.scheduler.limits()
        limits = told if isinstance(told, Limits) else ask(told)
        for limit in (limits.array_size, limits.submitted_jobs):
            assert limit is None or limit >= 0

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(status=None, error="no answer"),
            Reply(status=1, output="[]"),
            Reply(status=0, output="[{}]"),
        ],
    )
    def test_a_reply_that_is_failed_or_not_understood_is_no_answer(
        self, jobs: Jobs, reply: Reply
    ) -> None:
        """Nothing is then known about jobs."""
        scheduler = jobs.scheduler
        for question in (
            scheduler.states(), scheduler.find("t"), scheduler.accounting({"1": 3600.0}),
        ):  # fmt: skip
            with pytest.raises(UnreachableError):
                question.read(reply)
        with pytest.raises(UnreachableError):
            scheduler.cancel(["1"]).read(Reply(status=None, error="no answer"))

    @pytest.mark.parametrize(
        "reply",
        [Reply(status=None, error="timeout"), Reply(status=0, output=""), Reply(status=-9)],
    )
    def test_a_submission_without_an_answer_is_unknown(self, jobs: Jobs, reply: Reply) -> None:
        """Such a submission is neither accepted nor refused."""
        answer = jobs.scheduler.submit(*jobs.prepare("true", {})).read(reply)
        assert isinstance(answer, Unknown), answer
