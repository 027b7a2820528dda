"""Jobs that wait for others of their recipe: for other steps, or for tasks of their own step.

The ledger tells how these ended, so that it does not matter on which cluster they ran, and a
further attempt at a step takes the place of the one before. Batch systems are not asked to order
jobs: the one that would have to wait may be another one, and a job that is tried again has a new
id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import IN_DOUBT, SUBMITTED, Attempt
from zwrap.job import JobRequest, Outcome
from zwrap.scheduler import Busy, Rejected
from zwrap.submission.holds import Awaited
from zwrap.submission.outcomes import Barred
from zwrap.submission.pending import PendingJob
from zwrap.submission.progress import Progress, has_failed, is_alive, of_runs

Unmet = Callable[[Sequence[PendingJob]], Mapping[str, Busy | Rejected]]
"""Function from jobs to the tokens of those that wait, or can never run, and why."""

PUT_BACK_S = 600.0
"""Time for which a dead letter that was put back waits for another attempt at a step that had
failed before, in seconds."""


def nothing_unmet(jobs: Sequence[PendingJob]) -> Mapping[str, Busy | Rejected]:
    """Return no reason to wait for any job."""
    del jobs
    return {}


class Dependencies:
    """What the ledger says of the steps that jobs wait for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def answers(self, jobs: Sequence[PendingJob]) -> dict[str, Busy | Rejected]:
        """Return why jobs wait, or can never run, by token; a job that may run is not in it."""
        waiting = [job for job in jobs if job.attempt.recipe_id and _is_bound(job.request)]
        if not waiting:
            return {}
        runs = {(str(job.attempt.recipe_id), job.attempt.run) for job in waiting}
        rows = self._ledger.of_recipes(sorted({recipe_id for recipe_id, _ in runs}))
        steps = of_runs(rows, runs)
        of_steps: dict[object, Awaited | Barred | None] = {}
        found: dict[str, Busy | Rejected] = {}
        for job in waiting:
            run = str(job.attempt.recipe_id), job.attempt.run
            answers: list[Awaited | Barred | None] = []
            for step, count in job.request.after.items():
                put_back = job.attempt.number > 1
                key = run, step, count, put_back  # many tasks may wait for one step with many
                if key not in of_steps:
                    known = steps[run].get(step, Progress())
                    of_steps[key] = _first(_of_step(step, count, known, put_back=put_back))
                answers.append(of_steps[key])
            own = steps[run].get(job.attempt.step or 0, Progress())
            answers += _of_tasks(job, own)
            answer = _first(each for each in answers if each)
            if answer:
                found[job.attempt.token] = answer
        return found


def _is_bound(request: JobRequest) -> bool:
    """Return True if other jobs decide when a job may be submitted."""
    return bool(request.after or (request.task and request.task.throttle))


def _first(answers: Iterable[Awaited | Barred]) -> Awaited | Barred | None:
    """Return a refusal, else a wait for what is under way, else another wait; None: there is none.

    Of several the first one counts.
    """

    def place(answer: Awaited | Barred) -> int:
        return 2 - answer.alive if isinstance(answer, Awaited) else 0

    return min(answers, key=place, default=None)


def _of_step(
    step: int, count: int, known: Progress, *, put_back: bool
) -> Iterator[Awaited | Barred]:
    """Yield why a job waits for a step with that number of jobs, or can never run after it.

    Who puts its dead letter back (`put_back`) does so with that of the other step, perhaps, which
    may come later. So a failure of before is final only after some time.

    The words about what is under way and about what is not differ, because the time for which a job
    waits for the latter begins with them.
    """
    for row in known.of_jobs(count):
        if row.outcome == Outcome.SUCCESS.value:
            continue
        if not has_failed(row):
            yield Awaited(f"it waits for step {step}, {_doing(row)}", alive=is_alive(row))
            continue
        why = (row.cause or row.reason or "its job ended otherwise").rstrip(".")
        if put_back:
            words = f"it waits for step {step}, which had failed before this one was put back"
            yield Awaited(f"{words}: {why}", alive=False, longest_s=PUT_BACK_S)
        else:
            yield Barred(f"step {step}, after which it was to run, failed: {why}")
    if known.jobs < count:
        words = f"it waits for step {step}, of which {known.jobs} of {count} jobs are known"
        yield Awaited(words, alive=False)


def _of_tasks(job: PendingJob, known: Progress) -> Iterator[Awaited]:
    """Yield why a task waits for others of its step, of which only some may run at a time.

    Each that has ended lets the next one in, in their order, and one that ends before its turn,
    because it is cancelled, lets in none. So no more are under way than may be, whoever submits
    them.
    """
    task = job.request.task
    if task is None or not task.throttle:
        return
    ended = known.ended_before(task.rank, job.attempt.task_of)
    if task.rank >= task.throttle + ended:
        words = f"{task.throttle} tasks of its step may run at a time, and {ended} have ended"
        none = "" if known.works else "; none is known to be under way"
        yield Awaited(f"{words}{none}", alive=known.works)


def _doing(row: Attempt) -> str:
    """Return a clause about a job that has not ended, as far as a Watcher knows."""
    if row.outcome == Outcome.RETRIED.value:
        return "which is about to be tried again"
    if row.state == SUBMITTED:
        return f"whose job {row.job_id} on cluster {row.cluster} has not ended"
    if row.state in IN_DOUBT:
        return f"whose job for cluster {row.cluster} is being submitted"
    return f"whose job for cluster {row.cluster} is not submitted yet"
