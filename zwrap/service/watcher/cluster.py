"""The jobs of one cluster: one question about all of them, their changes, and their ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import GONE, LOST, STALLED, STUCK, Attempt, Sighting
from zwrap.attempt.verdict import Verdict
from zwrap.calls.ask import ask
from zwrap.errors import ZwrapError
from zwrap.host.backoff import Backoff
from zwrap.host.clock import Clock, elapsed
from zwrap.job import JobStatus, State
from zwrap.service.watcher.conclusion import conclusion_for
from zwrap.service.watcher.events import Events
from zwrap.service.watcher.heartbeats import Heartbeats
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
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._heartbeats = heartbeats
        self._clock = clock
        self._conclusion = conclusion_for(cluster, ledger, transport)
        self._events = Events(cluster.name, transport)
        self._backoff = Backoff(
            cluster.settings.watch_s, cluster.settings.watch_s, factor=LENGTHENING
        )
        self._due = float("-inf")
        self._away: str | None = None
        """Reason why the cluster cannot be asked; None: it can."""
        self._has_endings = False
        """True if jobs have ended that are not yet concluded."""
        self._starts: dict[str, float] = {}
        """Token to the expected start that was broadcast last."""

    def turn(self) -> None:
        """Ask about live jobs if that is due, and conclude those that have ended."""
        is_due = self._clock() >= self._due
        if is_due:
            self.look([each for each in self._unconcluded() if each.ended is None])
        if is_due or self._has_endings:
            self.conclude([each for each in self._unconcluded() if each.ended is not None])

    def _unconcluded(self) -> list[Attempt]:
        """Return the cluster's attempts that are not yet concluded."""
        return self._ledger.unconcluded(self._cluster.name)

    def look(self, jobs: Sequence[Attempt]) -> None:
        """Ask about all jobs with one question; record and broadcast the changes."""
        try:
            states = self._states(jobs)
        except ZwrapError as error:
            self._is_away(str(error))
        else:
            self._is_up()
            changed = self._see(jobs, states)
            self._listen(jobs, states)
            self._give_up([each for each in jobs if self._is_stuck(each, states)])
            self._events.statistics(status.state for status in states.values())
            self._wait(changed, QUIET_FACTOR)

    # -- states in the batch system --------------------------------------------------------------

    def _states(self, jobs: Sequence[Attempt]) -> dict[str, JobStatus]:
        """Return the status of each job that is live, or whose end is recorded, by job id."""
        scheduler, now = self._cluster.scheduler, self._ledger.now()
        live = ask(scheduler.states())
        times = {str(attempt.job_id): attempt.gone_s(now) for attempt in jobs}
        gone_s = {job_id: time_s for job_id, time_s in times.items() if job_id not in live}
        ended = ask(scheduler.accounting(gone_s)) if gone_s else {}
        return {job_id: live.get(job_id) or ended[job_id] for job_id in times
                if job_id in live or job_id in ended}  # fmt: skip

    def _see(self, attempts: Sequence[Attempt], states: Mapping[str, JobStatus]) -> bool:
        """Record and broadcast changes of jobs; return True if there were any."""
        now = self._ledger.now()
        changes: dict[str, Sighting] = {}
        told: list[tuple[Attempt, Sighting, float | None]] = []
        for attempt in attempts:
            status = attempt.of(states)
            seen = self._missing(attempt, now) if status is None else _seen(status, now)
            starts = status.starts if status else None
            known = (attempt.seen_state, attempt.seen_reason)
            changed = (seen.state, seen.reason) != known
            if changed:
                peak_mib = self._heartbeats.peak_memory_mib(attempt.token)
                changes[attempt.token] = replace(seen, peak_memory_mib=peak_mib)
            if self._moved(attempt.token, starts) or changed:
                told.append((attempt, seen, starts))
        self._ledger.record_sightings(changes)
        for attempt, seen, starts in told:
            facts = {
                "node": seen.node, "exit_code": seen.exit_code, "signal": seen.signal,
                "reason": seen.reason, "expected_start": starts,
            }  # fmt: skip
            self._events.job(attempt, seen.state, facts)
            if seen.ended:
                self._has_endings = True
                self._starts.pop(attempt.token, None)
        return bool(changes)

    def _missing(self, attempt: Attempt, now: float) -> Sighting:
        """Return the state of a job that is neither live nor recorded: gone, and later lost."""
        since = attempt.seen if attempt.seen_state == GONE else None
        is_over = since is not None and (
            now - since > self._cluster.settings.lost_s or self._conclusion.has_verdict(attempt)
        )
        return Sighting(
            state=LOST if is_over else GONE,
            reason="the batch system has neither a live job nor a record of it",
            node=attempt.node,
            ended=now if is_over else None,
        )

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
            status = attempt.of(states)
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
        self._ledger.record(changes)

    # -- the end of jobs ---------------------------------------------------------------------------

    def _is_stuck(self, attempt: Attempt, states: Mapping[str, JobStatus]) -> bool:
        """Return True if a job has been stuck for longer than `give_up_s`.

        A job that runs on a host that does not answer is not stuck while its wrapper is heard.
        """
        status = attempt.of(states)
        if status is None or not status.stuck or attempt.seen_reason != status.reason:
            return False
        silent_s = self._heartbeats.silent_s(attempt.token)
        if silent_s is not None and silent_s < self._cluster.settings.stalled_s:
            return False
        return self._ledger.now() - (attempt.seen or 0.0) >= self._cluster.settings.give_up_s

    def _give_up(self, attempts: Sequence[Attempt]) -> None:
        """Conclude stuck jobs, then cancel them.

        In that order, a job that starts all the same finds the verdict and ends.
        """
        given_up = [replace(attempt, seen_state=_given_up(attempt)) for attempt in attempts]
        verdicts = [(attempt, self._conclusion.conclude(attempt)) for attempt in given_up]
        concluded = [(attempt, verdict) for attempt, verdict in verdicts if verdict]
        if not concluded:
            return
        try:
            ask(self._cluster.scheduler.cancel([str(attempt.job_id) for attempt, _ in concluded]))
        except ZwrapError as error:
            log.warning("%d jobs that were given up stay for now: %s", len(concluded), error)
            return
        for attempt, verdict in concluded:
            seen = {"seen_state": attempt.seen_state, "ended": self._ledger.now()}
            self._ledger.record({attempt.token: seen})
            self._concluded(attempt, verdict)

    def conclude(self, attempts: Sequence[Attempt]) -> None:
        """Conclude jobs that ended, each as soon as its own files or messages must have arrived."""
        self._has_endings = bool(attempts)
        for attempt in attempts:
            waited_s = self._ledger.now() - (attempt.ended or 0.0)
            if waited_s >= self._conclusion.settle_s(attempt):
                self._concluded(attempt, self._conclusion.conclude(attempt))

    def _concluded(self, attempt: Attempt, verdict: Verdict | None) -> None:
        """Record and broadcast the end of an attempt; None: it is not concluded yet."""
        if verdict is None:
            return
        self._ledger.record_verdict(attempt.token, verdict)
        facts = {
            "outcome": verdict.outcome.value,
            "cause": verdict.cause,
            "witness": verdict.witness,
            "elapsed_s": verdict.elapsed_s or None,
            "peak_memory_mib": verdict.peak_memory_mib or None,
        }
        self._events.job(attempt, str(attempt.seen_state), facts)
        log.info(
            "Job %s: %s (%s): %s",
            attempt.job_id, verdict.outcome.value, verdict.witness, verdict.cause,
        )  # fmt: skip

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


def _given_up(attempt: Attempt) -> str:
    """Return the state of a job that is given up."""
    running = attempt.seen_state == State.RUNNING.value
    return State.NODE_FAIL.value if running else STUCK


def _seen(status: JobStatus, now: float) -> Sighting:
    """Return a job's status as the ledger records it."""
    return Sighting(
        state=status.state.value,
        reason=status.reason,
        node=status.node,
        exit_code=status.exit_code,
        signal=status.signal,
        ended=now if status.state.is_final else None,
    )
