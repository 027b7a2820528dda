"""Broadcasts of the Watcher about jobs and clusters."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from zwrap.attempt.record import Attempt
from zwrap.errors import PermanentError
from zwrap.job import State
from zwrap.transport.contract import Transport
from zwrap.transport.failures import HELD_UP

log = logging.getLogger(__name__)

JOB_TOPIC = "transient.zwrap.job"
"""Topic of changes of jobs: token, job_id, job_name, cluster, recipe_ID, step, state, reason, node,
exit_code, signal, expected_start; at its end also outcome, cause, witness."""

CLUSTER_TOPIC = "transient.zwrap.cluster"
"""Topic of the states of clusters: cluster, state (up, away), reason."""

STATISTICS_TOPIC = "transient.statistics.cluster"
"""Topic of the number of jobs in each state, in the form of Diamond's ClusterMonitor."""


class Events:
    """Broadcasts about one cluster."""

    def __init__(self, cluster: str, transport: Transport) -> None:
        self._cluster = cluster
        self._transport = transport

    def job(self, attempt: Attempt, state: str, facts: Mapping[str, object]) -> None:
        """Broadcast a change of a job; `facts` are further fields."""
        known = {
            "token": attempt.token,
            "job_id": attempt.job_id,
            "job_name": attempt.job_name,
            "cluster": attempt.cluster,
            "recipe_ID": attempt.recipe_id,
            "step": attempt.step,
            "state": state,
        }
        self._broadcast(JOB_TOPIC, {**known, **facts}, expires_s=60)

    def cluster(self, state: str, reason: str | None, expires_s: float) -> None:
        """Broadcast the state of the cluster; `expires_s`: lifetime of the message, in seconds."""
        body = {"cluster": self._cluster, "state": state, "reason": reason}
        self._broadcast(CLUSTER_TOPIC, body, expires_s, self._cluster)

    def statistics(self, states: Iterable[State]) -> None:
        """Broadcast the number of jobs in each state."""
        body: dict[str, object] = {
            "statistic-group": "cluster",
            "statistic": "job-states",
            "statistic-cluster": self._cluster,
            "statistic-timestamp": time.time(),
            **Counter(state.name for state in states),
        }
        self._broadcast(STATISTICS_TOPIC, body, 300, self._cluster)

    def _broadcast(
        self, topic: str, body: Mapping[str, object], expires_s: float, replaces: str | None = None
    ) -> None:
        """Broadcast; what this topic does not take is left out, because nothing depends on it."""
        try:
            self._transport.broadcast(topic, body, expires_s=expires_s, replaces=replaces)
        except (PermanentError, *HELD_UP) as error:
            log.warning("A broadcast on %s is left out: %s", topic, error)
