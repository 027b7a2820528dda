"""What is shown of jobs, whatever they left, and whatever is known of them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import default_file
from zwrap.attempt.record import NOWHERE, SUBMITTED, Attempt
from zwrap.cli import jobs, zwrap
from zwrap.configuration.clusters import ClusterSettings
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError
from zwrap.job import State
from zwrap.monitor import states
from zwrap.monitor.again import check_ended
from zwrap.monitor.states import Answers, job_of
from zwrap.scheduler import Command, Question
from zwrap.submission.clusters import Cluster, Clusters

from .watched import Told, status


def attempt(number: int, **values: Any) -> Attempt:
    return Attempt(**{
        "token": f"t{number}-1", "recipe_id": "r", "step": 1, "cluster": "local", "job_name": "n",
        "job_directory": "/nowhere", "job_id": str(number), "state": SUBMITTED,
        "outcome": "failure", "cause": "it failed", **values,
    })  # fmt: skip


def given(*arguments: str) -> argparse.Namespace:
    """Return the options of `zwrap jobs`."""
    parser = argparse.ArgumentParser()
    jobs.declare(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    def odd(*_: object) -> None:
        raise KeyError("a fault of a site's own class")

    monkeypatch.setattr(states, "ask", odd)
    return Answers(Clusters(Configuration()))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"[" * 5000, b"\xff", b'{"token": 1}', b"{}", b"1" * 5000]
)
def test_a_verdict_that_cannot_be_read_is_none(
    tmp_path: Path, answers: Answers, content: bytes
) -> None:
    (tmp_path / "verdict.json").write_bytes(content)
    job = job_of(attempt(1, job_directory=str(tmp_path)), answers)
    assert (job.state, job.cause) == ("failure", "it failed")


def test_a_verdict_on_another_attempt_is_not_this_one_s(tmp_path: Path, answers: Answers) -> None:
    verdict = {"token": "u-1", "outcome": "success", "witness": "wrapper", "cause": "finished",
               "job_id": "1", "exit_status": 0}  # fmt: skip
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    assert job_of(attempt(1, job_directory=str(tmp_path)), answers).state == "failure"
    (tmp_path / "verdict.json").write_text(json.dumps({**verdict, "token": "t1-1"}))
    assert job_of(attempt(1, job_directory=str(tmp_path)), answers).state == "success"


def test_a_job_whose_state_cannot_be_told_hides_no_other(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    options = given("--json")
    with_ledger = Ledger.in_file(default_file())
    rows = [attempt(1), attempt(2, outcome=None), attempt(3, job_directory="/" + "x" * 300)]
    with_ledger.reserve(rows)
    for row in rows:
        with_ledger.record({
            row.token: {"state": SUBMITTED, "job_id": row.job_id, "outcome": row.outcome,
                        "created": 1e300},
        })  # fmt: skip
    with_ledger.close()
    assert jobs.run(Configuration(), options) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["job_id"] for each in told] == ["1", "2", "3"]
    assert [each["state"] for each in told] == ["failure", "not known", "failure"]
    assert {each["submitted"] for each in told} == {"?"}


def test_the_jobs_of_a_recipe_with_a_long_id_are_found(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_id = "2026-11-28/visit/" * 6
    with_ledger = Ledger.in_file(default_file())
    with_ledger.reserve([attempt(1), attempt(2, recipe_id=recipe_id)])
    with_ledger.close()
    options = given("--json", "--recipe", recipe_id)
    assert jobs.run(Configuration(), options) == 0
    assert [json.loads(line)["token"] for line in capsys.readouterr().out.splitlines()] == ["t2-1"]


def test_an_unforeseen_fault_is_told_in_the_row(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_verdict", lambda _: 1 // 0)
    job = job_of(attempt(1), answers)
    assert (job.state, job.cause[:36]) == ("not known", "it cannot be told: ZeroDivisionError")


class Shown:
    """A cluster, and what a fresh process shows of the job on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.system = Told()
        cluster = Cluster("local", ClusterSettings(kind="told"), self.system)  # type: ignore[arg-type]
        monkeypatch.setattr(Clusters, "get", lambda *_: cluster)

    def job(self, **values: Any) -> tuple[str, str]:
        row = attempt(1, outcome=None, cause=None, **values)
        job = job_of(row, Answers(Clusters(Configuration()), [row]))
        return job.state, job.cause


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


def test_a_fresh_process_shows_what_a_watcher_has_learned_of_a_missing_job(shown: Shown) -> None:
    assert shown.job() == ("gone", NOWHERE)
    assert shown.job(missing=5.0, seen_state="gone", seen_reason=NOWHERE) == ("gone", NOWHERE)
    heard = shown.job(missing=5.0, seen_state="running", seen_reason="its wrapper is heard")
    assert heard == ("running", "its wrapper is heard")
    assert shown.job(missing=5.0, ended=9.0, seen_state="lost", seen_reason=NOWHERE)[0] == "lost"


def test_a_fresh_process_shows_the_record_of_a_job_that_is_not_concluded(shown: Shown) -> None:
    shown.system.ended = {"1": status("1", State.CANCELLED, reason="it was deleted")}
    assert shown.job() == ("cancelled", "it was deleted")
    shown.system.reachable = False
    assert shown.job() == ("not known", "the cluster cannot be asked")


def test_a_fresh_process_finds_a_job_under_another_id(shown: Shown) -> None:
    shown.system.live = {"1+0": status("1+0", State.RUNNING, name="n.t1-1")}
    assert shown.job() == ("running", "")


def test_a_state_of_a_batch_system_that_is_not_known_is_shown_as_such(shown: Shown) -> None:
    reason = "its state is 'POWER_UP_NODE', which is not known here"
    shown.system.live = {"1": status("1", State.UNKNOWN, reason=reason)}
    assert shown.job() == ("unknown", reason)


def test_the_records_of_all_missing_jobs_are_one_question(shown: Shown) -> None:
    """How long each is missing, as the ledger keeps it, goes with it."""
    rows = [attempt(n, outcome=None, missing=time.time() - 60.0 * n) for n in range(5)]
    rows.append(attempt(7))
    asked: list[dict[str, float]] = []

    def accounting(gone_s: dict[str, float]) -> Any:
        asked.append(gone_s)
        return Question(Command(argv=["true"]), lambda _: {})

    shown.system.accounting = accounting  # type: ignore[method-assign]
    answers = Answers(Clusters(Configuration()), rows)
    for row in rows:
        job_of(row, answers)
    assert [{key: round(gone_s) for key, gone_s in each.items()} for each in asked] == [
        {"0": 0, "1": 60, "2": 120, "3": 180, "4": 240}
    ]


def test_a_job_that_a_watcher_hears_is_not_submitted_again(shown: Shown) -> None:
    row = attempt(1, outcome=None, missing=5.0, seen_state="running", seen_reason="it is heard")
    with pytest.raises(MessageError, match="Job 1 on cluster local is running; end it first"):
        check_ended(row, Answers(Clusters(Configuration()), [row]))


# -- pages -------------------------------------------------------------------------------------


def listed(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[dict[str, Any]], str]:
    """Return exit status, objects and complaints of `zwrap jobs --json`."""
    status = zwrap.main(["jobs", "--json", *arguments])
    shown = capsys.readouterr()
    return status, [json.loads(line) for line in shown.out.splitlines()], shown.err


@pytest.fixture
def many(shown: Shown, tmp_path: Path) -> Iterator[Ledger]:
    """Return the ledger of a site with 3000 jobs; every third is open, of which one is live."""
    ledger = Ledger.in_file(default_file())
    rows = [attempt(n, job_directory=str(tmp_path / str(n)), created=n + 1.0) for n in range(3000)]
    ledger.reserve(rows)
    ledger.record({
        row.token: {"state": SUBMITTED, "job_id": str(n),
                    "outcome": None if n % 3 == 0 else "failure"}
        for n, row in enumerate(rows)
    })  # fmt: skip
    shown.system.live = {"30": status("30", State.RUNNING, name="n.t30-1")}
    yield ledger
    ledger.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens of the attempts whose verdicts were looked for."""
    found: list[str] = []

    def note(row: Attempt) -> None:
        found.append(row.token)

    monkeypatch.setattr(states, "_verdict", note)
    return found


def test_only_the_verdicts_of_jobs_that_are_shown_are_opened(
    many: Ledger, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, jobs, _ = listed(capsys, "-n", "5")
    assert [each["token"] for each in jobs] == [f"t{n}-1" for n in range(2995, 3000)] == opened
    opened.clear()
    _, jobs, _ = listed(capsys, "-n", "5", "--recipe", "r", "--cluster", "local")
    assert len(jobs) == len(opened) == 5
    opened.clear()
    assert zwrap.main(["jobs", "17"]) == 0
    assert opened == ["t17-1"]


def test_jobs_in_a_state_are_found_beyond_the_first_page(
    many: Ledger, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, jobs, _ = listed(capsys, "--state", "running")
    assert [(each["token"], each["state"]) for each in jobs] == [("t30-1", "running")]
    _, jobs, _ = listed(capsys, "--state", "failure", "-n", "4")
    assert [each["token"] for each in jobs] == ["t2995-1", "t2996-1", "t2998-1", "t2999-1"]
    _, jobs, _ = listed(capsys, "--state", "gone", "-n", "3")
    assert [each["token"] for each in jobs] == ["t2991-1", "t2994-1", "t2997-1"]
    _, jobs, _ = listed(capsys, "--state", "gone", "-n", "2000")
    assert len(jobs) == 999


def test_no_verdict_of_a_live_job_is_opened_to_find_ended_ones(
    many: Ledger, opened: list[str], shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    shown.system.live = {
        str(n): status(str(n), State.RUNNING, name=f"n.t{n}-1") for n in range(0, 3000, 3)
    }
    listed(capsys, "--state", "failure", "-n", "4")
    assert sorted(opened) == ["t2995-1", "t2996-1", "t2998-1", "t2999-1"]


def test_a_job_that_is_named_has_to_fit_the_other_options(
    many: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zwrap.main(["jobs", "31", "--state", "success"]) == 0
    assert capsys.readouterr().out == "No jobs.\n"
    for options in (["--state", "success"], ["--cluster", "other"], ["--since", "1h"]):
        assert listed(capsys, "31", *options)[:2] == (0, [])
    _, [job], _ = listed(capsys, "31", "--state", "failure")
    assert job["token"] == "t31-1"


@pytest.mark.parametrize("number", ["0", "-5"])
def test_a_number_of_jobs_that_is_none_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, said = listed(capsys, "-n", number)
    assert ended == 100
    assert f"-n {number}: the number of jobs to show, from 1, is expected." in said


def test_a_state_that_no_job_can_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ended, _, said = listed(capsys, "--state", "runing")
    assert ended == 100
    assert "Unknown state 'runing' (--state). Did you mean 'running'? Known: cancelled, " in said


def test_where_there_is_no_ledger_none_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == (0, [], "")
    assert zwrap.main(["cancel", "17"]) == 100
    assert "Unknown job '17'" in capsys.readouterr().err
    assert not default_file().exists()
