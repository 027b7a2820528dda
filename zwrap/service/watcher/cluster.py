"""What a batch system says of the jobs of one cluster, asked once for all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import GONE, LOST, STALLED, STUCK, Attempt
from zwrap.calls.ask import ask
from zwrap.errors import ZwrapError
from zwrap.job import JobStatus, State
from zwrap.service.watcher.conclusion import End, last_words
from zwrap.service.watcher.events import Events
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.submission.clusters import Cluster
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

QUIET_FACTOR, AWAY_FACTOR = 1.8, 10.0
"""The interval grows up to so many times its usual length while nothing changes, or while the
cluster is away."""

LATER_S = 600.0
"""An expected start that moves by less is not told."""


class WatchedCluster:
    """What is known of one cluster and its jobs."""

    def __init__(
        self, cluster: Cluster, ledger: Ledger, transport: Transport, heartbeats: Heartbeats
    ) -> None:
        self._heartbeats = heartbeats
        self._cluster = cluster
        self._ledger = ledger
        self._words = last_words(cluster, ledger, transport)
        self._events = Events(cluster.name, transport)
        self._interval_s = cluster.settings.watch_s
        self._due = float("-inf")
        self._away: str | None = None
        """Why it cannot be asked."""
        self.has_endings = False
        """Whether jobs have ended of which the last word is still to be said."""
        self._starts: dict[str, float] = {}
        """Expected start that was told last, by token."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() >= self._due

    def look(self, jobs: Sequence[Attempt]) -> None:
        """Ask about all jobs at once, and tell what changed."""
        try:
            states = self._states([str(attempt.job_id) for attempt in jobs])
        except ZwrapError as error:
            self._is_away(str(error))
        else:
            self._is_up()
            changed = self._see(jobs, states)
            self._listen(jobs, states)
            self._give_up([each for each in jobs if self._is_stuck(each, states)])
            self._events.statistics(status.state for status in states.values())
            self._wait(changed, QUIET_FACTOR)

    # -- what the batch system says ----------------------------------------------------------------

    def _states(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Live jobs among these, and how those that are not live ended, as far as recorded."""
        scheduler = self._cluster.scheduler
        live = ask(scheduler.states())
        gone = [job_id for job_id in job_ids if job_id not in live]
        ended = ask(scheduler.accounting(gone)) if gone else {}
        return {job_id: live.get(job_id) or ended[job_id] for job_id in job_ids
                if job_id in live or job_id in ended}  # fmt: skip

    def _see(self, attempts: Sequence[Attempt], states: Mapping[str, JobStatus]) -> bool:
        """Write and tell what is new of jobs; whether anything is."""
        now = self._ledger.now()
        changes, news = {}, []
        for attempt in attempts:
            status = attempt.of(states)
            seen = self._gone(attempt, now) if status is None else _seen(status, now)
            starts = status.starts if status else None
            known = (attempt.seen_state, attempt.seen_reason)
            changed = (seen["seen_state"], seen["seen_reason"]) != known
            if changed:
                peak_mib = self._heartbeats.peak_memory_mib(attempt.token)
                changes[attempt.token] = {**seen, "peak_memory_mib": peak_mib}
            if self._moved(attempt.token, starts) or changed:
                news.append((attempt, seen, starts))
        self._ledger.see(changes)
        for attempt, seen, starts in news:
            facts = {key: seen[key] for key in ("node", "exit_code", "signal")}
            facts |= {"reason": seen["seen_reason"], "expected_start": starts}
            self._events.job(attempt, seen["seen_state"], facts)
            if seen["ended"]:
                self.has_endings = True
                self._starts.pop(attempt.token, None)
        return bool(changes)

    def _gone(self, attempt: Attempt, now: float) -> dict[str, Any]:
        """Of a job that is neither live nor recorded: its record may come, or it has spoken."""
        since = attempt.seen if attempt.seen_state == GONE else None
        lost = since is not None and now - since > self._cluster.settings.lost_s
        return _away(attempt, lost or (since is not None and self._words.has_spoken(attempt)), now)

    def _moved(self, token: str, starts: float | None) -> bool:
        """Whether a job is expected to start at quite another time than was told."""
        told = self._starts.get(token)
        if starts is None or (told is not None and abs(starts - told) < LATER_S):
            return False
        self._starts[token] = starts
        return True

    def _listen(self, attempts: Sequence[Attempt], states: Mapping[str, JobStatus]) -> None:
        """Note of which jobs nothing is heard although they run, and which are heard again."""
        changes: dict[str, dict[str, float | None]] = {}
        for attempt in attempts:
            status = attempt.of(states)
            running = status is not None and status.state is State.RUNNING
            silent_s = self._heartbeats.silent_s(attempt.token) if running else None
            stalled = silent_s is not None and 0 < self._cluster.settings.stalled_s <= silent_s
            if stalled and attempt.stalled is None:
                changes[attempt.token] = {"stalled": self._ledger.now() - (silent_s or 0.0)}
                reason = f"it runs, but its wrapper was not heard of for {silent_s:.0f} s"
                log.warning("Job %s is stalled: %s", attempt.job_id, reason)
                self._events.job(attempt, STALLED, {"reason": reason})
            elif attempt.stalled and (not running or (silent_s is not None and not stalled)):
                changes[attempt.token] = {"stalled": None}
                if running:
                    self._events.job(attempt, State.RUNNING.value, {"reason": "it is heard again"})
            if status is not None and status.state.is_final:
                self._heartbeats.forget(attempt.token)
        self._ledger.record(changes)

    # -- the last word -----------------------------------------------------------------------------

    def _is_stuck(self, attempt: Attempt, states: Mapping[str, JobStatus]) -> bool:
        """Whether it has waited long enough for what will never come, unless a person helps.

        Of a job that runs, on a host that does not answer, its wrapper may still be heard.
        """
        status = attempt.of(states)
        if status is None or not status.stuck or attempt.seen_reason != status.reason:
            return False
        silent_s = self._heartbeats.silent_s(attempt.token)
        if silent_s is not None and silent_s < self._cluster.settings.stalled_s:
            return False
        return self._ledger.now() - (attempt.seen or 0.0) >= self._cluster.settings.give_up_s

    def _give_up(self, attempts: Sequence[Attempt]) -> None:
        """Speak for jobs that can never start, or whose host is gone, then cancel them.

        In that order: a job that starts all the same finds the verdict, and ends.
        """
        given_up = [replace(attempt, seen_state=_given_up(attempt)) for attempt in attempts]
        ends = [(attempt, self._words.say(attempt)) for attempt in given_up]
        spoken = [(attempt, end) for attempt, end in ends if end]
        if not spoken:
            return
        try:
            ask(self._cluster.scheduler.cancel([str(attempt.job_id) for attempt, _ in spoken]))
        except ZwrapError as error:
            log.warning("%d jobs that were given up stay for now: %s", len(spoken), error)
            return
        for attempt, end in spoken:
            seen = {"seen_state": attempt.seen_state, "ended": self._ledger.now()}
            self._ledger.see({attempt.token: seen})
            self._concluded(attempt, end)

    def conclude(self, attempts: Sequence[Attempt]) -> None:
        """Have the last word on jobs that ended."""
        self.has_endings = bool(attempts)
        for attempt in attempts:
            self._conclude(attempt)

    def _conclude(self, attempt: Attempt) -> None:
        """Have the last word on a job, once all that it said itself must have been seen."""
        if self._ledger.now() - (attempt.ended or 0.0) >= self._words.settle_s(attempt):
            self._concluded(attempt, self._words.say(attempt))

    def _concluded(self, attempt: Attempt, end: End | None) -> None:
        if end is None:
            return
        facts = end._asdict()
        self._ledger.see({attempt.token: facts})
        self._events.job(attempt, str(attempt.seen_state), facts)
        log.info("Job %s: %s (%s): %s", attempt.job_id, end.outcome, end.witness, end.cause)

    # -- the cluster -------------------------------------------------------------------------------

    def _is_away(self, reason: str) -> None:
        if self._away is None:
            log.warning("Cluster %s is away: %s", self._cluster.name, reason)
        self._away = reason
        self._events.cluster("away", reason, self._interval_s * AWAY_FACTOR)
        self._wait(False, AWAY_FACTOR)

    def _is_up(self) -> None:
        if self._away is not None:
            log.info("Cluster %s is up again", self._cluster.name)
            self._interval_s = self._cluster.settings.watch_s
        self._away = None
        self._events.cluster("up", None, self._interval_s * AWAY_FACTOR)

    def _wait(self, changed: bool, factor: float) -> None:
        """Until the next look: its usual interval after a change, else half as long again."""
        usual = self._cluster.settings.watch_s
        longer = min(self._interval_s * 1.5, usual * factor)
        self._interval_s = usual if changed else longer
        self._due = time.monotonic() + self._interval_s


def _given_up(attempt: Attempt) -> str:
    """What has become of a job for which there is no hope."""
    running = attempt.seen_state == State.RUNNING.value
    return State.NODE_FAIL.value if running else STUCK


def _seen(status: JobStatus, now: float) -> dict[str, Any]:
    return {
        "seen_state": status.state.value,
        "seen_reason": status.reason,
        "node": status.node,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "ended": now if status.state.is_final else None,
    }


def _away(attempt: Attempt, is_over: bool, now: float) -> dict[str, Any]:
    return {
        "seen_state": LOST if is_over else GONE,
        "seen_reason": "the batch system has neither a live job nor a record of it",
        "node": attempt.node,
        "exit_code": None,
        "signal": None,
        "ended": now if is_over else None,
    }
