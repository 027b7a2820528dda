"""The local batch system (`zwrap.pool`) as a process in one of its jobs sees it."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.job import BatchJob
from zwrap.scheduler import SIGNALS, Signals

signals: Signals = SIGNALS


def job(environ: Mapping[str, str]) -> BatchJob | None:
    """Return the job of these variables."""
    job_id = environ.get("ZWRAP_LOCAL_JOB_ID")
    if not job_id:
        return None
    return BatchJob(system="local", job_id=job_id, fields={"cluster_JOB_ID": job_id})


def why_stopped(job: BatchJob, began: float) -> None:
    """Say nothing: who stopped it told the pool, which says so itself."""
    del job, began
