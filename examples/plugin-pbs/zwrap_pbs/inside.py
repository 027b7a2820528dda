"""PBS as a process in one of its jobs sees it; pbs.sh.j2 sees to PBS_JOBID."""

from collections.abc import Mapping

from zwrap.job import BatchJob
from zwrap.scheduler import SIGNALS

signals = SIGNALS


def job(environ: Mapping[str, str]) -> BatchJob | None:
    """Return the job that these environment variables describe; None: there is none."""
    job_id = environ.get("PBS_JOBID")
    return BatchJob(system="pbs", job_id=job_id, fields={"PBS_JOBID": job_id}) if job_id else None


def why_stopped(job: BatchJob, began: float) -> None:
    """Return None: PBS does not tell a job why it ends it."""
    del job, began
