"""Steps that the Submitter handles, and what it sends once they have jobs."""

from __future__ import annotations

import logging
from typing import NamedTuple

from zwrap.message.content import Outgoing, trace_of
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Work
from zwrap.submission.clusters import Cluster
from zwrap.submission.outcomes import cluster_of
from zwrap.submission.pending import PendingJob
from zwrap.transport.contract import Unit
from zwrap.transport.signing import Signer

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """A recipe step and the job that it becomes."""

    work: Work
    envelope: Envelope
    cluster: Cluster
    job: PendingJob


def job_submitted(step: Step, outcome: str | Exception, signer: Signer) -> list[Outgoing]:
    """Return the messages about a submitted job; a repeat returns the same message ids."""
    if isinstance(outcome, Exception):
        raise outcome
    envelope, cluster = step.envelope, cluster_of(outcome, step.cluster.name)
    payload = {"jobid": int(outcome) if outcome.isdecimal() else outcome, "scheduler": cluster}
    log.info("Node %s is job %s on cluster %s", envelope.pointer, outcome, cluster)
    delivery = step.work.delivery
    message = delivery.message
    sign = signer.after(message, delivery.source)
    unit = Unit(message.id, sign, trace_of(message.headers))
    unit.send(*envelope.send("job_submitted", payload, default=True))
    return unit.outgoing
