"""Slurm as a process in one of its jobs sees it (sbatch(1), output environment variables)."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from zwrap.job import BatchJob, Cause, Interruption
from zwrap.scheduler import SIGNALS, Command, Meaning, Question, Reply, Signals

ASK_S = 3.0
"""Time limit of the question why the job is stopped, in seconds: Slurm kills a job `KillWait`
seconds (30) after it has asked the job to stop (slurm.conf(5))."""

FIELDS = ("RestartCnt", "PreemptTime", "Reason")
"""Fields of squeue(1) that tell why a job is stopped."""

PREEMPTED = Interruption(
    cause=Cause.PREEMPTED, words="the batch system preempted it for another job"
)
NODE_FAIL = Interruption(cause=Cause.NODE_FAIL, words="its node failed, or was taken down")

signals: Signals = {
    **SIGNALS,
    # sbatch(1) --signal warns with the signal that the script asked for; scancel(1) sends TERM.
    signal.SIGUSR1: Meaning.WARN,
    signal.SIGUSR2: Meaning.WARN,
}


def job(environ: Mapping[str, str]) -> BatchJob | None:
    """Return the job that these environment variables describe; None: there is none.

    A task of an array has the id that squeue(1) shows. For a task of a step the job script sets
    SLURM_ARRAY_TASK_ID to the step's number, and keeps Slurm's.
    """
    job_id = environ.get("SLURM_JOB_ID")
    if not job_id:
        return None
    array = environ.get("SLURM_ARRAY_JOB_ID")
    task = environ.get("ZWRAP_BATCH_TASK", environ.get("SLURM_ARRAY_TASK_ID"))
    if array and task:
        job_id = f"{array}_{task}"
    return BatchJob(
        system="slurm",
        job_id=job_id,
        restarts=_count(environ.get("SLURM_RESTART_COUNT", "")),
        fields={"cluster_JOB_ID": job_id},
        node=environ.get("SLURMD_NODENAME"),
    )


def why_stopped(job: BatchJob, began: float) -> Question[Interruption]:
    """Return how to ask squeue(1) why the job is stopped.

    Slurm sends the same signal for everything, but by then it has counted the restart, noted the
    preemption or taken the node down.
    """

    def read(reply: Reply) -> Interruption:
        restarts, preempted, reason, *_ = [*reply.output.strip().split("|"), "", "", ""]
        if _count(restarts) > job.restarts:
            return Interruption(runs_again=True)
        if preempted.isdecimal() and int(preempted) >= int(began):  # not in an earlier run
            return PREEMPTED
        return NODE_FAIL if reason == "NodeDown" else Interruption()

    wanted = ",".join(f"{field}:|" for field in FIELDS)
    argv = ["squeue", "-h", "-t", "all", "-j", str(job.job_id), "-O", wanted]
    seconds = {"SLURM_TIME_FORMAT": "%s"}
    return Question(Command(argv=argv, environment=seconds, timeout_s=ASK_S), read)


def _count(text: str) -> int:
    """Return the number that a text holds; 0 if it holds none."""
    return int(text) if text.isdecimal() else 0
