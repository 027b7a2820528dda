"""Rules of exactly one submission, with a batch system that can be made to misbehave."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import NOT_FOUND, UNANSWERED, WAITING, Attempt
from zwrap.calls import acting
from zwrap.calls.command import run
from zwrap.errors import (
    ClusterFullError,
    ConfigurationError,
    RejectedError,
    TemporaryError,
    UnknownOutcomeError,
    UnreachableError,
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
from zwrap.submission.lookup import FRESH_S, Lookup
from zwrap.submission.outcomes import Outcome
from zwrap.submission.pending import PendingJob
from zwrap.submission.quota import COUNTED_S, Quota
from zwrap.submission.submit import submit_all

from .clock import ManualClock


class Moody:
    """A batch system that answers as it is told, and remembers what it really took."""

    settle_s = 0.2
    arrays = ArrayForm("_", "TASK")
    concurrency = 4
    options = Options(timeout_s=30)

    def __init__(self) -> None:
        self.answers: list[Submission | BaseException] = []
        self.taken: list[str] = []
        self.reachable = True
        self.takes_before_failing = True

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        def read(reply: object) -> Submission:
            answer = self.answers.pop(0) if self.answers else Accepted(str(len(self.taken) + 1))
            if isinstance(answer, Accepted) or self.takes_before_failing:
                self.taken.append(request.token)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return Question(NOTHING, read)

    def find(self, name: str) -> Question[list[JobStatus]]:
        def read(reply: object) -> list[JobStatus]:
            if not self.reachable:
                raise UnreachableError("down")
            return [
                JobStatus(job_id=str(number), name=f"n.{taken}", state=State.PENDING)
                for number, taken in enumerate(self.taken, 1)
                if f"n.{taken}" == name
            ]

        return Question(NOTHING, read)


NOTHING = Command(argv=["true"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    opened = Ledger.in_file(tmp_path / "ledger.sqlite")
    monkeypatch.setattr(opened, "now", clock)
    yield opened
    opened.close()


def submitted(ledger: Ledger, system: Any, token: str = "t-1", digest: str | None = None) -> str:
    attempt = Attempt(
        token=token, recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d",
        digest=digest,
    )  # fmt: skip
    request = JobRequest(
        cluster="c",
        job_name="n",
        token=token,
        working_directory=Path("/"),
        job_directory=Path("/d"),
        commands="",
        standard_output=Path("/o"),
        standard_error=Path("/e"),
    )
    outcomes: list[tuple[str, Outcome]] = []
    job = PendingJob(request, Path("/script"), attempt)
    submit_all(ledger, system, [job], outcomes.extend)
    [(_, outcome)] = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_submitting_again_gives_the_same_job(ledger: Ledger) -> None:
    system = Moody()
    assert submitted(ledger, system) == submitted(ledger, system) == "1"
    assert system.taken == ["t-1"]


def test_another_attempt_is_another_job(ledger: Ledger) -> None:
    system = Moody()
    assert [submitted(ledger, system, token) for token in ("t-1", "t-2")] == ["1", "2"]


@pytest.mark.parametrize("former", [True, False])
def test_of_two_contents_as_one_later_attempt_the_second_is_handled_again(
    ledger: Ledger, former: bool
) -> None:
    """Two Submitters may recognise them before either of them has written its row."""
    system = Moody()
    submitted(ledger, system, "t-2", "first")
    with pytest.raises(TemporaryError, match="another content as t-2"):
        submitted(ledger, system, "t-2", "second")
    assert system.taken == ["t-2"]
    assert submitted(ledger, system, "t-2", "first") == "1"
    submitted(ledger, system, "t-1", None if former else "first")
    assert submitted(ledger, system, "t-1", "edited") == "2", "a first attempt may be edited"


def test_a_refusal_is_permanent_until_a_person_mends_the_cause_and_tries_again(
    ledger: Ledger,
) -> None:
    system = Moody()
    system.takes_before_failing = False
    system.answers = [Rejected("bad partition"), Rejected("bad account")]
    for reason in ("bad partition", "bad account"):
        with pytest.raises(RejectedError, match=reason):
            submitted(ledger, system)
        row = ledger.get("t-1")
        assert row
        assert (row.state, row.reason) == ("rejected", reason)
    assert system.taken == []
    assert submitted(ledger, system) == submitted(ledger, system) == "1"
    assert system.taken == ["t-1"]


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("answer", [Unknown("timeout"), KeyboardInterrupt()], ids=["?", "crash"])
def test_after_an_unknown_outcome_the_job_is_looked_up_before_anything_else(
    ledger: Ledger, clock: ManualClock, answer: Any, taken: bool
) -> None:
    system = Moody()
    system.takes_before_failing = taken
    system.answers = [answer]
    with pytest.raises((UnknownOutcomeError, KeyboardInterrupt)):
        submitted(ledger, system)
    with pytest.raises(UnknownOutcomeError, match="may still be under way") as caught:
        submitted(ledger, system)
    clock.move(caught.value.retry_after_s or 0)
    if not taken:
        with pytest.raises(
            UnknownOutcomeError, match="was found; it is looked for once more"
        ) as caught:
            submitted(ledger, system)
        clock.move(caught.value.retry_after_s or 0)
    assert submitted(ledger, system) == "1"
    assert system.taken == ["t-1"]


def test_a_job_that_appears_after_it_was_missing_is_not_submitted_again(
    ledger: Ledger, clock: ManualClock
) -> None:
    """A batch system that hung may answer a question before it acts on what came earlier."""
    system = Moody()
    system.takes_before_failing = False
    system.answers = [Unknown("timeout")]
    with pytest.raises(UnknownOutcomeError):
        submitted(ledger, system)
    clock.move(system.settle_s)
    with pytest.raises(UnknownOutcomeError, match="looked for once more"):
        submitted(ledger, system)
    with pytest.raises(UnknownOutcomeError, match="may still be under way"):
        submitted(ledger, system)  # too soon after that
    system.taken.append("t-1")
    clock.move(system.settle_s)
    assert submitted(ledger, system) == "1"
    assert system.taken == ["t-1"]


def test_each_new_try_is_looked_for_twice(ledger: Ledger, clock: ManualClock) -> None:
    system = Moody()
    system.takes_before_failing = False
    system.answers = [Unknown("timeout"), Unknown("timeout")]
    said: list[str] = []
    for _ in range(5):
        with contextlib.suppress(UnknownOutcomeError):
            said.append(submitted(ledger, system))
        row = ledger.get("t-1")
        assert row
        said.append(row.state)
        clock.move(system.settle_s)
    assert said == [UNANSWERED, NOT_FOUND, UNANSWERED, NOT_FOUND, "1", "submitted"]


def test_the_wait_is_counted_from_the_end_of_a_call(ledger: Ledger, clock: ManualClock) -> None:
    """A call may take its whole time limit, and reach the batch system at its end."""
    system = Moody()

    def slow(reply: object) -> Submission:
        clock.move(30)
        return Unknown("timeout")

    system.submit = lambda *_: Question(NOTHING, slow)  # type: ignore[assignment]
    with pytest.raises(UnknownOutcomeError):
        submitted(ledger, system)
    with pytest.raises(UnknownOutcomeError, match="may still be under way") as caught:
        submitted(ledger, system)
    assert caught.value.retry_after_s == pytest.approx(system.settle_s, abs=0.1)


@pytest.mark.parametrize(
    ("live", "ended_s"),
    [
        (True, 3.0),  # it may be another one that has ended
        (False, None),  # none is known to have ended
        (False, -1.0),  # one that ended before this try
        (False, 100.0),  # it is known late, but by then each call has ended
    ],
)
def test_after_a_crash_all_calls_must_have_ended_and_what_they_asked_for_must_settle(
    ledger: Ledger,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    live: bool,
    ended_s: float | None,
) -> None:
    system = Moody()
    began = clock()
    system.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        submitted(ledger, system)
    ended = 0.0 if ended_s is None else began + ended_s
    monkeypatch.setattr(acting, "others", lambda now: acting.Others(live, ended))
    with pytest.raises(UnknownOutcomeError, match="may still be under way") as caught:
        submitted(ledger, system)
    calls_s = FRESH_S + 2 * 30 + acting.LATER_S
    assert caught.value.retry_after_s == pytest.approx(calls_s + system.settle_s, abs=0.1)
    clock.move(caught.value.retry_after_s)
    assert submitted(ledger, system) == "1"


def test_once_its_submitter_is_known_to_be_dead_a_job_is_looked_for_soon(
    ledger: Ledger, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Moody()
    system.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        submitted(ledger, system)
    clock.move(5)
    dead = acting.Others(False, clock())
    monkeypatch.setattr(acting, "others", lambda now: dead)
    with pytest.raises(UnknownOutcomeError, match="may still be under way") as caught:
        submitted(ledger, system)
    assert caught.value.retry_after_s == pytest.approx(system.settle_s, abs=0.1)
    clock.move(caught.value.retry_after_s or 0)
    assert submitted(ledger, system) == "1"


def test_leftovers_that_cannot_be_ended_are_told_once_for_all_jobs(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def others(now: float) -> acting.Others:
        asked.append(now)
        raise UnknownOutcomeError("process 7 cannot be ended")

    monkeypatch.setattr(acting, "others", others)
    lookup = Lookup(ledger, Moody())  # type: ignore[arg-type]
    attempt = Attempt(
        token="t-1", recipe_id=None, step=None, cluster="c", job_name="n", job_directory="/d"
    )
    [row] = ledger.reserve([attempt])
    for _ in range(3):
        with pytest.raises(UnknownOutcomeError, match="process 7 cannot be ended"):
            lookup.job_id(row)
    assert len(asked) == 1


def test_of_two_that_look_only_the_rows_that_are_as_they_were_read_are_noted(
    ledger: Ledger, clock: ManualClock
) -> None:
    attempt = Attempt(
        token="t-1", recipe_id=None, step=None, cluster="c", job_name="n", job_directory="/d"
    )
    [row] = ledger.reserve([attempt])
    clock.move(1)
    [again] = ledger.reserve([row])
    ledger.note_not_found([row])
    assert ledger.get("t-1") == again, "another process has tried again meanwhile"


def test_while_the_batch_system_cannot_be_asked_no_job_is_submitted(
    ledger: Ledger, clock: ManualClock
) -> None:
    system = Moody()
    system.answers = [Unknown("timeout")]
    with pytest.raises(UnknownOutcomeError):
        submitted(ledger, system)
    system.reachable = False
    clock.move(system.settle_s)
    with pytest.raises(UnreachableError):
        submitted(ledger, system)
    assert system.taken == ["t-1"]


def test_of_two_submitters_only_one_tries_again(ledger: Ledger, clock: ManualClock) -> None:
    attempt = Attempt(
        token="t-1", recipe_id=None, step=None, cluster="c", job_name="n", job_directory="/d"
    )
    [row] = ledger.reserve([attempt])
    assert ledger.reserve([attempt]) == []
    clock.move(1)
    [again] = ledger.reserve([row])
    assert ledger.reserve([row]) == []
    assert ledger.known(["t-1", "t-2"]) == {"t-1": again}


def test_the_ledger_outlives_its_process(ledger: Ledger, tmp_path: Path) -> None:
    submitted(ledger, Moody())
    [row] = Ledger.in_file(tmp_path / "ledger.sqlite").queries.newest(10)
    assert (row.token, row.job_id, row.state, row.recipe_id) == ("t-1", "1", "submitted", "r")


def test_a_ledger_that_cannot_be_used_now_is_a_temporary_failure(
    ledger: Ledger, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("drop table attempts")
    with pytest.raises(TemporaryError, match=r"ledger\.sqlite cannot be used: no such table"):
        submitted(ledger, Moody())


def test_a_ledger_on_a_network_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwrap.attempt.ledger.place.filesystem_of", lambda path: "nfs4")
    with pytest.raises(ConfigurationError, match=r"network filesystem \(nfs4\).*ZWRAP_STATE"):
        Ledger.in_file(tmp_path / "ledger.sqlite")


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; wait"
    reply = run(Command(argv=["/bin/sh", "-c", script], timeout_s=0.5))
    assert reply.status is None
    assert "no answer from /bin/sh within 0.5 s" in reply.error
    pid = (tmp_path / "pid").read_text().strip()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_a_command_that_is_not_there_is_no_answer() -> None:
    reply = run(Command(argv=["/nowhere/sbatch"]))
    assert (reply.status, reply.error) == (
        None,
        "/nowhere/sbatch cannot be run: No such file or directory",
    )


def test_a_command_gets_no_input_and_its_answer_is_returned() -> None:
    code = "import sys; print(repr(sys.stdin.read())); sys.exit(4)"
    reply = run(Command(argv=[sys.executable, "-P", "-c", code]))
    assert (reply.status, reply.output) == (4, "''\n")


def test_what_waits_for_room_is_submitted_without_a_look_up(ledger: Ledger) -> None:
    """Nothing was taken, so nothing has to settle and nobody has to be asked."""
    system = Moody()
    system.takes_before_failing = False
    system.answers = [Busy("job submit limit")]
    with pytest.raises(ClusterFullError, match="takes no such job now: job submit limit"):
        submitted(ledger, system)
    row = ledger.get("t-1")
    assert row
    assert (row.state, row.reason) == (WAITING, "job submit limit")
    system.reachable = False
    assert submitted(ledger, system) == "1"
    assert system.taken == ["t-1"]


class Counted(Moody):
    """A batch system with a number of live jobs."""

    live = 3
    asked = 0

    def states(self) -> Question[dict[str, JobStatus]]:
        def read(reply: object) -> dict[str, JobStatus]:
            self.asked += 1
            return dict.fromkeys(map(str, range(self.live)))  # type: ignore[arg-type]

        return Question(NOTHING, read)


def test_a_limit_counts_what_the_batch_system_says_and_what_came_since() -> None:
    system, clock = Counted(), ManualClock()
    limit = Quota("c", system, 5, clock)  # type: ignore[arg-type]
    assert [limit.admit(1), limit.admit(7)] == [1, 1]
    with pytest.raises(ClusterFullError, match="Cluster 'c' has 5 jobs, and 'max_jobs' is 5"):
        limit.admit(1)
    assert system.asked == 1, "not for each job"
    clock.move(COUNTED_S)
    assert limit.admit(7) == 2
    assert system.asked == 2, "a count that is old is made anew"
    assert Quota("c", system, None).admit(7) == 7  # type: ignore[arg-type]
    assert system.asked == 2, "nobody asks without a limit"
