"""Jobs that wait together go in together: each once, each with its own fate."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.errors import (
    ClusterFullError,
    RejectedError,
    RequestError,
    UnknownOutcomeError,
    UnreachableError,
    ZwrapError,
)
from zwrap.job import JobRequest, JobStatus, State
from zwrap.scheduler import (
    Accepted,
    ArrayForm,
    Busy,
    Command,
    Options,
    Question,
    Rejected,
    Submission,
    Unknown,
)
from zwrap.submission.arrays import array_request, shape_of, write_script
from zwrap.submission.handover import FRESH_S
from zwrap.submission.pending import PendingJob
from zwrap.submission.submit import everything, submit_all
from zwrap.submission.template import Templates

from .clock import ManualClock

NOTHING = Command(argv=["true"])
HEAD = "#!/bin/bash\n#SBATCH --ntasks=1\n# a remark\n\n"


FORM = ArrayForm("_", "TASK", prefix="#SBATCH")


class System:
    """A batch system with room for so many jobs, which remembers what it took and was asked."""

    settle_s = 0.2
    arrays: ArrayForm | None = FORM
    concurrency = 4
    options = Options(timeout_s=30)

    def __init__(self) -> None:
        self.room = 100000
        self.says: list[Submission | Exception] = []
        self.takes_anyway = False
        self.refuses_arrays = False
        self.asked: list[int | None] = []
        self.taken: list[tuple[str, int | None]] = []

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        if "inexpressible" in request.job_name:
            raise RequestError("it cannot be expressed")

        def read(reply: object) -> Submission:
            self.asked.append(tasks)
            said = self.says.pop(0) if self.says else None
            if said is None and self.refuses_arrays and tasks:
                said = Rejected("invalid array")
            if said is None and (tasks or 1) > self.room:
                said = Busy("no room")
            if said is None or self.takes_anyway:
                self.room -= tasks or 1
                self.taken.append((request.full_name, tasks))
            if isinstance(said, Exception):
                raise said
            return said or Accepted(str(len(self.taken)))

        return Question(NOTHING, read)

    def find(self, name: str) -> Question[list[JobStatus]]:
        def read(reply: object) -> list[JobStatus]:
            self.asked.append(-1)
            return [
                JobStatus(job_id=f"{number}_2" if tasks else str(number), name=name,
                          state=State.PENDING)
                for number, (taken, tasks) in enumerate(self.taken, 1)
                if taken == name
            ]  # fmt: skip

        return Question(NOTHING, read)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.in_file(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def system() -> System:
    return System()


def job(directory: Path, token: str, text: str = HEAD, **values: Any) -> PendingJob:
    place = directory / token
    place.mkdir(exist_ok=True)
    script = place / "script"
    script.write_text(text)
    given = {
        "cluster": "c", "job_name": "n", "token": token, "working_directory": place,
        "job_directory": place, "commands": "", "standard_output": place / "out",
        "standard_error": place / "err", **values,
    }  # fmt: skip
    request = JobRequest(**given)
    attempt = Attempt(
        token=token, recipe_id="r", step=1, cluster="c", job_name=request.job_name,
        job_directory=str(place),
    )  # fmt: skip
    return PendingJob(request, script, attempt)


def alike(directory: Path, count: int, **values: Any) -> list[PendingJob]:
    return [job(directory, f"t{number}", **values) for number in range(1, count + 1)]


def submit(
    ledger: Ledger,
    system: Any,
    jobs: list[PendingJob],
    most: int | None = 100,
    admit: Any = everything,
) -> list[Any]:
    """Submit jobs; return what was reported of each."""
    told: dict[str, Any] = {}

    def on_outcomes(outcomes: Any) -> None:
        assert not told.keys() & dict(outcomes).keys()
        told.update(outcomes)

    submit_all(ledger, system, jobs, on_outcomes, admit, most)
    assert len(told) == len(jobs)
    return [told[job.attempt.token] for job in jobs]


def test_equal_jobs_are_tasks_of_one_array(ledger: Ledger, system: System, tmp_path: Path) -> None:
    jobs = alike(tmp_path, 5)
    assert submit(ledger, system, jobs) == ["1_1", "1_2", "1_3", "1_4", "1_5"]
    assert system.asked == [5]
    [(name, _)] = system.taken
    rows = ledger.queries.newest(10_000)
    assert {row.full_name for row in rows} == {name}
    assert [row.task for row in rows] == [1, 2, 3, 4, 5]
    assert {row.state for row in rows} == {"submitted"}
    assert submit(ledger, system, jobs[:2]) == ["1_1", "1_2"]
    assert system.asked == [5], "nobody was asked again"


def test_an_array_is_not_larger_than_may_be(ledger: Ledger, system: System, tmp_path: Path) -> None:
    outcomes = submit(ledger, system, alike(tmp_path, 5), most=2)
    assert outcomes == ["1_1", "1_2", "2_1", "2_2", "3"]
    assert system.asked == [2, 2, None]


def test_where_the_script_of_an_array_cannot_be_written_each_is_a_job(
    ledger: Ledger, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> Path:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("zwrap.submission.arrays.write_script", full)
    outcomes = submit(ledger, system, alike(tmp_path, 5))
    assert sorted(outcomes) == ["1", "2", "3", "4", "5"]
    assert [row.task for row in ledger.queries.newest(10_000)] == [None] * 5


def test_an_array_whose_script_cannot_be_written_is_alone_with_that(
    ledger: Ledger, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([OSError(errno.EDQUOT, "Disk quota exceeded")])

    def full_once(*given: Any) -> Path:
        if fault := next(faults, None):
            raise fault
        return write_script(*given)

    monkeypatch.setattr("zwrap.submission.arrays.write_script", full_once)
    submit(ledger, system, alike(tmp_path, 4), most=2)
    assert system.asked == [2, None, None]


def test_a_job_that_another_has_begun_is_left_to_it(
    ledger: Ledger, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks for the attempt before it writes the intent, and another came in between."""
    jobs = alike(tmp_path, 2)
    usual = Ledger.reserve

    def after_another(self: Ledger, attempts: Any, *others: Any) -> Any:
        monkeypatch.setattr(Ledger, "reserve", usual)
        usual(ledger, [jobs[0].attempt])
        return usual(self, attempts, *others)

    monkeypatch.setattr(Ledger, "reserve", after_another)
    outcomes = submit(ledger, system, jobs, most=None)
    assert outcomes[1] == "1"
    assert isinstance(outcomes[0], UnknownOutcomeError)


@pytest.mark.parametrize("most", [None, 0, 1])
def test_where_there_are_no_arrays_each_is_a_job(
    ledger: Ledger, system: System, tmp_path: Path, most: int | None
) -> None:
    outcomes = submit(ledger, system, alike(tmp_path, 5), most)
    assert sorted(outcomes) == ["1", "2", "3", "4", "5"]
    assert system.asked == [None] * 5


def test_what_differs_is_another_job(ledger: Ledger, system: System, tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "a"),
        job(tmp_path, "b", HEAD.replace("=1", "=2")),
        job(tmp_path, "c", HEAD + "commands of its own\n#SBATCH --ntasks=7"),
        job(tmp_path, "d", job_name="other"),
        job(tmp_path, "e", array=False),
        job(tmp_path, "f", HEAD.replace("bash", "sh")),
        job(tmp_path, "h", job_name="inexpressible"),
    ]
    a, b, c, *others, last = submit(ledger, system, jobs)
    assert (a, c) == ("1_1", "1_2")
    assert isinstance(last, RequestError)
    assert len({b, *others}) == 4
    assert not any("_" in each for each in (b, *others))


def test_where_directives_count_anywhere_one_after_the_first_command_is_a_job_of_its_own(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    system.arrays = ArrayForm("_", "TASK", prefix="#$", anywhere=True)
    head = HEAD.replace("#SBATCH --ntasks=1", "#$ -q short.q")
    jobs = [
        job(tmp_path, "a", head + "true"),
        job(tmp_path, "b", head + "true\n#$ -q long.q"),
        job(tmp_path, "c", head + "false\n#SBATCH --ntasks=2"),
        job(tmp_path, "d", head.replace("short", "long") + "true"),
    ]
    a, b, c, d = submit(ledger, system, jobs)
    assert (a, c) == ("1_1", "1_2")
    assert "_" not in b + d


def test_where_directives_cannot_be_told_each_is_a_job(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    """A plug-in that was written before there was a prefix says nothing of them."""
    system.arrays = ArrayForm("_", "TASK")
    assert sorted(submit(ledger, system, alike(tmp_path, 3))) == ["1", "2", "3"]
    assert system.asked == [None] * 3


def test_the_largest_array_that_there_is_room_for(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    system.room = 21
    jobs = alike(tmp_path, 64)
    outcomes = submit(ledger, system, jobs)
    taken = [each for each in outcomes if isinstance(each, str)]
    full = [each for each in outcomes if isinstance(each, ClusterFullError)]
    assert (len(taken), len(full)) == (21, 43)
    assert len(set(taken)) == 21
    assert len(system.asked) < 20, "it was not asked for each"
    assert "takes no such job now: no room" in str(full[0])
    assert [row.state for row in ledger.queries.newest(10_000)].count("waiting") == 43
    system.room = 1000
    again = submit(ledger, system, jobs)
    assert len(set(again)) == 64
    assert -1 not in system.asked, "of what waits no job exists, and nothing is looked up"


def test_no_more_are_submitted_than_are_admitted(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    left = [3]

    def admit(count: int) -> int:
        if not left[0]:
            raise ClusterFullError("'max_jobs' is 3")
        admitted = min(count, left[0])
        left[0] -= admitted
        return admitted

    outcomes = submit(ledger, system, alike(tmp_path, 50), 10, admit)
    assert outcomes[:3] == ["1_1", "1_2", "1_3"]
    assert all(isinstance(each, ClusterFullError) for each in outcomes[3:])
    assert {row.state for row in ledger.queries.newest(10_000)} == {"submitted", "waiting"}


def test_a_job_is_told_of_before_all_are_there(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    jobs = [job(tmp_path, f"d{n}", HEAD.replace("=1", f"={n}")) for n in range(100)]
    asked: list[int] = []
    submit_all(ledger, system, jobs, lambda _: asked.append(len(system.asked)))
    assert asked[0] <= 64


def test_a_message_that_came_twice_is_one_job(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    told: list[Any] = []
    submit_all(ledger, system, alike(tmp_path, 1) * 2, told.extend)
    assert told == [("t1", "1")]
    assert system.asked == [None]


def test_a_refusal_is_that_of_each(ledger: Ledger, system: System, tmp_path: Path) -> None:
    """A request that all make was refused for an array and for one of them."""
    system.says = [Rejected("bad partition"), Rejected("bad partition")]
    outcomes = submit(ledger, system, alike(tmp_path, 5))
    assert [type(each) for each in outcomes] == [RejectedError] * 5
    assert system.asked == [5, None]
    assert {(row.state, row.reason) for row in ledger.queries.newest(10_000)} == {
        ("rejected", "bad partition")
    }


def test_where_an_array_is_refused_and_a_job_is_not_they_are_jobs(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    system.refuses_arrays = True
    assert sorted(submit(ledger, system, alike(tmp_path, 5))) == ["1", "2", "3", "4", "5"]
    assert system.asked == [5, *[None] * 5]
    assert {row.task for row in ledger.queries.newest(10_000)} == {None}


@pytest.mark.parametrize("answer", [Unknown("timeout"), UnreachableError("no library")], ids=str)
@pytest.mark.parametrize("taken", [True, False])
def test_after_an_unknown_outcome_the_array_is_looked_up(
    ledger: Ledger,
    system: System,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    taken: bool,
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(ledger, "now", clock)
    system.says, system.takes_anyway = [answer], taken
    jobs = alike(tmp_path, 4)
    first = submit(ledger, system, jobs)
    assert all(isinstance(each, (UnknownOutcomeError, UnreachableError)) for each in first)
    early = submit(ledger, system, jobs[:2])
    assert all("may still be under way" in str(each) for each in early)
    assert system.asked == [4]
    system.takes_anyway = False
    clock.move(system.settle_s)
    # They come again one by one, and some together.
    outcomes = [*submit(ledger, system, jobs[3:]), *submit(ledger, system, jobs[:3])]
    if not taken:
        assert all("looked for once more" in str(each) for each in outcomes)
        clock.move(system.settle_s)
        outcomes = [*submit(ledger, system, jobs[3:]), *submit(ledger, system, jobs[:3])]
    if taken:
        assert outcomes == ["1_4", "1_1", "1_2", "1_3"]
        assert system.asked == [4, -1, -1], "one look-up for all of an array"
        assert {row.job_id for row in ledger.queries.newest(10_000)} == set(outcomes)
        assert {row.state for row in ledger.queries.newest(10_000)} == {"submitted"}
    else:
        assert outcomes == ["1", "2_1", "2_2", "2_3"]
    assert len(system.taken) == (1 if taken else 2)


def test_after_an_unknown_outcome_no_further_question_is_asked(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    """A controller that hangs is not asked for each job with the full time limit."""
    system.says = [Unknown("timeout")]
    jobs = [job(tmp_path, f"d{n}", HEAD.replace("=1", f"={n}")) for n in range(100)]
    outcomes = submit(ledger, system, jobs)
    asked = len(system.asked)
    assert asked <= 4
    assert sum(isinstance(each, UnknownOutcomeError) for each in outcomes) == 1
    others = [each for each in outcomes if isinstance(each, UnreachableError)]
    assert len(others) + asked == 100
    assert "did not answer for a job before this one: timeout" in str(others[0])
    assert [row.state for row in ledger.queries.newest(10_000)].count("waiting") == len(others)


def test_an_intent_that_is_old_is_written_anew_before_its_job_is_submitted(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    """The second job waits for its turn longer than an intent stays fresh."""
    clock = ManualClock()
    reserved: list[list[str]] = []
    reserve, submit_job = ledger.reserve, system.submit

    def noted(attempts: Any, *others: Any) -> Any:
        reserved.append([each.token for each in attempts])
        return reserve(attempts, *others)

    def slow(*args: Any) -> Question[Submission]:
        question = submit_job(*args)

        def read(reply: Any) -> Any:
            clock.now += FRESH_S + 1
            return question.read(reply)

        return Question(question.call, read)

    ledger.reserve = noted  # type: ignore[method-assign]
    system.submit = slow  # type: ignore[method-assign]
    system.concurrency = 1
    told: list[Any] = []
    submit_all(ledger, system, alike(tmp_path, 2), told.extend, clock=clock)
    assert sorted(dict(told).values()) == ["1", "2"]
    assert [*filter(None, reserved)] == [["t1", "t2"], ["t2"]]


def test_no_job_is_submitted_whose_intent_was_written_too_slowly(
    ledger: Ledger, system: System, tmp_path: Path
) -> None:
    """Others would look for the job before its call has begun."""
    clock = ManualClock()
    reserve = ledger.reserve

    def slow(attempts: Any, *others: Any) -> Any:
        written = reserve(attempts, *others)
        clock.now += FRESH_S + 1
        return written

    ledger.reserve = slow  # type: ignore[method-assign]
    told: list[Any] = []
    submit_all(ledger, system, alike(tmp_path, 1), told.extend, clock=clock)
    [(_, outcome)] = told
    assert isinstance(outcome, UnknownOutcomeError)
    assert "the ledger is slow" in str(outcome)
    assert system.asked == []


def test_what_another_submitter_took_is_left_to_it(
    ledger: Ledger, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the other one came between the reading of the ledger and the intents."""
    jobs = alike(tmp_path, 4)
    ledger.reserve([jobs[1].attempt])
    monkeypatch.setattr(ledger, "known", lambda tokens: {})
    first, second, *others = submit(ledger, system, jobs)
    assert [first, *others] == ["1_1", "1_2", "1_3"]
    assert "Another submitter is about to submit t2" in str(second)
    assert system.asked == [3]


def test_each_task_runs_the_script_of_its_own_job(tmp_path: Path) -> None:
    awkward = tmp_path / "it's $HOME; a `b`"
    awkward.mkdir()
    text = HEAD + 'echo "$0"; echo told >&2; exit 7\n'
    jobs = [job(awkward, "a", text), job(awkward, "b", text)]
    array = array_request([each.request for each in jobs])
    shape = shape_of(jobs[0].request, jobs[0].script.read_text(), FORM)
    assert shape
    script = write_script(array, shape, [each.request for each in jobs], "TASK")
    assert script.read_text().splitlines()[:2] == HEAD.splitlines()[:2]
    for number, status in (("2", 7), ("3", 100), ("", 100)):
        done = subprocess.run(["/bin/bash", str(script)], env={"TASK": number}, check=False)
        assert done.returncode == status
    second = jobs[1].request
    assert second.standard_output.read_text() == f"{jobs[1].script}\n"
    assert second.standard_error.read_text() == "told\n"
    assert not jobs[0].request.standard_output.exists()


def test_the_script_of_an_array_is_as_agreed() -> None:
    def request(name: str) -> JobRequest:
        place = Path("/data/it's here", name)
        return JobRequest(
            cluster="c", job_name="n", token=name, working_directory=place, job_directory=place,
            commands="", standard_output=place / "out", standard_error=place / "err",
        )  # fmt: skip

    script = Templates().render_array(
        "tok-array",
        interpreter="/bin/bash -l",
        directives=["#SBATCH --ntasks=1", "#SBATCH --comment='a b'"],
        jobs=[request("a"), request("b")],
        task="TASK",
    )
    golden = Path(__file__).parent / "golden" / "array.sh"
    assert script == golden.read_text(), f"rendered differently from {golden}"


def test_what_happens_to_one_directory_does_not_touch_the_others(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "a"), job(tmp_path, "b", HEAD + "exit 5")]
    array = array_request([each.request for each in jobs])
    shape = shape_of(jobs[0].request, jobs[0].script.read_text(), FORM)
    assert shape
    text = write_script(array, shape, [each.request for each in jobs], "TASK").read_text()
    subprocess.run(["rm", "-r", str(jobs[0].request.job_directory)], check=True)
    for number, status in (("1", 111), ("2", 5)):
        done = subprocess.run(["/bin/bash", "-c", text], env={"TASK": number}, check=False)
        assert done.returncode == status


def test_no_problem_of_the_ledger_is_hidden(ledger: Ledger, tmp_path: Path) -> None:
    def away(*args: Any) -> Any:
        raise ZwrapError("away")

    ledger.reserve = away  # type: ignore[method-assign]
    with pytest.raises(ZwrapError, match="away"):
        submit(ledger, System(), alike(tmp_path, 3))


@pytest.mark.parametrize(
    ("form", "array", "task"),
    [
        (ArrayForm("_", "T"), "12", "12_3"),
        (ArrayForm(".", "T"), "12", "12.3"),
        (ArrayForm("[", "T", end="]"), "12[].server", "12[3].server"),
        (ArrayForm("[", "T", end="]"), "12[].server.example.org", "12[3].server.example.org"),
        (ArrayForm("[", "T", end="]"), "12[]", "12[3]"),
    ],
)
def test_a_task_is_spelled_as_its_batch_system_does(form: ArrayForm, array: str, task: str) -> None:
    assert form.job_id(array, 3) == task
    assert form.array_of(task) == array
    assert form.array_of(array) == array
    assert form.array_of("77") == "77"
