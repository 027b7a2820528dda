"""What the command line of Slurm says: squeue(1), sacct(1), sbatch(1), scontrol(1)."""

from __future__ import annotations

import errno
import os
import re
from datetime import UTC, datetime

from msgspec.structs import replace

from zwrap.errors import RejectedError, UnreachableError
from zwrap.job import JobStatus, Limits, State
from zwrap.scheduler import Accepted, Busy, Rejected, Reply, Submission, Unknown

STATES = {
    "PENDING": State.PENDING,
    "CONFIGURING": State.PENDING,  # nodes boot
    "REQUEUED": State.PENDING,
    "REQUEUE_HOLD": State.PENDING,  # waits for a person
    "REQUEUE_FED": State.PENDING,
    "SPECIAL_EXIT": State.PENDING,  # requeued in a special state, and held
    "RESV_DEL_HOLD": State.PENDING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,  # processes may live for KillWait and longer
    "RESIZING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
    "SUSPENDED": State.SUSPENDED,
    "STOPPED": State.SUSPENDED,  # it keeps its processors
    "COMPLETED": State.COMPLETED,
    "FAILED": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "REVOKED": State.CANCELLED,  # a sibling in another cluster of a federation was started
    "TIMEOUT": State.TIMEOUT,
    "DEADLINE": State.TIMEOUT,
    "NODE_FAIL": State.NODE_FAIL,
    "BOOT_FAIL": State.NODE_FAIL,
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,
    "PREEMPTED": State.PREEMPTED,
}
"""Slurm's words (squeue(1), JOB STATE CODES), the flags that it shows in their place included."""

STUCK_REASONS = (
    "AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount",
    "InvalidQOS", "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed",
    "launch failed requeued held", "launch_failed_requeued_held",
)  # fmt: skip
"""Reasons of a job that waits and that only a person can end (squeue(1), JOB REASON CODES)."""

MAYBE = (
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Unable to contact slurm controller",
    "Unexpected message received",
    "Protocol authentication error",
    "Munge encode failed",
    "Slurm backup controller in standby mode",
    "Slurm temporarily unable to accept job",
    "fatal: ",
    *map(
        os.strerror,
        (
            errno.ENOTCONN,
            errno.ECONNRESET,
            errno.ECONNREFUSED,
            errno.ECONNABORTED,
            errno.EPIPE,
            errno.ETIMEDOUT,
            errno.EHOSTUNREACH,
            errno.ENETUNREACH,
        ),
    ),
)
"""Complaints after which the job may be there, or nobody was reached who could say."""

BUSY = (
    "job submit limit",
    "Job violates accounting/QOS policy",
    "Resource temporarily unavailable",
    "slurm_persist_conn_open",
)
"""Complaints about a limit that gives way as jobs end."""

FIELDS = ("JobArrayID", "State", "exit_code", "Reason", "NodeList", "StartTime", "Name")
SQUEUE = ",".join(f"{field}:|" for field in FIELDS)
SACCT = "JobID,State,ExitCode,Reason,NodeList,JobName"


def read_submission(reply: Reply) -> Submission:
    """What sbatch said to a job."""
    text = reply.output.strip().partition(";")[0]
    if reply.status == 0 and text.isdecimal():
        return Accepted(text)
    complaint = _complaint(reply)
    if reply.status in (None, 0) or (reply.status or 0) < 0:
        return Unknown(complaint)
    if any(words in complaint for words in BUSY):
        return Busy(complaint)
    if any(words in complaint for words in MAYBE):
        return Unknown(complaint)
    return Rejected(complaint)


def read_verdict(reply: Reply) -> str:
    """What `sbatch --test-only` said; RejectedError if it would refuse the job."""
    complaint = _complaint(reply)
    if reply.status == 0:
        return complaint
    if reply.status is None or any(words in complaint for words in MAYBE):
        raise UnreachableError(f"Slurm could not be asked: {complaint}.")
    raise RejectedError(f"Slurm would refuse the job: {complaint}")


def _complaint(reply: Reply) -> str:
    """What a client said on standard error, in one line."""
    lines = [line.strip() for line in reply.error.splitlines() if line.strip()]
    said = "; ".join(re.sub(r"^\w+: (error: )?", "", line) for line in lines)
    return said or f"exit status {reply.status} and no word"


def _check(reply: Reply, empty: bool = True) -> None:
    if reply.status != 0 or (not empty and not reply.output.strip()):
        raise UnreachableError(f"Slurm could not be asked: {_complaint(reply)}.")


def read_squeue(reply: Reply) -> dict[str, JobStatus]:
    """Jobs in the memory of the controller, by job id."""
    if "Invalid job name" in reply.error:
        return {}
    _check(reply)
    found = {}
    for line in reply.output.splitlines():
        fields = line.split("|")
        if len(fields) != len(FIELDS) + 1:
            raise UnreachableError(f"Slurm answered {line[:80]!r}, which is no line of squeue.")
        job_id, word, code, reason, nodes, start, name = (field.strip() for field in fields[:-1])
        status = _status(job_id, name, word, reason, nodes)
        if status.state is State.PENDING:
            status = replace(status, starts=_seconds(start))
        if status.state.is_final and code.isdecimal():
            number = int(code)  # a wait status, wait(2)
            status = _with_end(status, number >> 8, number & 0x7F)
        found[job_id] = status
    return found


def read_sacct(reply: Reply) -> dict[str, JobStatus]:
    """Jobs in the accounting, by job id."""
    if "accounting storage is disabled" in reply.error:
        return {}
    _check(reply)
    found = {}
    for line in reply.output.splitlines():
        fields = line.split("|")
        if len(fields) != 6:
            raise UnreachableError(f"Slurm answered {line[:80]!r}, which is no line of sacct.")
        job_id, words, code, reason, nodes, name = fields
        status = _status(job_id, name, words.partition(" ")[0], reason, nodes)
        number, _, signal = code.partition(":")
        if status.state is State.COMPLETED:
            status = _with_end(status, 0, 0)
        elif status.state.is_final and signal.isdecimal():
            # Measured with 22.05: codes above 127 are recorded without their highest bit.
            del number
            status = _with_end(status, None, int(signal))
        found[job_id] = status
    return found


def _status(job_id: str, name: str, word: str, reason: str, nodes: str) -> JobStatus:
    state = STATES.get(word)
    if state is None:
        raise UnreachableError(
            f"Slurm says that job {job_id} is {word!r}, which is not known here."
        )
    given = reason if reason not in ("", "None") else None
    return JobStatus(
        job_id=job_id,
        name=name,
        state=state,
        reason=given,
        node=nodes or None,
        stuck=is_stuck(state, given),
    )


def is_stuck(state: State, reason: str | None) -> bool:
    """Whether a job waits for what will never come."""
    return state is State.PENDING and reason in STUCK_REASONS


def _seconds(text: str) -> float | None:
    """A time of squeue, which was asked in UTC, as seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _with_end(status: JobStatus, code: int | None, signal: int) -> JobStatus:
    return replace(status, exit_code=None if signal else code, signal=signal or None)


def taken(found: dict[str, JobStatus]) -> list[JobStatus]:
    """All without those that were refused: of some of them a record stays."""
    return [
        each
        for each in found.values()
        if not (each.state is State.FAILED and each.reason == "BadConstraints")
    ]


def ended(found: dict[str, JobStatus], wanted: set[str]) -> dict[str, JobStatus]:
    """Those that are wanted and will never run again."""
    return {key: each for key, each in found.items() if key in wanted and each.state.is_final}


def read_nothing(reply: Reply) -> None:
    """UnreachableError unless the command went well."""
    _check(reply)


def read_limits(reply: Reply) -> Limits:
    """Limits of slurm.conf(5), as scontrol shows it."""
    _check(reply, empty=False)
    told = dict(re.findall(r"^(\w+)\s*= (.*)$", reply.output, re.MULTILINE))
    array, jobs = told.get("MaxArraySize", ""), told.get("MaxJobCount", "")
    return Limits(
        array_size=max(int(array) - 1, 0) if array.isdecimal() else None,  # numbers begin at 1
        submitted_jobs=int(jobs) if jobs.isdecimal() else None,
    )
