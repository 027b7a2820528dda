"""Station "watcher": what the batch systems say of all jobs, asked once for all of them.

Whatever their number, all jobs of a cluster cost one question an interval, and a second one for
those that left. What changed goes into the ledger and out as a broadcast. A cluster that cannot be
asked is told to be away, and changes no job.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zwrap.clusters import Cluster, Clusters
from zwrap.configuration import Configuration
from zwrap.envelope import Envelope
from zwrap.errors import MessageError, TemporaryError, TransportError, ZwrapError
from zwrap.job import JobStatus
from zwrap.ledger import Attempt, Ledger
from zwrap.service import Service
from zwrap.submission.calls import ask
from zwrap.transport import Delivery, Transport

log = logging.getLogger(__name__)

JOB_TOPIC = "transient.zwrap.job"
"""Each change of a job: token, job_id, job_name, cluster, recipe_ID, step, state, reason, node,
exit_code, signal."""

CLUSTER_TOPIC = "transient.zwrap.cluster"
"""Whether a cluster can be asked: cluster, state (up, away), reason."""

STATISTICS_TOPIC = "transient.statistics.cluster"
"""Number of jobs in each state, as Diamond's ClusterMonitor tells it."""

QUIET_FACTOR, AWAY_FACTOR = 4.0, 10.0
"""The interval grows up to so many times its usual length while nothing changes, or while the
cluster is away."""

GONE, LOST = "gone", "lost"
"""Neither live nor recorded; for so long that nothing will be heard of it any more."""

LOST_S = 900.0

LEDGER_S = 10.0
"""So long it waits for a ledger that cannot be used."""

NEW_S = 1.0
"""So often it is seen whether anything is due."""


class Watcher(Service):
    """Watches the jobs of all clusters in the ledger."""

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        self._ledger = Ledger.of(configuration)
        self._clusters = Clusters(configuration)
        self._watches: dict[str, Watch] = {}
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
            if watch.is_due:
                watch.look(self._ledger.open(name))

    def _watch(self, name: str) -> None:
        """Begin to watch a cluster."""
        if name in self._watches:
            return
        try:
            self._watches[name] = Watch(self._clusters.get(name), self._ledger, self.transport)
        except ZwrapError as error:  # the site does not describe it any more
            log.warning("Jobs of cluster %s are not watched: %s", name, error)

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Refuse: there is no queue of its own."""
        del envelope
        raise MessageError(f"{self.name} takes no message, not even {delivery.message.id}.")

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


class Watch:
    """What is known of one cluster and its jobs."""

    def __init__(self, cluster: Cluster, ledger: Ledger, transport: Transport) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._transport = transport
        self._interval_s = cluster.watch_s
        self._due = float("-inf")
        self._away: str | None = None
        """Why it cannot be asked."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() >= self._due

    def look(self, attempts: Sequence[Attempt]) -> None:
        """Ask about all jobs at once, and tell what changed."""
        try:
            states = self._states([str(attempt.job_id) for attempt in attempts])
        except ZwrapError as error:
            self._is_away(str(error))
        else:
            self._is_up()
            changed = [self._see(each, states.get(str(each.job_id))) for each in attempts]
            self._statistics(states)
            self._wait(any(changed), QUIET_FACTOR)

    def _states(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Live jobs among these, and how those that are not live ended, as far as recorded."""
        scheduler = self._cluster.scheduler
        live = ask(scheduler.states())
        gone = [job_id for job_id in job_ids if job_id not in live]
        ended = ask(scheduler.accounting(gone)) if gone else {}
        return {job_id: live.get(job_id) or ended[job_id] for job_id in job_ids
                if job_id in live or job_id in ended}  # fmt: skip

    def _see(self, attempt: Attempt, status: JobStatus | None) -> bool:
        """Write and tell what is new of a job; whether anything is."""
        seen = _lost(attempt, self._ledger.now()) if status is None else _seen(status)
        if (seen["seen_state"], seen["seen_reason"]) == (attempt.seen_state, attempt.seen_reason):
            return False
        if seen.pop("is_final"):
            seen["ended"] = self._ledger.now()
        self._ledger.see(attempt.token, **seen)
        self._transport.broadcast(
            JOB_TOPIC,
            {
                "token": attempt.token,
                "job_id": attempt.job_id,
                "job_name": attempt.job_name,
                "cluster": attempt.cluster,
                "recipe_ID": attempt.recipe_id,
                "step": attempt.step,
                "state": seen["seen_state"],
                "reason": seen["seen_reason"],
                **{key: seen.get(key) for key in ("node", "exit_code", "signal")},
            },
            expires_s=60,
        )
        return True

    def _is_away(self, reason: str) -> None:
        if self._away is None:
            log.warning("Cluster %s is away: %s", self._cluster.name, reason)
        self._away = reason
        self._tell("away", reason)
        self._wait(False, AWAY_FACTOR)

    def _is_up(self) -> None:
        if self._away is not None:
            log.info("Cluster %s is up again", self._cluster.name)
            self._interval_s = self._cluster.watch_s
        self._away = None
        self._tell("up", None)

    def _tell(self, state: str, reason: str | None) -> None:
        name = self._cluster.name
        body = {"cluster": name, "state": state, "reason": reason}
        self._transport.broadcast(
            CLUSTER_TOPIC, body, expires_s=self._interval_s * AWAY_FACTOR, replaces=name
        )

    def _statistics(self, states: dict[str, JobStatus]) -> None:
        counts = Counter(status.state.name for status in states.values())
        body: dict[str, Any] = {
            "statistic-group": "cluster",
            "statistic": "job-states",
            "statistic-cluster": self._cluster.name,
            "statistic-timestamp": time.time(),
            **counts,
        }
        name = self._cluster.name
        self._transport.broadcast(STATISTICS_TOPIC, body, expires_s=300, replaces=name)

    def _wait(self, changed: bool, factor: float) -> None:
        """Until the next look: its usual interval after a change, else half as long again."""
        usual = self._cluster.watch_s
        longer = min(self._interval_s * 1.5, usual * factor)
        self._interval_s = usual if changed else longer
        self._due = time.monotonic() + self._interval_s


def _seen(status: JobStatus) -> dict[str, Any]:
    return {
        "seen_state": status.state.value,
        "seen_reason": status.reason,
        "node": status.node,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "is_final": status.state.is_final,
    }


def _lost(attempt: Attempt, now: float) -> dict[str, Any]:
    """Of a job that is neither live nor recorded; its record may still come."""
    since = attempt.seen if attempt.seen_state == GONE else None
    is_lost = since is not None and now - since > LOST_S
    return {
        "seen_state": LOST if is_lost else GONE,
        "seen_reason": "the batch system has neither a live job nor a record of it",
        "is_final": is_lost,
    }
