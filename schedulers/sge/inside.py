"""Grid Engine as a process in one of its jobs sees it (qsub(1), environmental variables)."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from zwrap.job import BatchJob, Cause, Interruption
from zwrap.scheduler import SIGNALS, Meaning, Signals

OVER_MEMORY = Interruption(
    cause=Cause.OUT_OF_MEMORY,
    words="its processes in sum had more memory than the job may have",
)

orders = (99, 100)
"""Exit statuses that are orders to Grid Engine: a job that ends with 99 is run again, and one that
ends with 100 waits, as ``Eqw``, for a person (sge_conf(5), FORBID_RESCHEDULE, FORBID_APPERROR)."""

signals: Signals = {
    **SIGNALS,
    # qsub(1) -notify: USR2 before a kill, USR1 before a suspension.
    signal.SIGUSR1: Meaning.SUSPEND,
    signal.SIGUSR2: Meaning.STOP,
}


def job(environ: Mapping[str, str]) -> BatchJob | None:
    """Return the job that these environment variables describe; None: there is none.

    JOB_ID alone is no evidence, because other batch systems set it, too. For a task of a step the
    job script sets SGE_TASK_ID to the step's number, and keeps Grid Engine's.
    """
    job_id, cell = environ.get("JOB_ID"), environ.get("SGE_CELL")
    if not job_id or not cell:
        return None
    task = environ.get("ZWRAP_BATCH_TASK", environ.get("SGE_TASK_ID", ""))
    if task not in ("", "undefined"):
        job_id = f"{job_id}.{task}"
    restarted = environ.get("RESTARTED", "")
    return BatchJob(
        system="sge",
        job_id=job_id,
        restarts=int(restarted) if restarted.isdecimal() else 0,
        fields={"cluster_JOB_ID": job_id, "cluster_SGE_CELL": cell},
    )


def why_stopped(job: BatchJob, began: float) -> Interruption | None:
    """Return `OVER_MEMORY` if the job has too much memory; None: it is stopped for another reason.

    Grid Engine ends a job whose processes in sum exceed ``h_vmem`` (queue_conf(5)), and does not
    tell the job why.
    """
    del job, began
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    over = limit != resource.RLIM_INFINITY and _address_space(os.getpid()) > limit
    return OVER_MEMORY if over else None


def _address_space(root: int) -> int:
    """Return the address space of a process and its descendants, in bytes.

    Source: proc(5), ``stat``, fields 4 (parent) and 23 (size).
    """
    sizes: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = file.read_bytes().rpartition(b")")[2].split()
            pid = int(file.parent.name)
            children[int(fields[1])].append(pid)
            sizes[pid] = int(fields[20])
    total, found = 0, [root]
    while found:
        pid = found.pop()
        total += sizes.get(pid, 0)
        found += children[pid]
    return total
