"""Broadcasts of the Watcher about jobs and clusters; nobody has to listen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from zwrap.attempt.record import Attempt
from zwrap.job import State
from zwrap.transport.contract import Transport

JOB_TOPIC = "transient.zwrap.job"
"""Each change of a job: token, job_id, job_name, cluster, recipe_ID, step, state, reason, node,
exit_code, signal, expected_start; at its end also outcome, cause, witness."""

CLUSTER_TOPIC = "transient.zwrap.cluster"
"""Whether a cluster can be asked: cluster, state (up, away), reason."""

STATISTICS_TOPIC = "transient.statistics.cluster"
"""Number of jobs in each state, as Diamond's ClusterMonitor tells it."""


class Events:
    """Broadcasts about one cluster."""

    def __init__(self, cluster: str, transport: Transport) -> None:
        self._cluster = cluster
        self._transport = transport

    def job(self, attempt: Attempt, state: str, facts: Mapping[str, object]) -> None:
        """Tell that something changed about a job."""
        known = {
            "token": attempt.token,
            "job_id": attempt.job_id,
            "job_name": attempt.job_name,
            "cluster": attempt.cluster,
            "recipe_ID": attempt.recipe_id,
            "step": attempt.step,
            "state": state,
        }
        self._transport.broadcast(JOB_TOPIC, {**known, **facts}, expires_s=60)

    def cluster(self, state: str, reason: str | None, expires_s: float) -> None:
        """Tell whether the cluster can be asked; `expires_s`: lifetime of that, in seconds."""
        body = {"cluster": self._cluster, "state": state, "reason": reason}
        self._transport.broadcast(CLUSTER_TOPIC, body, expires_s=expires_s, replaces=self._cluster)

    def statistics(self, states: Iterable[State]) -> None:
        """Tell how many jobs are in each state."""
        body: dict[str, object] = {
            "statistic-group": "cluster",
            "statistic": "job-states",
            "statistic-cluster": self._cluster,
            "statistic-timestamp": time.time(),
            **Counter(state.name for state in states),
        }
        self._transport.broadcast(STATISTICS_TOPIC, body, expires_s=300, replaces=self._cluster)
