"""Whether the batch system is about to run this job again, so that its end is not the end."""

from __future__ import annotations

import os
import subprocess

from zwrap.context import BatchJob

ASK_S = 3.0
"""So long the batch system may take to say; it kills the job `KillWait` seconds (30) after it has
asked it to stop (slurm.conf(5))."""


def runs_again(job: BatchJob) -> bool:
    """Whether a job that was asked to stop is requeued, by hand or for another job's sake.

    Slurm sends the same signal as for an end, but it has counted the restart by then.
    """
    if job.system != "slurm":
        return False
    command = ["squeue", "-h", "-j", str(job.job_id), "-O", "restartcnt"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    counted = done.stdout.strip()
    known = os.environ.get("SLURM_RESTART_COUNT", "0")
    return counted.isdecimal() and known.isdecimal() and int(counted) > int(known)
