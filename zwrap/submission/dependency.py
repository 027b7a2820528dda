"""Jobs that wait for others of their recipe: for other steps, or for tasks of their own step.

The ledger tells how these ended, so that it does not matter on which cluster they ran, and a
further attempt at a step takes the place of the one before. Batch systems are not asked to order
jobs: the one that would have to wait may be another one, and a job that is tried again has a new
id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED, Attempt
from zwrap.errors import RequestError, short
from zwrap.job import ArrayTask, JobRequest, Outcome
from zwrap.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import Busy, Rejected
from zwrap.submission.pending import PendingJob
from zwrap.submission.tasks import tasks_of
from zwrap.units import whole_number

Unmet = Callable[[Sequence[PendingJob]], Mapping[str, Busy | Rejected]]
"""Function from jobs to the tokens of those that wait, or can never run, and why."""

QUEUE = "cluster.submission"
"""Queue of the steps that become jobs."""


def nothing_unmet(jobs: Sequence[PendingJob]) -> Mapping[str, Busy | Rejected]:
    """Return no reason to wait for any job."""
    del jobs
    return {}


def steps_before(given: object, envelope: Envelope, limits: Limits) -> dict[int, int]:
    """Return the steps that key `dependency` of a cluster block names, with their numbers of jobs.

    Raises RequestError, which names the key, for anything but steps of the recipe that become jobs,
    and do not wait for this one.
    """
    if given in (None, "", []):
        return {}
    where = f"node {envelope.pointer}, parameters, key 'cluster', key 'dependency'"
    if envelope.recipe_id is None:
        raise RequestError(f"{where}: the recipe has no 'ID' in its environment, so no other step.")
    found: dict[int, int] = {}
    for number in _numbers(given, where):
        block = _block(envelope.recipe, number)
        if block is None or number == envelope.pointer:
            raise RequestError(
                f"{where} names node {number}; another node on queue {QUEUE!r} is expected."
            )
        if envelope.pointer in _all_before(envelope.recipe, number):
            raise RequestError(f"{where} names node {number}, which waits for this one.")
        at = f"node {number}, parameters, key 'cluster', key 'array'"
        array = tasks_of(block["array"], at, limits) if block.get("array") is not None else True
        found[number] = 1 if isinstance(array, bool) else len(array.numbers)
    return found


def _numbers(given: object, where: str) -> list[int]:
    """Return numbers of nodes: one, or a list."""
    items = given if isinstance(given, list) else str(given).split(",")
    numbers = [whole_number(str(item).strip()) for item in items]
    known = [number for number in numbers if number is not None]
    if isinstance(given, (dict, bool)) or len(known) < len(numbers):
        raise RequestError(f"{where} is {short(given)}; numbers of nodes are expected.")
    return known


def _block(recipe: Recipe, number: int) -> Mapping[str, object] | None:
    """Return the cluster block of a step that becomes a job; None: there is no such step."""
    if number not in recipe or recipe.node(number).get("queue") != QUEUE:
        return None
    parameters = recipe.node(number).get("parameters")
    block = parameters.get("cluster") if isinstance(parameters, Mapping) else None
    return block if isinstance(block, Mapping) else {}


def _all_before(recipe: Recipe, number: int) -> set[int]:
    """Return the steps for which a step waits, and those for which these wait."""
    found: set[int] = set()
    left = [number]
    while left:
        given = (_block(recipe, left.pop()) or {}).get("dependency")
        named = _numbers(given, "a dependency") if given not in (None, "", []) else []
        left += [each for each in named if each not in found]
        found.update(named)
    return found


class Dependencies:
    """What the ledger says of the steps that jobs wait for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def answers(self, jobs: Sequence[PendingJob]) -> dict[str, Busy | Rejected]:
        """Return why jobs wait, or can never run, by token; a job that may run is not in it."""
        waiting = [job for job in jobs if job.attempt.recipe_id and _is_bound(job.request)]
        if not waiting:
            return {}
        recipe_ids = sorted({str(job.attempt.recipe_id) for job in waiting})
        rows: dict[tuple[str, int], list[Attempt]] = defaultdict(list)
        for row in self._ledger.of_recipes(recipe_ids):
            rows[str(row.recipe_id), row.step or 0].append(row)
        steps = {key: _latest(attempts) for key, attempts in rows.items()}
        found: dict[str, Busy | Rejected] = {}
        for job in waiting:
            recipe_id, request = str(job.attempt.recipe_id), job.request
            answers = [
                answer
                for step, count in request.after.items()
                for answer in _of_step(step, count, steps.get((recipe_id, step), []))
            ]
            if request.task:
                own = steps.get((recipe_id, job.attempt.step or 0), [])
                answers += _of_tasks(request.task, own)
            if answers:  # a refusal before a wait
                found[job.attempt.token] = min(answers, key=lambda each: isinstance(each, Busy))
        return found


def _is_bound(request: JobRequest) -> bool:
    """Return True if other jobs decide when a job may be submitted."""
    return bool(request.after or (request.task and request.task.throttle))


def _latest(rows: Sequence[Attempt]) -> list[Attempt]:
    """Return the last attempt of each message at a step."""
    latest: dict[str, Attempt] = {}
    for row in rows:
        family = row.token.rpartition("-")[0]
        if family not in latest or latest[family].number < row.number:
            latest[family] = row
    return list(latest.values())


def _has_failed(row: Attempt) -> bool:
    """Return True if no further attempt follows by itself on one without success."""
    ended = (Outcome.FAILURE.value, Outcome.UNKNOWN.value)
    return row.state == REJECTED or row.outcome in ended


def _of_step(step: int, count: int, latest: Sequence[Attempt]) -> Iterator[Busy | Rejected]:
    """Yield why a job waits for a step with that number of jobs, or can never run after it."""
    for row in latest:
        if row.outcome == Outcome.SUCCESS.value:
            continue
        if _has_failed(row):
            why = row.cause or row.reason or "its job ended otherwise"
            yield Rejected(f"step {step}, after which it was to run, failed: {why.rstrip('.')}")
        else:
            yield Busy(f"it waits for step {step}, {_doing(row)}")
    if len(latest) < count:
        yield Busy(f"it waits for step {step}, of which {len(latest)} of {count} jobs are known")


def _of_tasks(task: ArrayTask, latest: Sequence[Attempt]) -> Iterator[Busy]:
    """Yield why a task waits for others of its step, of which only some may run at a time.

    Each that has ended lets the next one in, in their order. So no more are under way than may be,
    whoever submits them.
    """
    ended = sum(_has_failed(row) or row.outcome == Outcome.SUCCESS.value for row in latest)
    if task.throttle and task.rank >= task.throttle + ended:
        yield Busy(f"{task.throttle} tasks of its step may run at a time, and {ended} have ended")


def _doing(row: Attempt) -> str:
    """Return a clause about a job that has not ended, as far as a Watcher knows."""
    if row.outcome == Outcome.RETRIED.value:
        return "which is about to be tried again"
    if row.state == SUBMITTED:
        return f"whose job {row.job_id} on cluster {row.cluster} has not ended"
    return f"whose job for cluster {row.cluster} is not submitted yet"
