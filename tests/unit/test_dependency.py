"""A step that names another one is submitted when the jobs of that one have succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.errors import ClusterFullError, RejectedError, RequestError
from zwrap.job import JobRequest
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import Accepted, Busy, Command, Options, Question, Rejected, Submission
from zwrap.submission.dependency import Dependencies
from zwrap.submission.holds import Holds
from zwrap.submission.outcomes import Outcome
from zwrap.submission.pending import PendingJob
from zwrap.submission.request import prepare
from zwrap.submission.submit import everything, submit_all
from zwrap.submission.tasks import Tasks

from .clock import ManualClock


def recipe(**blocks: Any) -> Recipe:
    """Return a recipe with a step for each block, ``n1`` for node 1."""
    nodes = {
        name.removeprefix("n"): {
            "queue": "cluster.submission",
            "parameters": {"workingdir": "/w", "cluster": {"commands": "run", **block}},
        }
        for name, block in blocks.items()
    }
    starts = [[int(number), []] for number in (*nodes, 9)]
    return Recipe({"start": starts, **nodes, "9": {"queue": "q"}})


def request(node: int, recipe_id: str | None = "r", **blocks: Any) -> JobRequest:
    environment = {"ID": recipe_id} if recipe_id else {}
    return prepare(Envelope(recipe(**blocks), node, environment=environment), "t-1", "c").request


@pytest.mark.parametrize(
    ("given", "after"), [(1, {1: 1}), ([1, 3], {1: 1, 3: 4}), ("1,3", {1: 1, 3: 4}), ("", {})]
)
def test_a_step_names_the_nodes_that_come_before(given: object, after: dict[int, int]) -> None:
    blocks = {"n1": {}, "n2": {"dependency": given}, "n3": {"array": "0-3"}}
    assert request(2, **blocks).after == after


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"n1": {"dependency": 1}}, "names node 1; another node on queue 'cluster.submission'"),
        ({"n1": {"dependency": 9}}, "names node 9; another node on queue"),
        ({"n1": {"dependency": 7}}, "names node 7; another node on queue"),
        ({"n1": {"dependency": "xia2"}}, "is 'xia2'; numbers of nodes are expected"),
        ({"n1": {"dependency": True}}, "is True; numbers of nodes are expected"),
        ({"n1": {"dependency": 2}, "n2": {"dependency": [3]}, "n3": {"dependency": 1}},
         "names node 2, which waits for this one"),
    ],
)  # fmt: skip
def test_a_dependency_that_can_never_be_met_is_refused(blocks: Any, words: str) -> None:
    with pytest.raises(RequestError, match=f"node 1, .* key 'dependency'.* {words}|{words}"):
        request(1, **blocks)


def test_without_a_recipe_id_no_other_step_is_known() -> None:
    with pytest.raises(RequestError, match="key 'dependency': the recipe has no 'ID'"):
        request(2, None, n1={}, n2={"dependency": 1})


def test_in_merged_recipes_a_step_waits_for_the_step_of_its_own() -> None:
    first = recipe(n1={}, n2={"dependency": 1})
    merged = first.merged(recipe(n1={}, n2={"dependency": [1]}))
    blocks: Any = {
        number: node["parameters"]["cluster"].get("dependency")  # type: ignore[call-overload,index]
        for number, node in merged.nodes.items()
        if "parameters" in node
    }
    named = [given[0] if isinstance(given, list) else given for given in blocks.values() if given]
    assert len(set(named)) == 2
    assert [blocks[number] for number in named] == [None, None]


# -- what the ledger says --------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.in_file(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def row(ledger: Ledger, token: str, **columns: Any) -> None:
    attempt = Attempt(token=token, recipe_id="r", step=1, cluster="c", job_name="n",
                      job_directory="/d")  # fmt: skip
    ledger.reserve([attempt])
    ledger.record({token: {"state": SUBMITTED, "job_id": "7", **columns}})


def job(count: int = 1, recipe_id: str = "r", directory: Path = Path("/w")) -> PendingJob:
    asked = JobRequest(
        cluster="c", job_name="n", token="b-1", working_directory=directory,
        job_directory=directory, commands="", standard_output=directory / "o",
        standard_error=directory / "e", after={1: count},
    )  # fmt: skip
    attempt = Attempt(token="b-1", recipe_id=recipe_id, step=2, cluster="c", job_name="n",
                      job_directory=str(directory))  # fmt: skip
    return PendingJob(asked, directory / "script", attempt, "#!/bin/bash\n")


def answer(ledger: Ledger, **given: Any) -> Busy | Rejected | None:
    return Dependencies(ledger).answers([job(**given)]).get("b-1")


FAILED = {"outcome": "failure", "cause": "it failed."}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({}, Busy("it waits for step 1, of which 0 of 1 jobs are known")),
        ({"a-1": {}}, Busy("it waits for step 1, whose job 7 on cluster c has not ended")),
        ({"a-1": {"state": WAITING}},
         Busy("it waits for step 1, whose job for cluster c is not submitted yet")),
        ({"a-1": {"outcome": "success"}}, None),
        ({"a-1": FAILED}, Rejected("step 1, after which it was to run, failed: it failed")),
        ({"a-1": {"state": REJECTED, "reason": "no"}},
         Rejected("step 1, after which it was to run, failed: no")),
        ({"a-1": {"outcome": "unknown"}},
         Rejected("step 1, after which it was to run, failed: its job ended otherwise")),
        ({"a-1": {"outcome": "retried"}},
         Busy("it waits for step 1, which is about to be tried again")),
        ({"a-1": {"outcome": "retried"}, "a-2": {"outcome": "success"}}, None),
        ({"a-1": FAILED, "a-2": {"outcome": "success"}}, None),
        ({"a-9": {"outcome": "retried"}, "a-10": FAILED},
         Rejected("step 1, after which it was to run, failed: it failed")),
    ],
)  # fmt: skip
def test_the_last_attempt_at_a_step_decides(
    ledger: Ledger, rows: dict[str, dict[str, Any]], expected: Busy | Rejected | None
) -> None:
    for token, columns in rows.items():
        row(ledger, token, **columns)
    assert answer(ledger) == expected
    assert answer(ledger, recipe_id="another") is not None


def test_all_tasks_of_a_step_must_have_succeeded(ledger: Ledger) -> None:
    row(ledger, "a-1", outcome="success")
    assert answer(ledger, count=2) == Busy("it waits for step 1, of which 1 of 2 jobs are known")
    row(ledger, "b2-1")
    assert isinstance(answer(ledger, count=2), Busy)
    ledger.record({"b2-1": FAILED})
    assert isinstance(answer(ledger, count=2), Rejected)
    ledger.record({"b2-1": {"outcome": "success"}})
    assert answer(ledger, count=2) is None


@pytest.mark.parametrize(
    ("ended", "may_run"),
    [
        ([], [0, 1]),
        (["success"], [0, 1, 2]),
        (["success", "failure"], [0, 1, 2, 3]),
        (["retried", None], [0, 1]),
    ],
)
def test_of_the_tasks_of_a_step_some_run_at_a_time(
    ledger: Ledger, ended: list[str | None], may_run: list[int]
) -> None:
    """Whoever submits them: the number that have ended says which comes next."""
    for number, outcome in enumerate(ended):
        row(ledger, f"a{number}-1", outcome=outcome)
    numbers = Tasks((10, 20, 30, 40), 2)
    tasks = [
        job()._replace(
            request=replace(job().request, after={}, task=numbers.task(number)),
            attempt=replace(job().attempt, token=f"b{number}-1", step=1),
        )
        for number in numbers.numbers
    ]
    waiting = Dependencies(ledger).answers(tasks)
    runs = [rank for rank, each in enumerate(tasks) if each.attempt.token not in waiting]
    assert runs == may_run
    for answer in waiting.values():
        assert isinstance(answer, Busy)
        assert answer.reason.startswith("2 tasks of its step may run at a time, and ")


class System:
    """A batch system that takes every job."""

    settle_s, arrays, concurrency, options = 0.2, None, 1, Options()

    def submit(
        self, request: JobRequest, script: Path, tasks: int | None = None
    ) -> Question[Submission]:
        del request, script, tasks
        return Question(Command(argv=["true"]), lambda reply: Accepted("8"))


def submitted(ledger: Ledger, clock: ManualClock, directory: Path, held_s: float = 1e6) -> Outcome:
    outcomes: list[tuple[str, Outcome]] = []
    submit_all(
        ledger, System(), [job(directory=directory)], outcomes.extend, everything, None,  # type: ignore[arg-type]
        clock, Holds("c", held_s, clock), Dependencies(ledger).answers,
    )  # fmt: skip
    [(token, outcome)] = outcomes
    assert token == "b-1"
    return outcome


def test_a_job_waits_and_is_submitted_when_its_time_has_come(
    ledger: Ledger, tmp_path: Path
) -> None:
    clock = ManualClock()
    for _ in range(2):
        outcome = submitted(ledger, clock, tmp_path)
        assert isinstance(outcome, ClusterFullError)
        assert "it waits for step 1, of which 0 of 1 jobs are known" in str(outcome)
        assert outcome.retry_after_s == 30
        kept = ledger.get("b-1")
        assert kept
        assert (kept.state, kept.job_id) == (WAITING, None)
        assert "it waits for step 1" in (kept.reason or "")
    row(ledger, "a-1", outcome="success")
    assert submitted(ledger, clock, tmp_path) == "8"


def test_a_job_after_a_step_that_failed_is_refused_with_the_cause(
    ledger: Ledger, tmp_path: Path
) -> None:
    row(ledger, "a-1", **FAILED)
    outcome = submitted(ledger, ManualClock(), tmp_path)
    assert isinstance(outcome, RejectedError)
    assert "step 1, after which it was to run, failed: it failed" in str(outcome)
    kept = ledger.get("b-1")
    assert kept
    assert kept.state == REJECTED
