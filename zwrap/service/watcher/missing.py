"""Jobs that their batch system neither lists nor has a record of: alive, gone, or lost.

A job is lost only after its wrapper was not heard, and its claim not touched, for a while. Before
that it is looked up by its name, and cancelled, so that no other attempt runs beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from zwrap.attempt.record import GONE, LOST, NOWHERE, Attempt, Sighting
from zwrap.attempt.signs import FRESH_S
from zwrap.calls.ask import ask
from zwrap.host.clock import Clock
from zwrap.host.faults import is_shared
from zwrap.job import JobStatus, State
from zwrap.service.watcher.contract import Conclusion
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.submission.clusters import Cluster
from zwrap.units import LONGEST_S

log = logging.getLogger(__name__)

UNLIMITED_S = 14 * 86_400.0
"""Time that counts as the time limit of a job that asked for none, in seconds."""

LAST_LOOKS_S = 5.0
"""Time in each look after which no further job is looked up by its name, in seconds."""

HEARD = "the batch system does not list it, but its wrapper is heard"

CANCELLED = f"{NOWHERE}; it was cancelled in case it runs"
NOT_CANCELLED = f"{NOWHERE}; it could not be looked up or cancelled, and its time is over"
LOOKED_UP = CANCELLED, NOT_CANCELLED
"""Reasons of the state `GONE` after the last look."""


class Found(NamedTuple):
    """What was learned of missing jobs."""

    statuses: dict[str, JobStatus]
    """Token to the status of a job that the batch system knows by its name."""
    sightings: dict[str, Sighting]
    """Token to the state of each other job."""


class Missing:
    """The missing jobs of one cluster.

    Args:
        cluster: The cluster.
        conclusion: The way in which its attempts are concluded.
        heartbeats: Heartbeats of all wrappers.
        clock: Clock, in seconds, for the length of a look.
    """

    def __init__(
        self, cluster: Cluster, conclusion: Conclusion, heartbeats: Heartbeats, clock: Clock
    ) -> None:
        self._cluster = cluster
        self._settings = cluster.settings
        self._conclusion = conclusion
        self._heartbeats = heartbeats
        self._clock = clock
        self._silent_s = cluster.settings.silent_s
        self._asked: dict[str, float] = {}
        """Token to the time of the last look-up by name."""
        self._warned: set[str] = set()
        """Tokens of jobs whose look-up was told to have failed."""
        self._limits_s: dict[str, float] = {}
        """Token to the time limit, in seconds."""

    def keep(self, tokens: Collection[str]) -> None:
        """Forget all attempts but these."""
        self._asked = {token: at for token, at in self._asked.items() if token in tokens}
        self._warned &= set(tokens)
        self._limits_s = {each: limit for each, limit in self._limits_s.items() if each in tokens}

    def look(
        self, attempts: Sequence[Attempt], known: Mapping[str, JobStatus], now: float
    ) -> Found:
        """Return what can be said of missing jobs.

        Args:
            attempts: Attempts whose jobs are neither live nor recorded.
            known: Job id to the status of each job that the batch system told of.
            now: Time by the clock of the ledger, in seconds since the epoch.
        """
        sightings = {attempt.token: self._sighting(attempt, now) for attempt in attempts}
        silent = [each for each in attempts if sightings[each.token] is None]
        left = [each for each in silent if each.seen_reason not in LOOKED_UP]
        over = [each for each in silent if each.seen_reason in LOOKED_UP]
        found = self._last_looks(left, known, now)
        ends = {each.token: self._end(each, now) for each in over}
        waiting = {each.token: _sighting(each, GONE) for each in left}
        told = {token: sighting for token, sighting in sightings.items() if sighting}
        return Found(found.statuses, {**told, **ends, **waiting, **found.sightings})

    def _end(self, attempt: Attempt, now: float) -> Sighting:
        """Return the state of a job after its last look, perhaps another Watcher's.

        A job that was cancelled has an interval to end in.
        """
        had_time = now - (attempt.seen or now) >= self._settings.watch_s
        return _sighting(attempt, LOST, now) if had_time else _sighting(attempt, GONE)

    def _sighting(self, attempt: Attempt, now: float) -> Sighting | None:
        """Return the state of a missing job; None: it is lost, unless the last look tells more."""
        since = attempt.missing_since
        if since is None:
            heard = self._is_heard(attempt) and not self._conclusion.has_verdict(attempt)
            return _sighting(attempt, State.RUNNING.value if heard else GONE)
        if self._conclusion.has_verdict(attempt):
            return _sighting(attempt, LOST, now)
        may_live = self._may_be_open(attempt, since, now)
        if may_live and self._is_heard(attempt, was_heard=attempt.seen_reason == HEARD):
            return _sighting(attempt, State.RUNNING.value)
        if attempt.seen_state != GONE:
            return _sighting(attempt, GONE)
        waits = (
            attempt.seen_reason not in LOOKED_UP
            and now - (attempt.seen or now) <= self._settings.lost_s
        )
        return (
            _sighting(attempt, GONE)
            if may_live and (waits or self.lives(attempt, self._settings.lost_s))
            else None
        )

    # -- signs of life ---------------------------------------------------------------------------

    def _is_heard(self, attempt: Attempt, *, was_heard: bool = False) -> bool:
        """Tell whether heartbeats of the wrapper arrive.

        Of one that was heard before it is also true while nobody can be heard.
        """
        silent_s = self._heartbeats.silent_s(attempt.token)
        heard = silent_s is not None and silent_s < self._silent_s
        return heard or (was_heard and not self._was_silent(attempt))

    def _was_silent(self, attempt: Attempt) -> bool:
        """Tell whether nothing was heard of the wrapper in a time in which others were heard."""
        return self._heartbeats.was_silent(attempt.token, self._silent_s, self._silent_s)

    def lives(self, attempt: Attempt, within_s: float) -> bool:
        """Tell whether the wrapper gave a sign of life, or that cannot be told.

        Its claim is one for `within_s`, in seconds, but at least for as long as it is fresh.
        """
        if not self._was_silent(attempt):
            return True
        try:
            age_s = self._conclusion.claim_age_s(attempt)
        except Exception as error:  # of this job's directory
            return is_shared(error)
        return age_s is not None and age_s < max(FRESH_S, within_s)

    def _may_be_open(self, attempt: Attempt, since: float, now: float) -> bool:
        """Tell whether signs of life count: the time limit can hardly be over.

        The job began before `since`, when the batch system knew it last.
        """
        over_s = now - since - self._settings.overtime_s
        return over_s <= 0 or over_s <= self._limit_s(attempt)

    def _limit_s(self, attempt: Attempt) -> float:
        """Return the time limit of a job, in seconds; infinity if that cannot be told now."""
        if attempt.token not in self._limits_s:
            limit_s: float | None = None
            try:
                limit_s = self._conclusion.submission(attempt).asked.time_limit
            except Exception as error:  # of this job's directory
                if is_shared(error):
                    return float("inf")
            self._limits_s[attempt.token] = min(limit_s or UNLIMITED_S, LONGEST_S)
        return self._limits_s[attempt.token]

    # -- the last look ---------------------------------------------------------------------------

    def _last_looks(
        self, attempts: Sequence[Attempt], known: Mapping[str, JobStatus], now: float
    ) -> Found:
        """Look jobs up by name, and cancel those that are not found, until the time is over."""
        found = Found({}, {})
        deadline = self._clock() + LAST_LOOKS_S
        for attempt in sorted(attempts, key=lambda each: self._asked.get(each.token, 0.0)):
            if self._clock() > deadline:
                break
            self._asked[attempt.token] = self._clock()
            may_live = self._may_be_open(attempt, attempt.missing_since or now, now)
            try:
                status = self._last_look(attempt, known, may_live=may_live)
            except Exception as error:  # perhaps of a site's own class
                if not may_live:
                    sighting = _sighting(attempt, GONE, reason=NOT_CANCELLED)
                    found.sightings[attempt.token] = sighting
                elif attempt.token not in self._warned:
                    self._warned.add(attempt.token)
                    log.warning("Job %s may be lost, and cannot be looked up or cancelled: %s",
                                attempt.job_id, error)  # fmt: skip
                continue
            if status is None:
                found.sightings[attempt.token] = _sighting(attempt, GONE, reason=CANCELLED)
            elif status.state.is_final:
                found.statuses[attempt.token] = status
        return found

    def _last_look(
        self, attempt: Attempt, known: Mapping[str, JobStatus], *, may_live: bool
    ) -> JobStatus | None:
        """Return how a job ended by its name; None: nobody knows, and the job was cancelled.

        A state that is not final may be what an accounting keeps of a job that its batch system
        forgot. Such a job is asked about again at the next look, unless it must have ended by its
        time limit: then it is cancelled, too.
        """
        job_id, scheduler = str(attempt.job_id), self._cluster.scheduler
        named = _named(attempt, ask(scheduler.find(attempt.full_name)))
        if named and (may_live or named[0].state.is_final):
            return named[0]
        known_ids = {job_id, *(status.job_id for status in named)}
        ids = [each for each in known_ids if not self._is_anothers(each, attempt, known)]
        if ids:
            log.info("Job %s is not known any more; it is cancelled in case it runs", job_id)
            ask(scheduler.cancel(sorted(ids)))
        return None

    def _is_anothers(self, job_id: str, attempt: Attempt, known: Mapping[str, JobStatus]) -> bool:
        """Tell whether a job id, or its array, was given to a job of another name."""
        form = self._cluster.scheduler.arrays
        number = form.array_of(job_id) if form else job_id
        return any(
            (form.array_of(each.job_id) if form else each.job_id) == number
            and each.name != attempt.full_name
            for each in known.values()
        )


def _named(attempt: Attempt, found: list[JobStatus]) -> list[JobStatus]:
    """Return the statuses of the attempt's job, or of its task of an array; a live one is first."""
    mine = [
        status for status in found
        if status.name == attempt.full_name
        and (attempt.task is None or status.job_id == attempt.job_id)
    ]  # fmt: skip
    return sorted(mine, key=lambda each: each.state.is_final)


def _sighting(
    attempt: Attempt, state: str, ended: float | None = None, reason: str | None = None
) -> Sighting:
    """Return the state of a missing job.

    Args:
        attempt: The attempt.
        state: The state.
        ended: Time of the job's end, in seconds since the epoch.
        reason: Reason of the state; None: the usual one, which stays that of the last look.
    """
    if state == State.RUNNING.value:
        reason = HEARD
    elif reason is None:
        after_look = state == GONE and attempt.seen_reason in LOOKED_UP
        reason = attempt.seen_reason if after_look else NOWHERE
    return Sighting(state=state, reason=reason, node=attempt.node, ended=ended)
