"""Station "watcher": what the batch systems say of all jobs, asked once for all of them; and the
last word of jobs that cannot speak any more.

Whatever their number, all jobs of a cluster cost one question an interval, and a second one for
those that left. What changed goes into the ledger and out as a broadcast. A cluster that cannot be
asked is told to be away, and changes no job. The directory of a job is looked at only after the
batch system has said that the job is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from zwrap.clusters import Cluster, Clusters
from zwrap.configuration import Configuration
from zwrap.envelope import Envelope
from zwrap.errors import (
    MessageError,
    QueueFullError,
    TemporaryError,
    TransportError,
    ZwrapError,
)
from zwrap.job import JobStatus, State
from zwrap.jobdirectory import Verdict
from zwrap.lastword import conclude
from zwrap.ledger import (
    GONE,
    HOPELESS,
    LOST,
    NETWORK_FILESYSTEMS,
    STALLED,
    Attempt,
    Ledger,
    filesystem_of,
)
from zwrap.message import STATUS_TOPIC, Message
from zwrap.service import Service
from zwrap.service.pulse import Pulse
from zwrap.service.watchnews import News
from zwrap.submission.calls import ask
from zwrap.transport import Delivery, Transport

log = logging.getLogger(__name__)

QUIET_FACTOR, AWAY_FACTOR = 1.8, 10.0
"""The interval grows up to so many times its usual length while nothing changes, or while the
cluster is away."""

SETTLE_S, SETTLE_NETWORK_S = 1.0, 60.0
"""So long after the end of a job its directory is looked at: what another host wrote there may be
seen late, on a network filesystem much later."""

LATER_S = 600.0
"""An expected start that moves by less is not told."""

LEDGER_S = 10.0
"""So long it waits for a ledger that cannot be used."""

NEW_S = 0.5
"""So often it is seen whether anything is due."""


class Watcher(Service):
    """Watches the jobs of all clusters in the ledger."""

    topics = (STATUS_TOPIC,)

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._ledger = Ledger.of(configuration)
        self._clusters = Clusters(configuration)
        self._watches: dict[str, Watch] = {}
        self._pulse = Pulse()
        self._next = float("-inf")

    def idle(self) -> None:
        """Look at each cluster whose time has come."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + NEW_S
        try:
            self._look()
        except TransportError:
            raise
        except TemporaryError as error:  # the ledger is away, and comes again
            log.warning("Nothing is watched for %g s: %s", LEDGER_S, error)
            self._next = time.monotonic() + LEDGER_S

    def _look(self) -> None:
        for name in self._ledger.open_clusters():
            self._watch(name)
        for name, watch in self._watches.items():
            due = watch.is_due
            if due or watch.has_endings:
                attempts = self._ledger.unconcluded(name)
                if due:
                    watch.look([each for each in attempts if each.ended is None])
                watch.conclude([each for each in attempts if each.ended is not None])

    def _watch(self, name: str) -> None:
        """Begin to watch a cluster."""
        if name in self._watches:
            return
        try:
            cluster = self._clusters.get(name)
            self._watches[name] = Watch(cluster, self._ledger, self.transport, self._pulse)
        except ZwrapError as error:  # the site does not describe it any more
            log.warning("Jobs of cluster %s are not watched: %s", name, error)

    def patience_s(self) -> float:
        """As often as it is seen whether anything is due."""
        return NEW_S

    def hear(self, topic: str, message: Message) -> None:
        """Take a heartbeat."""
        del topic
        self._pulse.hear(message.body)
        self.idle()  # heartbeats of many come without a pause

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Refuse: there is no queue of its own."""
        del envelope
        raise MessageError(f"{self.name} takes no message, not even {delivery.message.id}.")

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


class Watch:
    """What is known of one cluster and its jobs."""

    def __init__(
        self, cluster: Cluster, ledger: Ledger, transport: Transport, pulse: Pulse
    ) -> None:
        self._pulse = pulse
        self._cluster = cluster
        self._ledger = ledger
        self._transport = transport
        self._news = News(cluster.name, transport)
        self._interval_s = cluster.watch_s
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
            self._give_up([each for each in jobs if self._is_hopeless(each, states)])
            self._news.statistics(status.state for status in states.values())
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
                changes[attempt.token] = seen
            if self._moved(attempt.token, starts) or changed:
                news.append((attempt, seen, starts))
        self._ledger.see(changes)
        for attempt, seen, starts in news:
            facts = {key: seen[key] for key in ("node", "exit_code", "signal")}
            facts |= {"reason": seen["seen_reason"], "expected_start": starts}
            self._news.job(attempt, seen["seen_state"], facts)
            if seen["ended"]:
                self.has_endings = True
                self._starts.pop(attempt.token, None)
        return bool(changes)

    def _gone(self, attempt: Attempt, now: float) -> dict[str, Any]:
        """Of a job that is neither live nor recorded: its record may come, or it has spoken."""
        since = attempt.seen if attempt.seen_state == GONE else None
        lost = since is not None and now - since > self._cluster.lost_s
        return _away(attempt, lost or (since is not None and _has_spoken(attempt)), now)

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
            silent_s = self._pulse.silent_s(attempt.token) if running else None
            stalled = silent_s is not None and 0 < self._cluster.stalled_s <= silent_s
            if stalled and attempt.stalled is None:
                changes[attempt.token] = {"stalled": self._ledger.now() - (silent_s or 0.0)}
                reason = f"it runs, but its wrapper was not heard of for {silent_s:.0f} s"
                log.warning("Job %s is stalled: %s", attempt.job_id, reason)
                self._news.job(attempt, STALLED, {"reason": reason})
            elif attempt.stalled and (not running or (silent_s is not None and not stalled)):
                changes[attempt.token] = {"stalled": None}
                if running:
                    self._news.job(attempt, State.RUNNING.value, {"reason": "it is heard again"})
            if status is not None and status.state.is_final:
                self._pulse.forget(attempt.token)
        self._ledger.record(changes)

    # -- the last word -----------------------------------------------------------------------------

    def _is_hopeless(self, attempt: Attempt, states: Mapping[str, JobStatus]) -> bool:
        """Whether it has waited long enough for what will never come, unless a person helps."""
        status = attempt.of(states)
        if status is None or not status.hopeless or attempt.seen_reason != status.reason:
            return False
        return self._ledger.now() - (attempt.seen or 0.0) >= self._cluster.give_up_s

    def _give_up(self, attempts: Sequence[Attempt]) -> None:
        """Speak for jobs that can never start, then cancel them.

        In that order: a job that starts all the same finds the verdict, and ends.
        """
        if not attempts:
            return
        given_up = [replace(attempt, seen_state=HOPELESS) for attempt in attempts]
        verdicts = [_last_word(attempt, self._transport) for attempt in given_up]
        try:
            ask(self._cluster.scheduler.cancel([str(attempt.job_id) for attempt in given_up]))
        except ZwrapError as error:
            log.warning("%d jobs that can never start stay for now: %s", len(given_up), error)
            return
        for attempt, verdict in zip(given_up, verdicts, strict=True):
            end = {"seen_state": HOPELESS, "ended": self._ledger.now()}
            self._ledger.see({attempt.token: end})
            self._concluded(attempt, verdict)

    def conclude(self, attempts: Sequence[Attempt]) -> None:
        """Have the last word on jobs that ended."""
        self.has_endings = bool(attempts)
        for attempt in attempts:
            self._conclude(attempt)

    def _conclude(self, attempt: Attempt) -> None:
        """Have the last word on a job, once its directory shows all that it wrote."""
        place = Path(attempt.job_directory)
        network = filesystem_of(place) in NETWORK_FILESYSTEMS
        settle_s = SETTLE_NETWORK_S if network else SETTLE_S
        if self._ledger.now() - (attempt.ended or 0.0) >= settle_s:
            self._concluded(attempt, _last_word(attempt, self._transport))

    def _concluded(self, attempt: Attempt, end: End | None) -> None:
        if end is None:
            return
        facts = end._asdict()
        self._ledger.see({attempt.token: facts})
        self._news.job(attempt, str(attempt.seen_state), facts)
        log.info("Job %s: %s (%s): %s", attempt.job_id, end.outcome, end.witness, end.cause)

    # -- the cluster -------------------------------------------------------------------------------

    def _is_away(self, reason: str) -> None:
        if self._away is None:
            log.warning("Cluster %s is away: %s", self._cluster.name, reason)
        self._away = reason
        self._news.cluster("away", reason, self._interval_s * AWAY_FACTOR)
        self._wait(False, AWAY_FACTOR)

    def _is_up(self) -> None:
        if self._away is not None:
            log.info("Cluster %s is up again", self._cluster.name)
            self._interval_s = self._cluster.watch_s
        self._away = None
        self._news.cluster("up", None, self._interval_s * AWAY_FACTOR)

    def _wait(self, changed: bool, factor: float) -> None:
        """Until the next look: its usual interval after a change, else half as long again."""
        usual = self._cluster.watch_s
        longer = min(self._interval_s * 1.5, usual * factor)
        self._interval_s = usual if changed else longer
        self._due = time.monotonic() + self._interval_s


class End(NamedTuple):
    """How an attempt ended."""

    outcome: str
    cause: str
    witness: str
    elapsed_s: float | None = None
    peak_memory_mib: float | None = None


def _last_word(attempt: Attempt, transport: Transport) -> End | None:
    """Have it; None: not now."""
    try:
        verdict = conclude(attempt, transport)
    except (MessageError, PermissionError) as error:
        log.error("Job %s: nobody can be told how it ended: %s", attempt.job_id, error)
        return End("unknown", f"Nobody could be told how it ended. {error}", "none")
    except (QueueFullError, OSError) as error:  # a full disk, say
        log.warning("Job %s: how it ended is told later: %s", attempt.job_id, error)
        return None
    return _end(verdict) if verdict else None


def _end(verdict: Verdict) -> End:
    return End(
        verdict.outcome.value,
        verdict.cause,
        verdict.witness,
        verdict.elapsed_s or None,
        verdict.peak_memory_mib or None,
    )


def _seen(status: JobStatus, now: float) -> dict[str, Any]:
    return {
        "seen_state": status.state.value,
        "seen_reason": status.reason,
        "node": status.node,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "ended": now if status.state.is_final else None,
    }


def _has_spoken(attempt: Attempt) -> bool:
    return Path(attempt.job_directory, "verdict.json").exists()


def _away(attempt: Attempt, is_over: bool, now: float) -> dict[str, Any]:
    return {
        "seen_state": LOST if is_over else GONE,
        "seen_reason": "the batch system has neither a live job nor a record of it",
        "node": attempt.node,
        "exit_code": None,
        "signal": None,
        "ended": now if is_over else None,
    }
