"""Why this job was ended from outside, and whether the batch system is about to run it again."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
from pathlib import Path
from typing import NamedTuple

from zwrap.calls.batchjob import BatchJob

ASK_S = 3.0
"""So long the batch system may take to say; it kills the job `KillWait` seconds (30) after it has
asked it to stop (slurm.conf(5))."""

FIELDS = ("RestartCnt", "PreemptTime", "Reason")


class Why(NamedTuple):
    """What is known of it; nothing where a person cancelled the job, or nobody could be asked."""

    again: bool = False
    """The same job runs again: this is not its end."""
    cause: str | None = None
    """A cause by the name that retry policies have for it."""
    words: str = ""


PREEMPTED = Why(cause="preempted", words="the batch system preempted it for another job")
OUT_OF_MEMORY = Why(cause="out_of_memory", words="the kernel killed it for want of memory")
OVER_MEMORY = Why(
    cause="out_of_memory", words="its processes together had more memory than the job may have"
)
NODE_FAIL = Why(cause="node_fail", words="its node failed, or was taken down")


def why_stopped(job: BatchJob, began: float) -> Why:
    """Ask about a job that was asked to stop, and that began then (seconds since the epoch).

    Slurm sends the same signal for everything, but by then it has counted the restart, noted the
    preemption or taken the node down.
    """
    if job.system != "slurm":
        return Why()
    wanted = ",".join(f"{field}:|" for field in FIELDS)
    command = ["squeue", "-h", "-t", "all", "-j", str(job.job_id), "-O", wanted]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
            capture_output=True, text=True, timeout=ASK_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Why()
    restarts, preempted, reason, *_ = [*done.stdout.strip().split("|"), "", "", ""]
    known = os.environ.get("SLURM_RESTART_COUNT", "0")
    if restarts.isdecimal() and known.isdecimal() and int(restarts) > int(known):
        return Why(again=True)
    if preempted.isdecimal() and int(preempted) >= int(began):  # not in an earlier run
        return PREEMPTED
    return NODE_FAIL if reason == "NodeDown" else Why()


def over_address_space() -> bool:
    """Whether this process and its descendants have more address space together than each of them
    may have: Grid Engine ends a job whose processes exceed ``h_vmem`` in sum (queue_conf(5)), and
    says no more than that it is ended.
    """
    import psutil  # slow to load

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return False
    total = 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().vms
    return total > limit


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes of this job the kernel has killed for want of memory, as its control group
    counts them (cgroups(7); version 1 ``memory.oom_control``, version 2 ``memory.events``).
    """
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                file = cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
            elif not controllers:
                file = cgroups / path.lstrip("/") / "memory.events"
            else:
                continue
            with contextlib.suppress(OSError):
                if match := re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE):
                    return int(match[1])
    return 0
