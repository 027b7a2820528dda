"""The jobs that a query means, how many they are, and by what they differ."""

from __future__ import annotations

import fnmatch
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.query import PAGE
from zwrap.attempt.record import STALLED, SUBMITTED, Attempt
from zwrap.errors import MessageError, UnknownNameError
from zwrap.job import Outcome
from zwrap.monitor.kept import agrees, owner_of, program_of, submission_of, working_directory
from zwrap.monitor.selection import Query
from zwrap.monitor.states import NO_JOB, Answers, KnownJob, job_of, may_live

MOST_NAMED = 5
"""Largest number of attempts that are named where several are meant."""

SHORTEST_NUMBER = 8
"""Smallest number of characters from which a name of digits alone may be the beginning of a token;
a shorter one is a job id, of which a digit too few must not mean another job."""

OUTCOMES = frozenset(each.value for each in Outcome)


class Found(msgspec.Struct):
    """Jobs that a query means, oldest first."""

    jobs: list[KnownJob]
    last_looked: Attempt | None = None
    """The oldest job whose files were looked into, if older ones were not; None: all were."""


def find(ledger: Ledger, query: Query, answers: Answers, number: int | None = None) -> Found:
    """Return the newest jobs that a query means, `number` at most; None: all.

    Raises:
        MessageError: An ID may mean several jobs, or the beginning of a recipe's ID several.
        UnknownNameError: No job or recipe has such an ID.
    """
    looking = _Looking(ledger, query, answers)
    jobs = list(itertools.islice(looking.jobs(number), number))
    jobs.sort(key=lambda job: (job.attempt.created, job.attempt.token))
    return Found(jobs, looking.last_looked)


def count(
    ledger: Ledger, query: Query, answers: Answers, by: Sequence[str] = ()
) -> tuple[Counter[tuple[str, ...]], Attempt | None]:
    """Return how many jobs have which values of these fields (`FIELDS`), and `Found.last_looked`.

    Concluded jobs are counted by the database where columns of the ledger can tell. Errors are
    those of `find`.
    """
    looking = _Looking(ledger, query, answers)
    counted: Counter[tuple[str, ...]] = Counter()
    if query.ids or query.needs_files or any(COLUMNS.get(name) is None for name in by):
        jobs = looking.jobs(None, with_files="program" in by or "user" in by)
    else:
        if looking.outcomes:
            counted.update(_in_columns(ledger, query, looking, by))
        jobs = looking.unconcluded_jobs()
    for job in jobs:
        counted[tuple(FIELDS[name](job, ledger) or "" for name in by)] += 1
    return counted, looking.last_looked


def one_of(ledger: Ledger, given: str) -> Attempt:
    """Return the attempt with a job id, a token that begins so, or ``cluster:job``.

    Digits alone are the beginning of a token only if they are `SHORTEST_NUMBER` at least.

    Raises:
        MessageError: The name is empty, or several attempts match.
        UnknownNameError: No attempt matches.
    """
    if not given:
        raise MessageError(
            "The name of a job is empty; a job id or the beginning of a token is expected."
        )
    cluster, colon, job_id = given.rpartition(":")
    asked = ledger.queries
    is_number = given.isdecimal() and len(given) < SHORTEST_NUMBER
    for found in (
        asked.with_job_id(given, MOST_NAMED + 1),
        asked.with_job_id(job_id, MOST_NAMED + 1, cluster) if colon else [],
        [] if is_number else asked.with_beginning(given, MOST_NAMED + 1),
    ):
        if len(found) > 1:
            names = ", ".join(f"{each.token} on {each.cluster}" for each in found[:MOST_NAMED])
            raise MessageError(
                f"{given!r} may mean {names}; write more of the token, or CLUSTER:JOB."
            )
        if found:
            return found[0]
    last = asked.newest(20)
    further = f"A number of fewer than {SHORTEST_NUMBER} digits is a job id." if is_number else ""
    known = [each.job_id or each.token for each in last]
    raise UnknownNameError("job", given, known, further=further)


def recipe_of(ledger: Ledger, given: str) -> str | None:
    """Return the ID of the recipe that begins so; None: no job has one.

    Raises:
        MessageError: Several begin so.
    """
    found = ledger.queries.recipes(given, MOST_NAMED + 1) if given else []
    if len(found) > 1 and given not in found:
        names = ", ".join(found[:MOST_NAMED])
        raise MessageError(f"--recipe {given!r} may mean {names}; write more of it.")
    return given if len(found) != 1 else found[0]


class _Looking:
    """A look through the ledger for the jobs that a query means."""

    def __init__(self, ledger: Ledger, query: Query, answers: Answers) -> None:
        self._ledger, self._query, self._answers = ledger, query, answers
        self.last_looked: Attempt | None = None
        recipes = [recipe_of(ledger, each) or each for each in query.recipes]
        self.rows = query.rows(recipes)
        wanted = set(query.states)
        self.outcomes = sorted(wanted & OUTCOMES if wanted else OUTCOMES)
        with_job = {SUBMITTED} if wanted - NO_JOB or not wanted else set()
        self._row_states = with_job | (wanted & NO_JOB if wanted else NO_JOB)

    def jobs(self, number: int | None, *, with_files: bool = False) -> Iterator[KnownJob]:
        """Yield the jobs, newest first; those that are named, in the order of their names.

        Args:
            number: How many are wanted, as far as is known; None: all.
            with_files: True if the files of each job will be looked into.
        """
        query, asked = self._query, self._ledger.queries
        if query.ids:
            attempts = list({row.token: row for row in self._named()}.values())
            yield from self._fitting(iter(attempts), len(attempts) or 1)
            return
        plain = not (query.states or query.causes or query.needs_files or with_files)
        if plain and number is not None:
            yield from self._fitting(iter(asked.newest(number, self.rows)), number)
            return
        streams = [self._unconcluded()]
        if query.states or query.causes:
            ended = self.rows._replace(causes=query.causes)
            streams += [asked.each(ended, outcome=each) for each in self.outcomes]
        else:
            streams = [asked.each(self.rows)]
        rows = _each_once(
            heapq.merge(*streams, key=lambda row: (row.created, row.token), reverse=True)
        )
        if query.needs_files or with_files:
            rows = self._bounded(rows)
        yield from self._fitting(rows, PAGE)

    def unconcluded_jobs(self) -> Iterator[KnownJob]:
        """Yield those of the jobs whose end is not recorded."""
        yield from self._fitting(self._unconcluded(), PAGE)

    def _unconcluded(self) -> Iterator[Attempt]:
        """Return rows whose end is not recorded, newest first."""
        return self._ledger.queries.each(self.rows, states=sorted(self._row_states))

    def _named(self) -> Iterator[Attempt]:
        """Yield the attempts that the query names, as far as their rows fit."""
        for given in self._query.ids:
            attempt = one_of(self._ledger, given)
            if _row_fits(attempt, self._query, self.rows.recipes):
                yield attempt

    def _bounded(self, rows: Iterator[Attempt]) -> Iterator[Attempt]:
        """Yield as many rows as may be looked into; note the last one if there are more."""
        last = None
        for number, row in enumerate(rows):
            if number >= self._query.look:
                self.last_looked = last
                return
            last = row
            yield row

    def _fitting(self, rows: Iterator[Attempt], page: int) -> Iterator[KnownJob]:
        """Yield the jobs of rows that fit the query; clusters are asked for a page of them."""
        while some := list(itertools.islice(rows, page)):
            self._answers.turn_to(some)
            for attempt in some:
                if self._may_be(attempt):
                    job = job_of(attempt, self._answers)
                    if self._fits(job):
                        yield job

    def _may_be(self, attempt: Attempt) -> bool:
        """Tell whether it takes a look into the directory of an attempt to know whether it fits.

        No verdict is looked for while the batch system lists the job in another state.
        """
        wanted = self._query.states
        if not wanted or not may_live(attempt):
            return True
        live = self._answers.live(attempt.cluster)
        status = live.of(attempt) if live is not None else None
        return status is None or status.state.value in wanted or STALLED in wanted

    def _fits(self, job: KnownJob) -> bool:
        """Tell whether a job, whose row fits, is meant."""
        query = self._query
        if query.states and job.state not in query.states:
            return False
        if query.causes and not any(_is_cause(job, each) for each in query.causes):
            return False
        if query.users and owner_of(job.attempt) not in query.users:
            return False
        if not (query.programs or query.where):
            return True
        kept = submission_of(job.attempt, self._ledger)
        if query.programs and program_of(job, kept) not in query.programs:
            return False
        return agrees(kept, query.where) if query.where else True


def _each_once(rows: Iterable[Attempt]) -> Iterator[Attempt]:
    """Yield rows, each token once: a job that is concluded meanwhile is in two streams."""
    seen: set[str] = set()
    for row in rows:
        if row.token not in seen:
            seen.add(row.token)
            yield row


def _is_cause(job: KnownJob, cause: str) -> bool:
    """Tell whether a job has a cause, by its label or by words of it."""
    return job.label == cause or cause.lower() in job.cause.lower()


def _row_fits(attempt: Attempt, query: Query, recipes: Sequence[str]) -> bool:
    """Tell whether the row of an attempt that was named fits the other fields of a query."""
    name, place = attempt.job_name.lower(), working_directory(attempt)
    return (
        (not recipes or attempt.recipe_id in recipes)
        and (not query.clusters or attempt.cluster in query.clusters)
        and (not query.steps or attempt.step in query.steps)
        and (not query.names or any(fnmatch.fnmatchcase(name, e.lower()) for e in query.names))
        and (not query.directories or any(map(place.is_relative_to, query.directories)))
        and (query.since is None or attempt.created >= query.since)
        and (query.until is None or attempt.created < query.until)
    )


def _in_columns(
    ledger: Ledger, query: Query, looking: _Looking, by: Sequence[str]
) -> Counter[tuple[str, ...]]:
    """Return how many concluded jobs have which values, as the database counts them."""
    columns = list(dict.fromkeys(["outcome", *(each for name in by for each in COLUMNS[name])]))
    rows = looking.rows._replace(causes=query.causes)
    counted: Counter[tuple[str, ...]] = Counter()
    for values, number in ledger.queries.numbers(rows, columns).items():
        row = dict(zip(columns, values, strict=True))
        if row["outcome"] in looking.outcomes:
            told = [next((row[c] for c in COLUMNS[name] if row[c] is not None), "") for name in by]
            counted[tuple(_line(each) for each in told)] += number
    return counted


def _line(value: object) -> str:
    """Return a value as one line of text."""
    return (str(value).splitlines() or [""])[0]


COLUMNS: dict[str, tuple[str, ...]] = {
    "state": ("outcome",), "cause": ("cause_label", "cause"), "name": ("job_name",),
    "step": ("step",), "cluster": ("cluster",), "recipe": ("recipe_id",),
}  # fmt: skip
"""Field by which jobs can be counted, to the columns of the ledger that hold it, the first that is
not empty."""

FIELDS: dict[str, Callable[[KnownJob, Ledger], str | None]] = {
    "state": lambda job, _: job.state,
    "cause": lambda job, _: job.label or _line(job.cause),
    "name": lambda job, _: job.attempt.job_name,
    "step": lambda job, _: _line(job.attempt.step if job.attempt.step is not None else ""),
    "cluster": lambda job, _: job.attempt.cluster,
    "recipe": lambda job, _: job.attempt.recipe_id,
    "directory": lambda job, _: str(working_directory(job.attempt)),
    "program": lambda job, ledger: program_of(job, submission_of(job.attempt, ledger)),
    "user": lambda job, _: owner_of(job.attempt),
}
"""Field by which jobs can be counted, to the value that a job has."""
