"""Jobs that wait for others of their recipe: for other steps, or for tasks of their own step.

The ledger tells how these ended, so that it does not matter on which cluster they ran, and a
further attempt at a step takes the place of the one before. Batch systems are not asked to order
jobs: the one that would have to wait may be another one, and a job that is tried again has a new
id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.errors import RequestError, short
from zwrap.job import ArrayTask, JobRequest, Outcome
from zwrap.limits import Limits
from zwrap.message import digest_of
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.recipe.references import entries_in, numbers_in
from zwrap.scheduler import Busy, Rejected
from zwrap.submission.holds import THROTTLED, Awaited
from zwrap.submission.pending import PendingJob
from zwrap.submission.tasks import tasks_of

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
    blocks = {number: _block(envelope.recipe, number) for number in _numbers(given, where, limits)}
    found: dict[int, int] = {}
    for number, block in blocks.items():
        if block is None or number == envelope.pointer:
            raise RequestError(
                f"{where} names node {number}; another node on queue {QUEUE!r} is expected."
            )
        at = f"node {number}, parameters, key 'cluster', key 'array'"
        array = tasks_of(block["array"], at, limits) if block.get("array") is not None else True
        found[number] = 1 if isinstance(array, bool) else len(array.numbers)
    _check_order(envelope, blocks, where, limits)
    return found


def _numbers(given: object, where: str, limits: Limits) -> list[int]:
    """Return numbers of nodes: one, or a list."""
    if entries_in(given) > limits.nodes:
        raise RequestError(
            f"{where} is {short(given)}, which is more than {limits.nodes} nodes (section limits, "
            "key 'nodes')."
        )
    numbers = numbers_in(given)
    if numbers is None:
        raise RequestError(f"{where} is {short(given)}; numbers of nodes are expected.")
    return numbers


def _block(recipe: Recipe, number: int) -> Mapping[str, object] | None:
    """Return the cluster block of a step that becomes a job; None: there is no such step."""
    if number not in recipe or recipe.node(number).get("queue") != QUEUE:
        return None
    parameters = recipe.node(number).get("parameters")
    block = parameters.get("cluster") if isinstance(parameters, Mapping) else None
    return block if isinstance(block, Mapping) else {}


def _check_order(
    envelope: Envelope,
    blocks: Mapping[int, Mapping[str, object] | None],
    where: str,
    limits: Limits,
) -> None:
    """Raise RequestError if a step waits for this one, of those for which this one waits.

    Each step is read once, so that the work grows with the numbers that are named, not with the
    ways through them; of these there may be as many as of references in outputs.
    """
    seen, count = set(blocks), len(blocks)
    left = [(number, number) for number in blocks]
    while left:
        number, first = left.pop()
        block = blocks[number] if number in blocks else _block(envelope.recipe, number)
        given = (block or {}).get("dependency")
        if given in (None, "", []):
            continue
        at = f"node {number}, parameters, key 'cluster', key 'dependency'"
        named = _numbers(given, at, limits)
        count += len(named)
        if count > limits.outputs:
            raise RequestError(
                f"{where}: the steps before this one name more than {limits.outputs} nodes under "
                "'dependency' (section limits, key 'outputs')."
            )
        if envelope.pointer in named:
            raise RequestError(f"{where} names node {first}, which waits for this one.")
        left += [(each, first) for each in named if each not in seen]
        seen.update(named)


def run_of(envelope: Envelope) -> str | None:
    """Return a digest by which the steps of one run of a recipe know each other; None: no run.

    A sender may give a run the ID of another one; its recipe is hardly the same. What a retry, or
    `zwrap resubmit`, changes in a recipe does not count: the cluster block of a step and its
    time limit.
    """
    if envelope.recipe_id is None:
        return None
    recipe = {key: _lasting(value) for key, value in envelope.recipe.wire.items()}
    return digest_of([envelope.recipe_id, recipe])


def _lasting(node: object) -> object:
    """Return a node without what another attempt at its step may change."""
    if not isinstance(node, dict):
        return node
    lasting = dict(node)
    for outer, inner in (("parameters", "cluster"), ("job_parameters", "timeout")):
        given = node.get(outer)
        if isinstance(given, dict):
            lasting[outer] = {key: value for key, value in given.items() if key != inner}
        if not lasting.get(outer):
            lasting.pop(outer, None)
    return lasting


class Dependencies:
    """What the ledger says of the steps that jobs wait for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def answers(self, jobs: Sequence[PendingJob]) -> dict[str, Busy | Rejected]:
        """Return why jobs wait, or can never run, by token; a job that may run is not in it."""
        waiting = [job for job in jobs if job.attempt.recipe_id and _is_bound(job.request)]
        if not waiting:
            return {}
        steps = self._steps(waiting)
        of_steps: dict[object, Awaited | Rejected | None] = {}
        found: dict[str, Busy | Rejected] = {}
        for job in waiting:
            run = str(job.attempt.recipe_id), job.attempt.run
            answers: list[Awaited | Rejected | None] = []
            for step, count in job.request.after.items():
                key = run, step, count  # many tasks may wait for one step with many
                if key not in of_steps:
                    of_steps[key] = _first(_of_step(step, count, steps[run].get(step, _Known())))
                answers.append(of_steps[key])
            if job.request.task:
                own = steps[run].get(job.attempt.step or 0, _Known())
                answers += _of_tasks(job.request.task, own)
            answer = _first(each for each in answers if each)
            if answer:
                found[job.attempt.token] = answer
        return found

    def _steps(self, jobs: Sequence[PendingJob]) -> dict[tuple[str, str | None], dict[int, _Known]]:
        """Return what is known of the steps of each run, by the recipe id and digest of the run."""
        rows = _Rows(self._ledger.of_recipes(sorted({str(job.attempt.recipe_id) for job in jobs})))
        runs = {(str(job.attempt.recipe_id), job.attempt.run) for job in jobs}
        return {run: _by_step(rows.of_run(*run)) for run in runs}


class _Rows:
    """Rows of the ledger by the runs to which they belong."""

    def __init__(self, rows: Sequence[Attempt]) -> None:
        families: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
        for row in rows:
            families[str(row.recipe_id), _family(row)].append(row)
        self._of_run: dict[tuple[str, str | None], list[Attempt]] = defaultdict(list)
        self._of_id: dict[str, list[Attempt]] = defaultdict(list)
        for (recipe_id, _), attempts in families.items():
            self._of_id[recipe_id] += attempts
            runs = {row.run for row in attempts}
            for run in {None} if None in runs else runs:
                self._of_run[recipe_id, run] += attempts

    def of_run(self, recipe_id: str, run: str | None) -> list[Attempt]:
        """Return the rows of a run; rows, and runs, of earlier releases go by the ID alone."""
        if run is None:
            return self._of_id[recipe_id]
        return [*self._of_run[recipe_id, run], *self._of_run[recipe_id, None]]


def _by_step(rows: Sequence[Attempt]) -> dict[int, _Known]:
    """Return what the rows of a run say of each step."""
    steps: dict[int, list[Attempt]] = defaultdict(list)
    for row in rows:
        steps[row.step or 0].append(row)
    return {step: _known(attempts) for step, attempts in steps.items()}


def _is_bound(request: JobRequest) -> bool:
    """Return True if other jobs decide when a job may be submitted."""
    return bool(request.after or (request.task and request.task.throttle))


def _first(answers: Iterable[Awaited | Rejected]) -> Awaited | Rejected | None:
    """Return a refusal, else a wait for what is under way, else another wait; None: there is none.

    Of several the first one counts.
    """

    def place(answer: Awaited | Rejected) -> int:
        return 2 - answer.alive if isinstance(answer, Awaited) else 0

    return min(answers, key=place, default=None)


def _family(row: Attempt) -> str:
    """Return what the tokens of all attempts at the job of a message have in common."""
    return row.token.rpartition("-")[0]


class _Known(NamedTuple):
    """What the ledger says of a step."""

    latest: Sequence[Attempt] = ()
    """The last attempt of each message at the step."""
    ended: int = 0
    """Number of these that have ended for good."""
    works: bool = False
    """True if one has not ended, and waits for none of its own step."""


def _known(rows: Sequence[Attempt]) -> _Known:
    """Return what the rows of a step say."""
    latest: dict[str, Attempt] = {}
    for row in rows:
        if row.state == REJECTED and row.outcome == Outcome.RETRIED.value:
            continue  # a step with tasks that was refused as a whole, before it was taken apart
        family = _family(row)
        if family not in latest or latest[family].number < row.number:
            latest[family] = row
    left = [row for row in latest.values() if not _has_ended(row)]
    works = any(_is_alive(row) and not THROTTLED.search(row.reason or "") for row in left)
    return _Known(list(latest.values()), len(latest) - len(left), works)


def _has_failed(row: Attempt) -> bool:
    """Return True if no further attempt follows by itself on one without success."""
    ended = (Outcome.FAILURE.value, Outcome.UNKNOWN.value)
    return row.state == REJECTED or row.outcome in ended


def _has_ended(row: Attempt) -> bool:
    """Return True if no further attempt follows by itself."""
    return _has_failed(row) or row.outcome == Outcome.SUCCESS.value


def _is_alive(row: Attempt) -> bool:
    """Return True if somebody is at work on an attempt that has not ended."""
    return row.state in (SUBMITTED, WAITING) and row.outcome is None


def _of_step(step: int, count: int, known: _Known) -> Iterator[Awaited | Rejected]:
    """Yield why a job waits for a step with that number of jobs, or can never run after it."""
    for row in known.latest:
        if row.outcome == Outcome.SUCCESS.value:
            continue
        if _has_failed(row):
            why = row.cause or row.reason or "its job ended otherwise"
            yield Rejected(f"step {step}, after which it was to run, failed: {why.rstrip('.')}")
        else:
            yield Awaited(f"it waits for step {step}, {_doing(row)}", alive=_is_alive(row))
    if len(known.latest) < count:
        yield Awaited(
            f"it waits for step {step}, of which {len(known.latest)} of {count} jobs are known",
            alive=False,
        )


def _of_tasks(task: ArrayTask, known: _Known) -> Iterator[Awaited]:
    """Yield why a task waits for others of its step, of which only some may run at a time.

    Each that has ended lets the next one in, in their order. So no more are under way than may be,
    whoever submits them.
    """
    if task.throttle and task.rank >= task.throttle + known.ended:
        yield Awaited(
            f"{task.throttle} tasks of its step may run at a time, and {known.ended} have ended",
            alive=known.works,
        )


def _doing(row: Attempt) -> str:
    """Return a clause about a job that has not ended, as far as a Watcher knows."""
    if row.outcome == Outcome.RETRIED.value:
        return "which is about to be tried again"
    if row.state == SUBMITTED:
        return f"whose job {row.job_id} on cluster {row.cluster} has not ended"
    return f"whose job for cluster {row.cluster} is not submitted yet"
