"""The local batch system (`zwrap.pool`) as a process in one of its jobs sees it."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.job import BatchJob
from zwrap.scheduler import SIGNALS, Signals

signals: Signals = SIGNALS


def job(environ: Mapping[str, str]) -> BatchJob | None:
    """Return the job that these environment variables describe; None: there is none."""
    job_id = environ.get("ZWRAP_LOCAL_JOB_ID")
    if not job_id:
        return None
    return BatchJob(system="local", job_id=job_id, fields={"cluster_JOB_ID": job_id})


def why_stopped(job: BatchJob, began: float) -> None:
    """Return None: nobody is asked, because the pool itself records why it stopped the job."""
    del job, began
