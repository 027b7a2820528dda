"""A step that names another one is submitted when the jobs of that one have succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import (
    CANCELLED,
    GIVEN_UP,
    INTENDED,
    REJECTED,
    SUBMITTED,
    UNANSWERED,
    WAITING,
    Attempt,
)
from zwrap.attempt.retry import edited
from zwrap.errors import ClusterFullError, RejectedError, RequestError
from zwrap.job import JobRequest
from zwrap.message.limits import DEFAULTS
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import Accepted, Busy, Command, Options, Question, Rejected, Submission
from zwrap.submission import progress, unmet
from zwrap.submission.dependency import run_of, steps_before
from zwrap.submission.holds import Awaited, Holds
from zwrap.submission.outcomes import Barred, Outcome
from zwrap.submission.pending import PendingJob
from zwrap.submission.request import prepare
from zwrap.submission.submit import everything, submit_all
from zwrap.submission.tasks import Tasks
from zwrap.submission.unmet import PUT_BACK_S, Dependencies

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


def steps_in_order(named: Any) -> Recipe:
    """Return a recipe of as many nodes as there may be, of which each waits for others."""
    node = {"queue": "cluster.submission"}
    nodes = {
        str(number): {**node, "parameters": {"cluster": {"dependency": named(number)}}}
        for number in range(1, DEFAULTS.nodes + 1)
    }
    return Recipe({"start": [[1, []]], **nodes})


def test_each_step_before_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe has 5000 steps, many paths through them, and repeated numbers."""
    last = DEFAULTS.nodes
    chain = steps_in_order(lambda number: [min(number + 1, last)] * 3 if number < last else None)
    read: list[int] = []
    node = Recipe.node

    def counted(recipe: Recipe, number: int) -> Any:
        read.append(number)
        return node(recipe, number)

    monkeypatch.setattr(Recipe, "node", counted)
    envelope = Envelope(chain, 1, environment={"ID": "r"})
    assert steps_before("2," * 2999 + "2", envelope, DEFAULTS) == {2: 1}
    assert len(read) <= 3 * last
    assert set(read) == set(range(1, last + 1))


def test_steps_that_name_too_many_others_are_refused() -> None:
    dense = steps_in_order(lambda number: list(range(number + 1, DEFAULTS.nodes + 1)) or None)
    envelope = Envelope(dense, 1, environment={"ID": "r"})
    with pytest.raises(RequestError, match="more than 10000 nodes under 'dependency'"):
        steps_before([2, 3, 4], envelope, DEFAULTS)
    with pytest.raises(RequestError, match=r"more than 5000 nodes .section limits, key 'nodes'"):
        steps_before("2," * 5000 + "2", envelope, DEFAULTS)


def test_a_step_waits_for_a_limited_number_of_jobs() -> None:
    blocks: dict[str, Any] = {f"n{number}": {"array": "0-999"} for number in range(20, 32)}
    named = [int(name[1:]) for name in blocks]
    with pytest.raises(RequestError, match=r"more than 10000 jobs .section limits, key 'outputs'"):
        request(2, **blocks, n2={"dependency": named})
    assert sum(request(2, **blocks, n2={"dependency": named[:10]}).after.values()) == 10_000


def test_a_loop_of_other_steps_ends() -> None:
    blocks = {"n1": {"dependency": 2}, "n2": {"dependency": 3}, "n3": {"dependency": 2}}
    assert request(1, **blocks).after == {2: 1}


def test_without_a_recipe_id_no_other_step_is_known() -> None:
    with pytest.raises(RequestError, match="key 'dependency': the recipe has no 'ID'"):
        request(2, None, n1={}, n2={"dependency": 1})


@pytest.mark.parametrize("given", [[1], "1", "1, 1", ["1"], 1])
def test_in_merged_recipes_a_step_waits_for_the_step_of_its_own(given: object) -> None:
    first = recipe(n1={}, n2={"dependency": 1})
    merged = first.merged(recipe(n1={}, n2={"dependency": given}))
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


def row(ledger: Ledger, token: str, recipe_id: str = "r", **columns: Any) -> None:
    attempt = Attempt(token=token, recipe_id=recipe_id, step=1, cluster="c", job_name="n",
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
        ({}, Awaited("it waits for step 1, of which 0 of 1 jobs are known", alive=False)),
        ({"a-1": {}}, Awaited("it waits for step 1, whose job 7 on cluster c has not ended")),
        ({"a-1": {"state": WAITING}},
         Awaited("it waits for step 1, whose job for cluster c is not submitted yet")),
        ({"a-1": {"outcome": "success"}}, None),
        ({"a-1": FAILED}, Barred("step 1, after which it was to run, failed: it failed")),
        ({"a-1": {"state": REJECTED, "reason": "no"}},
         Barred("step 1, after which it was to run, failed: no")),
        ({"a-1": {"outcome": "unknown"}},
         Barred("step 1, after which it was to run, failed: its job ended otherwise")),
        ({"a-1": {"state": INTENDED}},
         Awaited("it waits for step 1, whose job for cluster c is being submitted", alive=False)),
        ({"a-1": {"state": UNANSWERED, "reason": GIVEN_UP}},
         Barred(f"step 1, after which it was to run, failed: {GIVEN_UP}")),
        ({"a-1": {"state": SUBMITTED, "reason": GIVEN_UP}},
         Awaited("it waits for step 1, whose job 7 on cluster c has not ended")),
        ({"a-1": {"outcome": "retried"}},
         Awaited("it waits for step 1, which is about to be tried again", alive=False)),
        ({"a-1": {"outcome": "retried"}, "a-2": {"outcome": "success"}}, None),
        ({"a-1": FAILED, "a-2": {"outcome": "success"}}, None),
        ({"a-9": {"outcome": "retried"}, "a-10": FAILED},
         Barred("step 1, after which it was to run, failed: it failed")),
    ],
)  # fmt: skip
def test_the_last_attempt_at_a_step_decides(
    ledger: Ledger, rows: dict[str, dict[str, Any]], expected: Busy | Rejected | None
) -> None:
    for token, columns in rows.items():
        row(ledger, token, **columns)
    assert answer(ledger) == expected
    assert answer(ledger, recipe_id="another") is not None


@pytest.mark.parametrize("recipe_id", ["r" * 81, "/data/visit/" * 100, "a\0b", "\ud800"])
def test_a_step_finds_the_one_before_whatever_the_id_of_their_recipe(
    ledger: Ledger, recipe_id: str
) -> None:
    """The ledger holds the beginning of a long ID, and others in escapes."""
    row(ledger, "a-1", recipe_id, outcome="success", run="mine")
    row(ledger, "c-1", f"{recipe_id}, another", outcome="failure", run="another")
    mine = job(recipe_id=recipe_id)
    mine = mine._replace(attempt=replace(mine.attempt, run="mine"))
    assert Dependencies(ledger).answers([mine]) == {}
    ledger.reserve([mine.attempt])
    [read] = ledger.known([mine.attempt.token]).values()
    assert Dependencies(ledger).answers([mine._replace(attempt=read)]) == {}


def test_all_tasks_of_a_step_must_have_succeeded(ledger: Ledger) -> None:
    row(ledger, "a-1", outcome="success")
    words = "it waits for step 1, of which 1 of 2 jobs are known"
    assert answer(ledger, count=2) == Awaited(words, alive=False)
    row(ledger, "b2-1")
    assert isinstance(answer(ledger, count=2), Busy)
    ledger.record({"b2-1": FAILED})
    assert isinstance(answer(ledger, count=2), Rejected)
    ledger.record({"b2-1": {"outcome": "success"}})
    assert answer(ledger, count=2) is None


def test_two_messages_for_one_task_are_not_two_tasks(ledger: Ledger) -> None:
    """Somebody has submitted it again with other keys, twice."""
    row(ledger, "a-1", outcome="success", task_rank=0)
    row(ledger, "apart-2", outcome="success", task_rank=0)
    words = "it waits for step 1, of which 1 of 2 jobs are known"
    assert answer(ledger, count=2) == Awaited(words, alive=False)
    row(ledger, "c-1", outcome="success", task_rank=1)
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
            request=replace(job().request, after={}, task=numbers.task(number, "here")),
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


def test_what_many_wait_for_is_judged_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        row(ledger, f"a{number}-1")
    judged: list[str] = []
    has_failed = progress.has_failed

    def counted(row: Attempt) -> bool:
        judged.append(row.token)
        return has_failed(row)

    for module in (progress, unmet):
        monkeypatch.setattr(module, "has_failed", counted)
    jobs = [
        job(20)._replace(attempt=replace(job().attempt, token=f"b{number}-1"))
        for number in range(20)
    ]
    tasks = [throttled(f"c{number}-1", 3) for number in range(20)]
    assert len(Dependencies(ledger).answers([*jobs, *tasks])) == 40
    assert len(judged) <= 40


def test_a_task_that_ends_before_its_turn_lets_in_no_other(ledger: Ledger) -> None:
    """It was cancelled while it waited."""
    row(ledger, "a0-1", task_rank=0)
    row(ledger, "a3-1", task_rank=3, state=REJECTED, reason=CANCELLED, job_id=None)
    assert list(Dependencies(ledger).answers([throttled("b1-1", 1)])) == ["b1-1"]
    ledger.record({"a0-1": {"outcome": "failure"}})
    assert Dependencies(ledger).answers([throttled("b1-1", 1)]) == {}
    assert list(Dependencies(ledger).answers([throttled("b2-1", 2)])) == ["b2-1"]


def test_tasks_of_each_message_at_a_step_are_counted_by_themselves(ledger: Ledger) -> None:
    """Behind a step with tasks it gets several; rows of the last release have no such mark."""
    for number in range(3):
        row(ledger, f"a{number}-1", task_rank=0, task_of=f"m{number}", outcome="success")
    task = throttled("b-1", 2)
    own = task._replace(attempt=replace(task.attempt, task_of="m1"))
    assert list(Dependencies(ledger).answers([own])) == ["b-1"]
    assert Dependencies(ledger).answers([task]) == {}
    row(ledger, "former-1", outcome="success")
    assert Dependencies(ledger).answers([own]) == {}


def test_a_step_that_is_refused_as_a_whole_is_no_task_that_has_ended(ledger: Ledger) -> None:
    """The message for the tasks that have no messages yet may become a dead letter."""
    row(ledger, "a-1", task_rank=0, task_of="m")
    row(ledger, "whole-1", task_of="m", state=REJECTED, job_id=None)
    task = throttled("b-1", 1)
    own = task._replace(attempt=replace(task.attempt, task_of="m"))
    for each in (own, task):
        assert list(Dependencies(ledger).answers([each])) == ["b-1"]
    ledger.record({"a-1": {"outcome": "success"}})
    assert Dependencies(ledger).answers([own]) == {}
    assert isinstance(answer(ledger, count=2), Barred)


@pytest.mark.parametrize("columns", [{}, {"outcome": "retried"}, {"outcome": "success"}])
@pytest.mark.parametrize("place", [{}, {"task_rank": 0, "task_of": "m"}])
def test_a_message_that_was_refused_bars_no_step_after_the_job_of_another(
    ledger: Ledger, columns: dict[str, Any], place: dict[str, Any]
) -> None:
    """Anybody who may send messages can send a second one for the same step."""
    own = {**place, "task_of": None}
    row(ledger, "forged-1", state=REJECTED, reason="bad", job_id=None, **own)
    assert isinstance(answer(ledger), Barred)
    row(ledger, "a-1", **place, **columns)
    assert not isinstance(answer(ledger), Barred)
    assert (answer(ledger) is None) == (columns == {"outcome": "success"})
    ledger.record({"a-1": {"outcome": "failure", "cause": "it failed"}})
    assert isinstance(answer(ledger), Barred)


def test_a_refusal_after_a_job_counts_whatever_else_is_under_way(ledger: Ledger) -> None:
    row(ledger, "a-1", outcome="retried")
    row(ledger, "a-2", state=REJECTED, reason="bad", job_id=None)
    row(ledger, "b-1")
    assert isinstance(answer(ledger), Barred)


def test_a_refused_task_bars_the_step_after_those_of_other_places(ledger: Ledger) -> None:
    """Rows of the last release have no places."""
    row(ledger, "former-1")
    row(ledger, "former2-1", state=REJECTED, reason="bad", job_id=None)
    assert isinstance(answer(ledger, count=2), Barred)
    row(ledger, "a-1", task_rank=0, task_of="m")
    row(ledger, "b-1", task_rank=1, task_of="m", state=REJECTED, reason="bad", job_id=None)
    assert isinstance(answer(ledger, count=2), Barred)


def test_messages_of_others_let_in_no_task_while_its_own_ones_are_under_way(
    ledger: Ledger,
) -> None:
    task = throttled("b-1", 1)
    own = task._replace(attempt=replace(task.attempt, task_of="m"))
    row(ledger, "a-1", task_rank=0, task_of="m")
    row(ledger, "forged-1", task_rank=0, task_of="m", state=REJECTED, job_id=None)
    row(ledger, "also-1", task_rank=0, outcome="failure")
    assert list(Dependencies(ledger).answers([own])) == ["b-1"]
    ledger.record({"a-1": {"outcome": "success"}})
    assert Dependencies(ledger).answers([own]) == {}


def throttled(token: str, number: int) -> PendingJob:
    task = Tasks((0, 1, 2, 3), 1).task(number, "here")
    return job()._replace(
        request=replace(job().request, after={}, task=task),
        attempt=replace(job().attempt, token=token, step=1),
    )


@pytest.mark.parametrize(
    ("columns", "alive"),
    [
        ({}, True),
        ({"state": WAITING, "reason": "it is full"}, True),
        ({"state": WAITING, "reason": "1 tasks of its step may run at a time, and 0 have ended"},
         False),
        ({"outcome": "retried"}, False),
    ],
)  # fmt: skip
def test_a_task_waits_for_others_that_are_under_way(
    ledger: Ledger, columns: dict[str, Any], alive: bool
) -> None:
    row(ledger, "a-1", **columns)
    words = "1 tasks of its step may run at a time, and 0 have ended"
    words = words if alive else f"{words}; none is known to be under way"
    waiting = Dependencies(ledger).answers([throttled("b-1", 2)])
    assert waiting == {"b-1": Awaited(words, alive=alive)}


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_a_row_of_another_recipe_with_the_same_id_does_not_count(
    ledger: Ledger, outcome: str
) -> None:
    mine = job()._replace(attempt=replace(job().attempt, run="mine"))
    row(ledger, "foreign-1", outcome=outcome, run="foreign")
    [waits] = Dependencies(ledger).answers([mine]).values()
    assert waits == Awaited("it waits for step 1, of which 0 of 1 jobs are known", alive=False)
    task = throttled("b-1", 1)
    task = task._replace(attempt=replace(task.attempt, run="mine"))
    assert "0 have ended" in Dependencies(ledger).answers([task])["b-1"].reason
    row(ledger, "own-1", outcome="retried", run="mine")
    row(ledger, "own-2", outcome="success", run="an edited recipe")
    assert Dependencies(ledger).answers([mine]) == {}
    row(ledger, "former-1", outcome="failure", run=None)
    assert isinstance(Dependencies(ledger).answers([mine])["b-1"], Rejected)


def test_a_run_is_known_by_its_recipe_whatever_a_retry_changes() -> None:
    given = recipe(n1={}, n2={"dependency": 1})
    message = Envelope(given, 1, environment={"ID": "r"})
    raised = Envelope.from_body(edited(message.body(), {"memory_per_node": 9, "gres": "gpu:1"}))
    task = Envelope(given, 2, environment={"ID": "r", "array-task": 3}, payload=7)
    assert run_of(message) == run_of(raised) == run_of(task)
    assert run_of(message) != run_of(Envelope(given, 1, environment={"ID": "s"}))
    assert run_of(message) != run_of(Envelope(recipe(n1={}), 1, environment={"ID": "r"}))
    assert run_of(Envelope(given, 1)) is None


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


def test_a_refusal_for_another_step_is_not_that_of_the_cluster(
    ledger: Ledger, tmp_path: Path
) -> None:
    row(ledger, "a-1", **FAILED)
    assert str(submitted(ledger, ManualClock(), tmp_path)) == (
        "The job is not submitted: step 1, after which it was to run, failed: it failed."
    )


def test_dead_letters_that_are_put_back_may_come_in_any_order(ledger: Ledger) -> None:
    """The one of the other step may be handled later."""
    row(ledger, "a-1", **FAILED)
    again = job()._replace(attempt=replace(job().attempt, token="b-2"))
    words = "it waits for step 1, which had failed before this one was put back: it failed"
    expected = Awaited(words, alive=False, longest_s=PUT_BACK_S)
    assert Dependencies(ledger).answers([again]) == {"b-2": expected}
    held = replace(again.attempt, held=1000.0, reason=words)
    holds, waiting = Holds("c", 1e6), again._replace(attempt=held)
    assert holds.conclusion(waiting, expected, 1000 + PUT_BACK_S - 1).columns["state"] == WAITING
    assert holds.conclusion(waiting, expected, 1000 + PUT_BACK_S).columns["state"] == REJECTED
    row(ledger, "a-2")
    [answer] = Dependencies(ledger).answers([again]).values()
    assert answer == Awaited("it waits for step 1, whose job 7 on cluster c has not ended")


@pytest.mark.parametrize(
    ("alive", "then"),
    [
        ({"state": WAITING}, {"state": INTENDED}),
        ({"state": SUBMITTED}, {"outcome": "retried"}),
    ],
)
def test_the_wait_for_what_is_not_under_way_begins_when_that_is_so(
    ledger: Ledger, tmp_path: Path, alive: dict[str, Any], then: dict[str, Any]
) -> None:
    """However long the wait for what was under way took."""
    row(ledger, "a-1", **alive)
    holds = Holds("c", 1e6)
    for waiting in (job(directory=tmp_path), throttled("b-1", 1)):
        ledger.record({"a-1": alive | {"outcome": None}})
        [before] = Dependencies(ledger).answers([waiting]).values()
        ledger.record({"a-1": then})
        [after] = Dependencies(ledger).answers([waiting]).values()
        assert isinstance(after, Awaited)
        assert not after.alive
        held = replace(waiting.attempt, held=1000.0, reason=before.reason, state=WAITING)
        found = holds.conclusion(waiting._replace(attempt=held), after, 1000 + 30 * DAY_S)
        assert found.columns["state"] == WAITING
        assert found.columns["held"] == 1000 + 30 * DAY_S


def wait_over(ledger: Ledger, token: str, seconds: float) -> None:
    """Let a row wait since some time ago."""
    kept = ledger.get(token)
    assert kept
    assert kept.held
    ledger.record({token: {"held": kept.held - seconds}})


DAY_S = 86_400.0


def test_a_wait_for_jobs_that_live_is_not_ended_by_held_s(ledger: Ledger, tmp_path: Path) -> None:
    row(ledger, "a-1")
    assert isinstance(submitted(ledger, ManualClock(), tmp_path, held_s=60), ClusterFullError)
    wait_over(ledger, "b-1", 30 * DAY_S)
    waits = submitted(ledger, ManualClock(), tmp_path, held_s=60)
    assert isinstance(waits, ClusterFullError)
    assert str(waits) == (
        "The job is not submitted yet: it waits for step 1, whose job 7 on cluster c has not ended."
    )


def test_a_wait_for_jobs_of_which_there_is_no_trace_ends_in_ledger_and_message(
    ledger: Ledger, tmp_path: Path
) -> None:
    """It begins when the jobs were there for the last time."""
    row(ledger, "a-1")
    submitted(ledger, ManualClock(), tmp_path, held_s=60)
    wait_over(ledger, "b-1", 30 * DAY_S)
    ledger.record({"a-1": {"outcome": "retried"}})
    for waited_s in (0, 13 * DAY_S):
        outcome = submitted(ledger, ManualClock(), tmp_path, held_s=60)
        assert isinstance(outcome, ClusterFullError), waited_s
        wait_over(ledger, "b-1", 13 * DAY_S)
    outcome = submitted(ledger, ManualClock(), tmp_path, held_s=60)
    assert isinstance(outcome, RejectedError)
    assert "The job has waited for others of its recipe for 26 days" in str(outcome)
    kept = ledger.get("b-1")
    assert kept
    assert (kept.state, kept.held) == (REJECTED, None)


def test_a_full_queue_after_a_wait_for_others_is_waited_for_anew(
    ledger: Ledger, tmp_path: Path
) -> None:
    row(ledger, "a-1")
    submitted(ledger, ManualClock(), tmp_path)
    wait_over(ledger, "b-1", 30 * DAY_S)
    kept = ledger.get("b-1")
    assert kept
    waits = Holds("c", DAY_S).conclusion(job()._replace(attempt=kept), Busy("full"), ledger.now())
    assert isinstance(waits.outcome, ClusterFullError)
    assert waits.columns["held"] == pytest.approx(ledger.now(), abs=60)


def test_a_wait_that_was_cancelled_ends_once(ledger: Ledger, tmp_path: Path) -> None:
    submitted(ledger, ManualClock(), tmp_path)
    ledger.record({"b-1": {"state": REJECTED, "reason": CANCELLED}})
    outcome = submitted(ledger, ManualClock(), tmp_path)
    assert isinstance(outcome, RejectedError)
    assert str(outcome) == "The job was cancelled by hand while it waited."
    ledger.record({"b-1": {"reason": str(outcome)}})  # its message is a dead letter, and put back
    assert isinstance(submitted(ledger, ManualClock(), tmp_path), ClusterFullError)
