"""The jobs of one cluster: one question about all of them, their changes, and their ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.listing import Listing
from zwrap.attempt.record import STALLED, Attempt, Sighting
from zwrap.attempt.verdict import Verdict
from zwrap.calls.ask import ask
from zwrap.errors import ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.host.seldom import Seldom
from zwrap.job import JobStatus, State
from zwrap.service.faults import Faults
from zwrap.service.watcher.conclusion import conclusion_for
from zwrap.service.watcher.events import Events
from zwrap.service.watcher.heartbeats import Heartbeats
from zwrap.service.watcher.hopeless import given_up
from zwrap.service.watcher.missing import Missing
from zwrap.service.watcher.overdue import Overdue
from zwrap.service.watcher.rows import Rows
from zwrap.service.watcher.sightings import milestones, seen, since
from zwrap.submission.clusters import Cluster
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

LENGTHENING = 1.5
"""Ratio of each interval to the last one while nothing changes."""

QUIET_FACTOR, AWAY_FACTOR = 1.8, 10.0
"""Ratios of the longest interval to the usual one, while nothing changes and while the cluster
cannot be asked."""

START_MOVED_S = 600.0
"""Least change of an expected start that is broadcast, in seconds."""


class WatchedCluster:
    """One cluster whose jobs are followed: when to ask about them, and the conclusion of each."""

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        transport: Transport,
        heartbeats: Heartbeats,
        clock: Clock = elapsed,
        faults: Faults | None = None,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._heartbeats = heartbeats
        self._clock = clock
        self._conclusion = conclusion_for(cluster, ledger, transport, heartbeats)
        self._rows = Rows(
            "its end is not reported", self._give_up_on, self._conclusion.message_id,
            faults or Faults(), clock,
        )  # fmt: skip
        self._overdue = Overdue(
            self._conclusion.has_verdict, heartbeats, cluster.settings, clock
        )  # fmt: skip
        self._missing = Missing(cluster, self._conclusion, heartbeats, clock)
        self._events = Events(cluster.name, transport)
        self._backoff = Backoff(
            cluster.settings.watch_s, cluster.settings.watch_s, factor=LENGTHENING
        )
        self._due = float("-inf")
        self._away: str | None = None
        """Reason why the cluster cannot be asked; None: it can."""
        self._warnings = Seldom(clock)
        self._has_endings = False
        """True if jobs have ended that are not yet concluded."""
        self._starts: dict[str, float] = {}
        """Token to the expected start that was broadcast last."""

    def turn(self) -> None:
        """Ask about live jobs if that is due, and conclude those that have ended."""
        is_due = self._clock() >= self._due
        try:
            if is_due:
                self._due = self._clock() + self._cluster.settings.watch_s
                self.look([each for each in self._unconcluded() if each.ended is None])
        finally:  # whatever a live job has brought about, others have ended
            if is_due or self._has_endings:
                jobs = self._unconcluded()
                self._keep({each.token for each in jobs})
                self.conclude([each for each in jobs if each.ended is not None])

    @property
    def has_common_fault(self) -> bool:
        """True while several jobs wait that met the same unforeseen exception."""
        return self._rows.is_common

    def close(self) -> None:
        """Let go of all jobs, whose messages may be on their way."""
        self._keep(set())

    def _keep(self, tokens: set[str]) -> None:
        """Let go of all jobs but these."""
        self._rows.keep(tokens)
        self._missing.keep(tokens)
        self._conclusion.keep(tokens)

    def _unconcluded(self) -> list[Attempt]:
        """Return the cluster's attempts that are not yet concluded."""
        return self._ledger.unconcluded(self._cluster.name)

    def look(self, jobs: Sequence[Attempt]) -> None:
        """Ask about all jobs with one question; record and broadcast the changes."""
        now = self._ledger.now()
        try:
            states, others, untold = self._states(jobs, now)
        except ZwrapError as error:
            self._is_away(str(error))
        except Exception as error:  # of a batch system's class, perhaps a site's own
            if self._away is None:
                log.exception("Cluster %s cannot be asked", self._cluster.name)
            self._is_away(f"its answer cannot be read: {type(error).__name__}: {error}")
        else:
            self._is_up()
            jobs = [each for each in jobs if each.token not in untold]
            missing = [each for each in jobs if each.token not in states]
            found = self._missing.look(missing, others, now)
            states |= found.statuses
            changed = self._see(jobs, states, found.sightings)
            self._listen(jobs, states)
            self._end_overdue(jobs, states)
            self._give_up(self._hopeless(jobs, states))
            self._events.statistics(status.state for status in states.values())
            self._wait(changed, QUIET_FACTOR)

    # -- states in the batch system --------------------------------------------------------------

    def _states(
        self, jobs: Sequence[Attempt], now: float
    ) -> tuple[dict[str, JobStatus], dict[str, JobStatus], set[str]]:
        """Return the status of each job that is live, or whose end is recorded, by token.

        Beside it the status of each job of the user by job id, and the tokens of jobs of which
        nothing can be told now, for they are not live and the accounting cannot be asked.
        """
        scheduler = self._cluster.scheduler
        live = Listing(ask(scheduler.states()))
        states = {each.token: status for each in jobs if (status := live.of(each))}
        left = [each for each in jobs if each.token not in states]
        try:
            gone_s = {str(each.job_id): each.gone_s(now) for each in left}
            ended = ask(scheduler.accounting(gone_s)) if gone_s else {}
        except ZwrapError as error:
            if not states:
                raise
            if self._warnings.due("accounting"):
                log.warning("Cluster %s tells of no ends: %s", self._cluster.name, error)
            return states, live.statuses, {each.token for each in left}
        states |= {each.token: status for each in left if (status := each.of(ended))}
        return states, {**ended, **live.statuses}, set()

    def _see(
        self,
        attempts: Sequence[Attempt],
        states: Mapping[str, JobStatus],
        missing: Mapping[str, Sighting],
    ) -> bool:
        """Record and broadcast changes of jobs; return True if there were any.

        `missing`: token to the state of each job that has no status.
        """
        now = self._ledger.now()
        changes: dict[str, Sighting] = {}
        times: dict[str, dict[str, float | None]] = {}
        told: list[tuple[Attempt, Sighting, float | None]] = []
        for attempt in attempts:
            status = states.get(attempt.token)
            sighting = seen(status, now) if status else missing[attempt.token]
            starts = status.starts if status else None
            known = (attempt.seen_state, attempt.seen_reason)
            changed = (sighting.state, sighting.reason) != known
            if changed:
                peak_mib = self._heartbeats.peak_memory_mib(attempt.token)
                changes[attempt.token] = replace(sighting, peak_memory_mib=peak_mib)
            if begun := since(attempt, status, sighting, now):
                times[attempt.token] = begun
            if self._moved(attempt.token, starts) or changed:
                told.append((attempt, sighting, starts))
        self._ledger.record_sightings(changes)
        if times:
            self._ledger.record(times)
        self._tell(told)
        return bool(changes)

    def _tell(self, sightings: Sequence[tuple[Attempt, Sighting, float | None]]) -> None:
        """Broadcast states of jobs, each with its expected start."""
        for attempt, sighting, starts in sightings:
            facts = {
                "node": sighting.node, "exit_code": sighting.exit_code, "signal": sighting.signal,
                "reason": sighting.reason, "expected_start": starts,
            }  # fmt: skip
            self._events.job(attempt, sighting.state, facts)
            if sighting.ended:
                self._has_endings = True
                self._starts.pop(attempt.token, None)

    def _moved(self, token: str, starts: float | None) -> bool:
        """Return True if the expected start of a job differs from the one that was broadcast."""
        told = self._starts.get(token)
        if starts is None or (told is not None and abs(starts - told) < START_MOVED_S):
            return False
        self._starts[token] = starts
        return True

    def _listen(self, attempts: Sequence[Attempt], states: Mapping[str, JobStatus]) -> None:
        """Record and broadcast jobs that run without heartbeats, or that send them again."""
        changes: dict[str, dict[str, float | None]] = {}
        for attempt in attempts:
            status = states.get(attempt.token)
            running = status is not None and status.state is State.RUNNING
            silent_s = self._heartbeats.silent_s(attempt.token) if running else None
            stalled = silent_s is not None and 0 < self._cluster.settings.stalled_s <= silent_s
            if stalled and attempt.stalled is None:
                changes[attempt.token] = {"stalled": self._ledger.now() - (silent_s or 0.0)}
                reason = f"it runs, but its wrapper has been silent for {silent_s:.0f} s"
                log.warning("Job %s is stalled: %s", attempt.job_id, reason)
                self._events.job(attempt, STALLED, {"reason": reason})
            elif attempt.stalled and (not running or (silent_s is not None and not stalled)):
                changes[attempt.token] = {"stalled": None}
                if running:
                    reason = "its wrapper is heard again"
                    self._events.job(attempt, State.RUNNING.value, {"reason": reason})
            if status is not None and status.state.is_final:
                self._heartbeats.forget(attempt.token)
        self._ledger.record(changes, lambda now: milestones(attempts, self._heartbeats, now))

    # -- the end of jobs ---------------------------------------------------------------------------

    def _end_overdue(self, attempts: Sequence[Attempt], states: Mapping[str, JobStatus]) -> None:
        """Take jobs for ended that the cluster runs long after their wrappers reported the end."""
        ended = self._overdue.among(attempts, states)
        now = self._ledger.now()
        self._ledger.record({attempt.token: {"ended": now} for attempt in ended})
        self._has_endings |= bool(ended)

    def _hopeless(
        self, attempts: Sequence[Attempt], states: Mapping[str, JobStatus]
    ) -> list[Attempt]:
        """Return attempts whose jobs are given up, with state and reason of that."""
        settings, now = self._cluster.settings, self._ledger.now()
        found = (
            given_up(each, states.get(each.token), settings, self._missing.lives, now)
            for each in attempts
        )
        return [attempt for attempt in found if attempt]

    def _give_up(self, attempts: Sequence[Attempt]) -> None:
        """Conclude jobs in the state in which they are given up, then cancel them.

        In that order, a job that starts all the same finds the verdict and ends.
        """
        concluded: list[tuple[Attempt, Verdict]] = []

        def give_up(attempt: Attempt) -> bool:
            verdict = self._conclusion.conclude(attempt)
            if verdict:
                concluded.append((attempt, verdict))
            return verdict is not None

        self._rows.each(attempts, give_up)
        if not concluded:
            return
        try:
            ask(self._cluster.scheduler.cancel([str(attempt.job_id) for attempt, _ in concluded]))
        except Exception as error:
            log.warning("%d jobs that were given up stay for now: %s", len(concluded), error)
            return
        for attempt, verdict in concluded:
            end = {"seen_state": attempt.seen_state, "seen_reason": attempt.seen_reason,
                   "ended": self._ledger.now()}  # fmt: skip
            self._ledger.record({attempt.token: end})
            self._concluded(attempt, verdict)

    def conclude(self, attempts: Sequence[Attempt]) -> None:
        """Conclude jobs that ended, each as soon as its own files or messages must have arrived."""
        self._has_endings = bool(attempts)
        self._rows.each(attempts, self._conclude)

    def _conclude(self, attempt: Attempt) -> bool:
        """Conclude one job; return False if that is too early."""
        waited_s = self._ledger.now() - (attempt.ended or 0.0)
        if waited_s < self._conclusion.settle_s(attempt):
            return False
        return self._concluded(attempt, self._conclusion.conclude(attempt))

    def _give_up_on(self, attempt: Attempt, why: str) -> bool:
        """Conclude a job whose conclusion meets an unforeseen fault again and again."""
        return self._concluded(attempt, self._conclusion.give_up(attempt, why))

    def _concluded(self, attempt: Attempt, verdict: Verdict | None) -> bool:
        """Record and broadcast the end of an attempt; False if there is no verdict yet."""
        if verdict is None:
            return False
        self._ledger.record_verdict(attempt.token, verdict)
        self._events.job(attempt, str(attempt.seen_state), verdict.facts)
        log.info(
            "Job %s: %s (%s): %s",
            attempt.job_id, verdict.outcome.value, verdict.witness, verdict.cause,
        )  # fmt: skip
        return True

    # -- the cluster -------------------------------------------------------------------------------

    def _is_away(self, reason: str) -> None:
        """Broadcast that the cluster cannot be asked, and wait longer."""
        if self._away is None:
            log.warning("Cluster %s is away: %s", self._cluster.name, reason)
        self._away = reason
        self._events.cluster("away", reason, self._expires_s)
        self._wait(False, AWAY_FACTOR)

    def _is_up(self) -> None:
        """Broadcast that the cluster can be asked."""
        if self._away is not None:
            log.info("Cluster %s is up again", self._cluster.name)
            self._backoff.reset()
        self._away = None
        self._events.cluster("up", None, self._expires_s)

    @property
    def _expires_s(self) -> float:
        """Lifetime of a broadcast about the cluster, in seconds: until long after the next one."""
        return self._backoff.last_s * AWAY_FACTOR

    def _wait(self, changed: bool, factor: float) -> None:
        """Set the time of the next question, later each time while nothing changes."""
        self._backoff.last_s = self._cluster.settings.watch_s * factor
        if changed:
            self._backoff.reset()
        self._due = self._clock() + self._backoff.next_s()
