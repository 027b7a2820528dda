"""What the ledger says of each step of a run of a recipe."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from zwrap.attempt.record import GIVEN_UP, IN_DOUBT, REJECTED, SUBMITTED, WAITING, Attempt
from zwrap.job import Outcome
from zwrap.submission.holds import THROTTLED

Run = tuple[str, str | None]
"""ID of a recipe, and the digest of its run; None: a run of an earlier release, which goes by the
ID alone."""


class Progress(NamedTuple):
    """What the ledger says of a step."""

    latest: Sequence[Attempt] = ()
    """The last attempt of each message at the step."""
    jobs: int = 0
    """Number of its jobs that are known; tasks are told apart by their places, if these are."""
    works: bool = False
    """True if one has not ended, and waits for none of its own step."""
    ended: Mapping[str | None, Sequence[int]] = {}
    """Places of the tasks that have ended among those of their step, in ascending order, by the
    message that named all tasks; None: rows of an earlier release."""
    doubles: Collection[str] = ()
    """Messages that were refused and never had a job, where another has their place; those for
    tasks whose places are known count for nothing else. Tasks of an earlier release have none."""

    def of_jobs(self, count: int) -> Sequence[Attempt]:
        """Return the attempts that decide for a step that is so many jobs."""
        if count > 1:
            return self.latest
        return [row for row in self.latest if row.family not in self.doubles]

    def ended_before(self, rank: int, task_of: str | None) -> int:
        """Return the number of tasks that come before the place `rank` and have ended.

        Those of another message at the step do not count, unless that of the task is not known. A
        task whose place is known, but not its message, is of another one.
        """
        if task_of is None:
            return sum(bisect.bisect_left(ranks, rank) for ranks in self.ended.values())
        former = bisect.bisect_left(self.ended.get(None, ()), 0)
        return former + bisect.bisect_left(self.ended.get(task_of, ()), rank)


def of_runs(rows: Sequence[Attempt], runs: Iterable[Run]) -> dict[Run, dict[int, Progress]]:
    """Return what rows say of each step of runs, by the run and the step."""
    found = _Rows(rows)
    return {run: _by_step(found.of_run(*run)) for run in runs}


class _Rows:
    """Rows of the ledger by the runs to which they belong."""

    def __init__(self, rows: Sequence[Attempt]) -> None:
        families: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
        for row in rows:
            families[str(row.recipe_id), row.family].append(row)
        self._of_run: dict[Run, list[Attempt]] = defaultdict(list)
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


def _by_step(rows: Sequence[Attempt]) -> dict[int, Progress]:
    """Return what the rows of a run say of each step."""
    steps: dict[int, list[Attempt]] = defaultdict(list)
    for row in rows:
        steps[row.step or 0].append(row)
    return {step: _progress(attempts) for step, attempts in steps.items()}


def _progress(rows: Sequence[Attempt]) -> Progress:
    """Return what the rows of a step say."""
    latest: dict[str, Attempt] = {}
    for row in rows:
        if row.state == REJECTED and row.outcome == Outcome.RETRIED.value:
            continue  # a step with tasks that was refused as a whole, before it was taken apart
        if row.family not in latest or latest[row.family].number < row.number:
            latest[row.family] = row
    failed = {family for family, row in latest.items() if has_failed(row)}
    doubles = _doubles(rows, latest, failed)
    latest = {
        family: row
        for family, row in latest.items()
        if family not in doubles or row.task_rank is None
    }
    ended: dict[str | None, list[int]] = defaultdict(list)
    works = False
    for family, row in latest.items():
        if family in failed or row.outcome == Outcome.SUCCESS.value:
            if row.task_rank is not None:
                ended[row.task_of].append(row.task_rank)
            elif row.task_of is None:  # of an earlier release; not a step refused as a whole
                ended[None].append(-1)
        elif is_alive(row) and not THROTTLED.search(row.reason or ""):
            works = True
    jobs = {row.family if row.task_rank is None else row.task_rank for row in latest.values()}
    places = {key: sorted(ranks) for key, ranks in ended.items()}
    return Progress(list(latest.values()), len(jobs), works, places, doubles)


def _doubles(
    rows: Sequence[Attempt], latest: Mapping[str, Attempt], failed: Collection[str]
) -> set[str]:
    """Return the messages that were refused and never had a job, where another has their place.

    Whoever may send messages can send such a one for a step of somebody else.
    """
    taken = {row.task_rank for family, row in latest.items() if family not in failed}
    refused = {
        family
        for family in failed
        if latest[family].state == REJECTED and latest[family].task_rank in taken
    }
    return refused - {row.family for row in rows if row.job_id}


def has_failed(row: Attempt) -> bool:
    """Return True if no further attempt follows by itself on one without success."""
    if row.state in IN_DOUBT and row.reason == GIVEN_UP:
        return True
    ended = (Outcome.FAILURE.value, Outcome.UNKNOWN.value)
    return row.state == REJECTED or row.outcome in ended


def is_alive(row: Attempt) -> bool:
    """Return True if somebody is at work on an attempt that has not ended."""
    return row.state in (SUBMITTED, WAITING) and row.outcome is None
