"""The batch job around this process, as its environment shows it."""

from __future__ import annotations

import os
from typing import NamedTuple


class BatchJob(NamedTuple):
    """The batch job that this process is part of."""

    system: str
    """``slurm``, ``sge``, ``local`` or ``none``."""
    job_id: str | None
    fields: dict[str, str]
    """Fields for status messages."""
    restarts: int = 0
    """How often the batch system began this job again, as far as it says."""

    @classmethod
    def from_environment(cls) -> BatchJob:
        """Look at the variables that batch systems set."""
        environment = os.environ
        if job := environment.get("SLURM_JOB_ID"):
            if (array := environment.get("SLURM_ARRAY_JOB_ID")) and (
                task := environment.get("SLURM_ARRAY_TASK_ID")
            ):
                job = f"{array}_{task}"
            restarts = _number(environment.get("SLURM_RESTART_COUNT"))
            return cls("slurm", job, {"cluster_JOB_ID": job}, restarts)
        if (job := environment.get("JOB_ID")) and (cell := environment.get("SGE_CELL")):
            task = environment.get("SGE_TASK_ID", "undefined")
            job = job if task == "undefined" else f"{job}.{task}"
            fields = {"cluster_JOB_ID": job, "cluster_SGE_CELL": cell}
            return cls("sge", job, fields, _number(environment.get("RESTARTED")))
        if job := environment.get("ZWRAP_LOCAL_JOB_ID"):
            return cls("local", job, {"cluster_JOB_ID": job})
        return cls("none", None, {})


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
