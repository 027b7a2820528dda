"""The local batch system (`zwrap.pool`) as a process in one of its jobs sees it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from zwrap.job import BatchJob, Cause, Interruption
from zwrap.scheduler import SIGNALS, Signals

signals: Signals = SIGNALS


def job(environ: Mapping[str, str]) -> BatchJob | None:
    """Return the job that these environment variables describe; None: there is none."""
    job_id = environ.get("ZWRAP_LOCAL_JOB_ID")
    if not job_id:
        return None
    return BatchJob(system="local", job_id=job_id, fields={"cluster_JOB_ID": job_id})


def why_stopped(job: BatchJob, began: float) -> Interruption | None:
    """Return a timeout if the shepherd has noted one; None: the job is stopped for another reason.

    The shepherd notes it before it sends the signal (`zwrap.pool.jobs`).
    """
    del job, began
    noted = os.environ.get("ZWRAP_LOCAL_TIMEOUT")
    return Interruption(cause=Cause.TIMEOUT) if noted and os.path.lexists(noted) else None
